"""Whether the tokenizer files beside a CLIP's weights are CLIP's own: texts are always cut by
`tokenizer`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtd_jax.clip.tokenizer import EOT, merges, vocabulary
from vtd_jax.clip.weights.files import read_json
from vtd_jax.errors import UserError
from vtd_jax.printable import brief
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES
from vtd_jax.untrusted.regular_files import read_text

_CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "TokenizersBackend")
# of SentencePiece and WordPiece
_FOREIGN = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt")
_REMEDY = (
    "texts would be cut otherwise than the model learnt; a CLIP with another tokenizer is not "
    "supported"
)


def check_tokenizer_files(folder: Path) -> None:
    """Compares `tokenizer_config.json`, `tokenizer.json`, `vocab.json` and `merges.txt`, as far as
    they are there.

    Tokens beyond CLIP's 49 408, which texts never become here, are no difference.

    Raises:
      UserError: a file that cannot be read, or one of another tokenizer, with the first thing that
        differs.
    """
    if foreign := next((name for name in _FOREIGN if (folder / name).is_file()), None):
        raise UserError(f"{folder / foreign}: is of another tokenizer than CLIP's: {_REMEDY}")
    if (file := folder / "tokenizer_config.json").is_file():
        _check_config(read_json(file), file)
    if (file := folder / "tokenizer.json").is_file():
        model = read_json(file).get("model")
        model = model if isinstance(model, dict) else {}
        if (kind := model.get("type", "BPE")) != "BPE":
            raise UserError(f"{file}: model.type is {brief(kind)}, expected 'BPE': {_REMEDY}")
        _check_vocabulary(model.get("vocab"), file)
        _check_merges(_pairs(model.get("merges")), file)
    if (file := folder / "vocab.json").is_file():
        _check_vocabulary(read_json(file), file)
    if (file := folder / "merges.txt").is_file():
        try:
            lines = read_text(file, "list of merges", SMALL_JSON_BYTES).splitlines()
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error}") from None
        lines = lines[1:] if lines and lines[0].startswith("#version") else lines
        _check_merges([tuple(line.split()) for line in lines if line], file)


def _check_config(content: Mapping[str, Any], file: Path) -> None:
    kind = content.get("tokenizer_class")
    if kind is not None and kind not in _CLASSES:
        raise UserError(
            f"{file}: tokenizer_class is {brief(kind)}, expected CLIPTokenizer: {_REMEDY}"
        )
    if content.get("do_lower_case", True) is not True:
        raise UserError(
            f"{file}: do_lower_case is {brief(content['do_lower_case'])}, expected true: {_REMEDY}"
        )


def _check_vocabulary(found: Any, file: Path) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{file}: no vocabulary, an object of tokens and their ids, in it")
    if vocabulary().items() <= found.items():
        return
    for token, number in vocabulary().items():
        if found.get(token) != number:
            raise UserError(
                f"{file}: token {token!r} has id {brief(found.get(token, 'none'))}, expected "
                f"{number} of {EOT + 1}: {_REMEDY}"
            )


def _check_merges(found: list[Any], file: Path) -> None:
    if found == merges():
        return
    for place, pair in enumerate(merges()):
        there = found[place] if place < len(found) else None
        if there != pair:
            told = "missing" if there is None else brief(there)
            raise UserError(f"{file}: merge {place + 1} is {told}, expected {pair!r}: {_REMEDY}")
    if len(found) > len(merges()):
        raise UserError(f"{file}: {len(found)} merges, expected {len(merges())}: {_REMEDY}")


def _pairs(found: Any) -> list[Any]:
    """Merges of a tokenizer.json: each "a b", or later ["a", "b"]; what is neither differs from any
    of CLIP's.
    """
    found = found if isinstance(found, list) else []
    return [
        tuple(x.split()) if isinstance(x, str) else tuple(x) if isinstance(x, list) else x
        for x in found
    ]
