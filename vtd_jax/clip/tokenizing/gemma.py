"""Gemma's tokenizer as SigLIP 2 learnt with it, made of the `tokenizer.json` beside the weights."""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import models, normalizers

from vtd_jax.errors import UserError
from vtd_jax.printable import brief, utf8
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import TOKENIZER_BYTES, TOKENS, TOKENS_ADDED, TOKENS_ADDED_CHARACTERS
from vtd_jax.untrusted.regular_files import read_bytes

PAD, END, UNKNOWN = "<pad>", "<eos>", "<unk>"
# blanks become this character
_BLANK = "▁"
_REPLACED = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
_LOWER = {"type": "Lowercase"}
# Gemma's own; with the lower case that SigLIP 2 wants; both orders give the same text
_NORMALIZERS = [
    _REPLACED,
    {"type": "Sequence", "normalizers": [_LOWER, _REPLACED]},
    {"type": "Sequence", "normalizers": [_REPLACED, _LOWER]},
]
# no blank is left to split at
_SPLIT = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
_OF_MODEL = {
    "type": ("BPE", None),
    "dropout": (None, 0),
    "unk_token": (UNKNOWN,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (True,),
    "byte_fallback": (True,),
    "ignore_merges": (False, None),
}  # fmt: skip
_KNOWN = {
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
    "post_processor", "decoder", "model",
}  # fmt: skip


class GemmaTokenizer:
    """Lower case, byte-pair tokens of the file, end token, padding. Equal where the files are.

    Attributes:
      content: of the file.
      vocab_size: ids are below it.
    """

    # tokens that stand around a text: the end
    AROUND = 1

    def __init__(self, content: bytes, where: str):
        """
        Args:
          content: of a `tokenizer.json`.
          where: the file, for messages.

        Raises:
          UserError: no tokenizer of Gemma's kind, or one beyond the limits.
        """
        self.content, self._digest = content, hashlib.sha256(content).hexdigest()
        self._bpe, vocabulary = _build(parse_json(content, where, dict[str, Any]), where)
        self.vocab_size = len(vocabulary)
        self._pad, self._end = vocabulary[PAD], vocabulary[END]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GemmaTokenizer) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"GemmaTokenizer({self._digest[:16]})"

    def tokenize(
        self, texts: str | Sequence[str], *, context_length: int = 64, truncate: bool = False
    ) -> Int32[np.ndarray, "k l"]:
        """Token ids of texts: the text's tokens, the end token, then padding.

        Args:
          texts: K texts; a single `str` counts as one text.
          context_length: L, the positions of a row, the end included.
          truncate: cut a longer text so that its last position is the end token.

        Raises:
          UserError: a text does not fit and `truncate` is off, or is not a string.
        """
        return self._rows(_listed(texts), [], context_length, truncate)

    def behind(
        self, prompts: int, texts: Sequence[str], *, context_length: int = 64
    ) -> Int32[np.ndarray, "k l"]:
        """Token ids of texts that continue behind learnt prompts, whose places hold padding ids.

        Args:
          prompts: P, how many; nothing stands before them.
          texts: K texts; a blank is put before each.
          context_length: L.

        Raises:
          UserError: a text does not fit.
        """
        if prompts >= context_length - self.AROUND:
            raise UserError(
                f"model.text_prompts={prompts}: leave no room for a name in the {context_length} "
                "positions of this text tower; give fewer"
            )
        spaced = [f" {text}" for text in _listed(texts)]
        return self._rows(spaced, [self._pad] * prompts, context_length, False)

    def count_tokens(self, texts: str | Sequence[str]) -> Int32[np.ndarray, "k"]:
        """Tokens of each text, without the end."""
        return np.array([len(ids) for ids in self.encode(_listed(texts))], np.int32)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, any length, without end or padding."""
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise UserError(
                    f"text {i} of {len(texts)} is {text!r:.60} ({type(text).__name__}), expected a "
                    "string"
                )
            if utf8(text) != text:
                raise UserError(
                    f"text {i} of {len(texts)}: {text!a:.60} cannot be written as UTF-8, expected "
                    "one that can"
                )
        found = self._bpe.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def _rows(
        self, texts: Sequence[str], first: list[int], context_length: int, truncate: bool
    ) -> Int32[np.ndarray, "k l"]:
        if context_length < 1 + self.AROUND:
            raise UserError(f"context_length={context_length}: give 2 or more")
        out = np.full((len(texts), context_length), self._pad, np.int32)
        room = context_length - len(first) - self.AROUND
        for text, row, ids in zip(texts, out, self.encode(texts), strict=True):
            if len(ids) > room and not truncate:
                raise UserError(
                    f"text too long for this CLIP: {text.strip()[:60]!r} has {len(ids)} tokens, "
                    f"the limit is {room} here; shorten it"
                )
            ids = [*first, *ids[:room], self._end]
            row[: len(ids)] = ids
        return out


def read_gemma(file: Path) -> GemmaTokenizer:
    """The tokenizer of a `tokenizer.json`; a `UserError` for one that is not there or not right."""
    try:
        content = read_bytes(file, "tokenizer", TOKENIZER_BYTES)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    return _parsed(content, str(file))


@functools.lru_cache(maxsize=4)
def _parsed(content: bytes, where: str) -> GemmaTokenizer:
    # 256 000 tokens and 580 000 merges take 4 s
    return GemmaTokenizer(content, where)


def _listed(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _build(content: Mapping[str, Any], where: str) -> tuple[tokenizers.Tokenizer, dict[str, int]]:
    """The tokenizer and its vocabulary, tables that are taken from the file. Its patterns and
    templates are checked, never run.
    """
    if unknown := sorted(set(content) - _KNOWN):
        raise _other(where, unknown[0], content[unknown[0]], "nothing")
    if (found := content.get("normalizer")) not in _NORMALIZERS:
        raise _other(where, "normalizer", found, "Gemma's")
    if (found := content.get("pre_tokenizer")) not in (None, _SPLIT):
        raise _other(where, "pre_tokenizer", found, "Gemma's")
    model = content.get("model")
    if not isinstance(model, dict):
        raise _other(where, "model", model, "an object")
    for key, values in _OF_MODEL.items():
        if model.get(key, values[-1]) not in values:
            raise _other(where, f"model.{key}", model[key], repr(values[0]))
    vocabulary = _vocabulary(model.get("vocab"), where)
    merges = _merges(model.get("merges"), vocabulary, where)
    bpe = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True
        )
    )
    bpe.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(" ", _BLANK)]
    )
    _add_tokens(bpe, content.get("added_tokens", []), vocabulary, where)
    return bpe, vocabulary


def _vocabulary(found: Any, where: str) -> dict[str, int]:
    if not isinstance(found, dict) or not found:
        raise _other(where, "model.vocab", found, "an object of tokens and ids")
    if len(found) > TOKENS:
        raise UserError(f"{where}: {len(found):,} tokens, expected at most {TOKENS:,}")
    numbers = found.values()
    if not all(type(number) is int for number in numbers) or set(numbers) != set(range(len(found))):
        raise UserError(f"{where}: model.vocab: ids are not all numbers from 0 on, each once")
    for token in (PAD, END, UNKNOWN):
        if token not in found:
            raise UserError(f"{where}: model.vocab: no token {token}: not Gemma's tokenizer")
    return found


def _merges(found: Any, vocabulary: Mapping[str, int], where: str) -> list[tuple[str, str]]:
    if not isinstance(found, list) or len(found) > 4 * TOKENS:
        raise _other(where, "model.merges", found, f"a list of at most {4 * TOKENS:,} pairs")
    pairs = []
    for place, merge in enumerate(found):
        # "a b", or in newer files ["a", "b"]
        pair: Any = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and len(pair) == 2):
            raise _other(where, f"merge {place + 1}", merge, "two tokens that make another")
        if not _makes_one(pair[0], pair[1], vocabulary):
            raise _other(where, f"merge {place + 1}", merge, "two tokens that make another")
        pairs.append((pair[0], pair[1]))
    return pairs


def _makes_one(first: Any, second: Any, vocabulary: Mapping[str, int]) -> bool:
    """Whether both are tokens, and together one."""
    if not (isinstance(first, str) and isinstance(second, str)):
        return False
    return first in vocabulary and second in vocabulary and first + second in vocabulary


def _add_tokens(
    bpe: tokenizers.Tokenizer, found: Any, vocabulary: Mapping[str, int], where: str
) -> None:
    """Tokens that a text may spell out, each already in the vocabulary."""
    if not isinstance(found, list) or len(found) > TOKENS_ADDED:
        raise _other(where, "added_tokens", found, f"a list of at most {TOKENS_ADDED:,} tokens")
    tokens, characters = [], 0
    for one in found:
        token = one.get("content") if isinstance(one, dict) else None
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        if (
            not isinstance(token, str)
            or token not in vocabulary
            or one.get("id") != vocabulary[token]
            or any(type(one.get(flag, False)) is not bool for flag in flags)
        ):
            raise _other(where, "an added token", one, "one of the vocabulary, with its id")
        characters += len(token)
        given = {flag: one.get(flag, False) for flag in flags}
        tokens.append(tokenizers.AddedToken(token, **given))
    if characters > TOKENS_ADDED_CHARACTERS:
        raise UserError(
            f"{where}: added_tokens have {characters:,} characters, expected at most "
            f"{TOKENS_ADDED_CHARACTERS:,}: not Gemma's tokenizer"
        )
    # at once: each call searches through all tokens anew
    bpe.add_tokens(tokens)


def _other(where: str, what: str, found: Any, expected: str) -> UserError:
    return UserError(
        f"{where}: {what} is {brief(found)}, expected {expected}: not Gemma's tokenizer"
    )
