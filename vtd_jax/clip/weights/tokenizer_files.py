"""Refuses weights whose tokenizer files are not CLIP's own, since `tokenizer` is."""

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
# what CLIP's "fast" tokenizers do to a text, and how they split it into words, since 2022 and
# before
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MARKED_WORDS = rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}"
_SPACES = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
_NORMALIZER = {"type": "Sequence", "normalizers": [{"type": "NFC"}, _SPACES, {"type": "Lowercase"}]}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False}
_CUTS = [
    {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": True},
            _BYTES,
        ],
    }
    for words in (_WORDS, _MARKED_WORDS)
]
_WAYS = [*((_NORMALIZER, cut) for cut in _CUTS), (None, _BYTES)]
# settings that change the tokens of a word -> CLIP's values
_OF_MODEL = {
    "end_of_word_suffix": ("</w>",),
    "continuing_subword_prefix": ("", None),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
    "dropout": (None, 0),
}
_REMEDY = (
    "texts would be cut otherwise than the model learnt; a CLIP with another tokenizer is not "
    "supported"
)


def check_tokenizer_files(folder: Path) -> None:
    """Checks those of `tokenizer_config.json`, `tokenizer.json`, `vocab.json` and `merges.txt` that
    exist.

    Settings that a tokenizer.json lacks are taken as CLIP's; `tokenizers` writes all of them.
    Tokens beyond the 49 408, which no text here becomes, are ignored.

    Raises:
      UserError: a file that cannot be read, or the first difference from CLIP's tokenizer.
    """
    if foreign := next((name for name in _FOREIGN if (folder / name).is_file()), None):
        raise UserError(f"{folder / foreign}: is of another tokenizer than CLIP's: {_REMEDY}")
    if (file := folder / "tokenizer_config.json").is_file():
        _check_config(read_json(file), file)
    if (file := folder / "tokenizer.json").is_file():
        content = read_json(file)
        _check_way(content, file)
        _check_added(content.get("added_tokens", []), file)
        model = content.get("model")
        model = model if isinstance(model, dict) else {}
        if (kind := model.get("type", "BPE")) != "BPE":
            raise _other(file, f"model.type is {brief(kind)}", "'BPE'")
        for key, values in _OF_MODEL.items():
            if model.get(key, values[0]) not in values:
                raise _other(file, f"model.{key} is {brief(model[key])}", repr(values[0]))
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
        raise _other(file, f"tokenizer_class is {brief(kind)}", "CLIPTokenizer")
    if (lower := content.get("do_lower_case", True)) is not True:
        raise _other(file, f"do_lower_case is {brief(lower)}", "true")
    added = content.get("added_tokens_decoder", {})
    if not isinstance(added, dict) or not all(isinstance(one, dict) for one in added.values()):
        raise UserError(
            f"{file}: added_tokens_decoder is {brief(added)}, expected an object of ids and tokens"
        )
    _check_added(
        [one | {"id": int(key) if key.isdecimal() else key} for key, one in added.items()], file
    )


def _check_way(content: Mapping[str, Any], file: Path) -> None:
    """Refuses a normalisation or a word splitting other than CLIP's."""
    keys = ("normalizer", "pre_tokenizer")
    if not any(key in content for key in keys):
        return
    found = tuple(content.get(key) for key in keys)
    if any(all(map(_holds, found, way)) for way in _WAYS):
        return
    # a key that fits neither way; else both fit, but not the same one
    wrong = next(
        (place for place in (0, 1) if not any(_holds(found[place], way[place]) for way in _WAYS)), 0
    )
    raise _other(file, f"{keys[wrong]} is {brief(found[wrong])}", "CLIP's own")


def _holds(found: Any, expected: Any) -> bool:
    """Whether a part of a tokenizer.json has all that is expected; it may have more."""
    if isinstance(expected, dict):
        # only newer versions of ByteLevel have use_regex
        is_same = isinstance(found, dict) and (
            expected.get("type") != "ByteLevel" or found.get("use_regex", True) is True
        )
        return is_same and all(_holds(found.get(key), one) for key, one in expected.items())
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(_holds, found, expected))
        )
    return type(found) is type(expected) and found == expected


def _check_added(found: Any, file: Path) -> None:
    """Refuses added tokens whose id or name is another token's in CLIP's vocabulary."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{file}: added_tokens is {brief(found)}, expected a list of tokens")
    for one in found:
        token, number = one.get("content"), one.get("id")
        if not isinstance(token, str) or type(number) is not int or number < 0:
            raise UserError(
                f"{file}: an added token is {brief(one)}, expected one with a text and a whole id"
            )
        if vocabulary().get(token, number) != number or (
            number <= EOT and token not in vocabulary()
        ):
            right = vocabulary().get(token, "none of CLIP's")
            raise _other(file, f"added token {brief(token)} has id {number}", right)


def _check_vocabulary(found: Any, file: Path) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{file}: no vocabulary, an object of tokens and their ids, in it")
    if vocabulary().items() <= found.items():
        return
    for token, number in vocabulary().items():
        if found.get(token) != number:
            here = brief(found.get(token, "none"))
            raise _other(file, f"token {token!r} has id {here}", f"{number} of {EOT + 1}")


def _check_merges(found: list[Any], file: Path) -> None:
    if found == merges():
        return
    for place, pair in enumerate(merges()):
        there = found[place] if place < len(found) else None
        if there != pair:
            value = "missing" if there is None else brief(there)
            raise _other(file, f"merge {place + 1} is {value}", repr(pair))
    if len(found) > len(merges()):
        raise _other(file, f"{len(found)} merges", len(merges()))


def _other(file: Path, what: str, expected: str | int) -> UserError:
    """The error for a file of another tokenizer."""
    return UserError(f"{file}: {what}, expected {expected}: {_REMEDY}")


def _pairs(found: Any) -> list[Any]:
    """Merges of a tokenizer.json as tuples: each is "a b", or in newer files ["a", "b"]."""
    found = found if isinstance(found, list) else []
    return [
        tuple(x.split()) if isinstance(x, str) else tuple(x) if isinstance(x, list) else x
        for x in found
    ]
