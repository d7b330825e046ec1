"""The tokenizer that comes with weights: where it lies, and what its settings must be."""

from pathlib import Path

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer, read_gemma
from vtd_jax.clip.weights.files import read_json
from vtd_jax.errors import UserError
from vtd_jax.printable import brief

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_CLASSES = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer", "TokenizersBackend")
# what SigLIP 2 learnt with, of settings that change the tokens; transformers' script that made the
# published folders writes all three, and what it saves again later leaves them out or null
_SETTINGS = {"add_bos_token": False, "add_eos_token": True, "padding_side": "right"}


def tokenizer_file(weights: Path) -> Path:
    """The tokenizer's file of a checkpoint: beside ours `NAME.tokenizer.json`, else
    `tokenizer.json` in the folder.
    """
    if weights.is_dir():
        return weights / FILE
    own = own_tokenizer_file(weights)
    return own if own.is_file() else weights.parent / FILE


def own_tokenizer_file(weights: Path) -> Path:
    """Where `save_clip` puts the tokenizer of a file."""
    return weights.with_suffix(f".{FILE}")


def tokenizer_of(config: CLIPConfig, weights: Path) -> GemmaTokenizer | None:
    """The tokenizer that comes with a checkpoint; None where it is CLIP's own.

    Raises:
      UserError: it is not there, not of Gemma's kind, or has more tokens than the CLIP.
    """
    if config.design.tokenizer == "clip":
        return None
    file = tokenizer_file(weights)
    if not file.is_file():
        raise UserError(
            f"{weights}: this CLIP's tokenizer comes with it: put its {FILE} beside the weights"
        )
    found = read_gemma(file)
    if found.vocab_size > config.vocab_size:
        raise UserError(
            f"{file}: {found.vocab_size:,} tokens, the weights beside it have "
            f"{config.vocab_size:,}: of another model"
        )
    return found


def check_gemma_settings(folder: Path) -> None:
    """Checks a `tokenizer_config.json`, if there is one.

    Raises:
      UserError: the tokenizer of another model, or one that pads or ends texts otherwise.
    """
    file = folder / SETTINGS
    if not file.is_file():
        return
    content = read_json(file)
    kind = content.get("tokenizer_class")
    if kind is not None and kind not in _CLASSES:
        raise UserError(
            f"{file}: tokenizer_class is {brief(kind)}, expected one of {', '.join(_CLASSES)}: of "
            "another tokenizer, which is not supported"
        )
    for key, expected in _SETTINGS.items():
        if (value := content.get(key)) is not None and value != expected:
            raise UserError(
                f"{file}: {key} is {brief(value)}, expected {brief(expected)}, as SigLIP 2 learnt: "
                "correct it, unless the weights beside it learnt otherwise, which is not supported"
            )
