"""CLIP's byte-level BPE on the `tokenizers` library, token for token as OpenAI's."""

import functools
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Int, Int32
from tokenizers import decoders, models, pre_tokenizers

from vtd_jax.errors import UserError
from vtd_jax.fields import check_listed, check_switch, check_whole
from vtd_jax.printable import brief
from vtd_jax.texts import clean, words

SOT, EOT = 49406, 49407
# tokens that stand around a text: start and end
AROUND = 2
MERGES = Path(__file__).parent / "vocab" / "clip_bpe_merges.txt.gz"

_SPECIAL = {"<|startoftext|>": SOT, "<|endoftext|>": EOT}
_END_OF_WORD = "</w>"


def tokenize(
    texts: str | Sequence[str], *, context_length: int = 77, truncate: bool = False
) -> Int32[np.ndarray, "k l"]:
    """Token ids of texts: start, the text's tokens, end, then zeros.

    Example:
      >>> import vtd_jax
      >>> tokens = vtd_jax.tokenize(["a dog", "a cat"])
      >>> tokens.shape, tokens.dtype
      ((2, 77), dtype('int32'))
      >>> tokens[0, :5].tolist()
      [49406, 320, 1929, 49407, 0]

    Args:
      texts: K texts; a single `str` counts as one text.
      context_length: L, the positions of a row, start and end included.
      truncate: cut a longer text so that its last position is the end token, as OpenAI does.

    Returns:
      int32 `[K, L]`, ids in `[0, 49408)`. The end token has the highest id, so `argmax` finds the
      first one.

    Raises:
      UserError: a text does not fit and `truncate` is off, or is not a string; `context_length` is
        below 2.
    """
    needed = "positions for the start and the end token at least; give 2 or more"
    context_length = check_whole("context_length", context_length, needed, least=2, most=2**20)
    truncate = check_switch("truncate", truncate)
    texts = [texts] if isinstance(texts, str) else check_listed("texts", texts, "a list of texts")
    out = np.zeros((len(texts), context_length), np.int32)
    for text, row, ids in zip(texts, out, encode(texts), strict=True):
        if len(ids) + 2 > context_length and not truncate:
            raise UserError(
                f"text too long for CLIP: {_shorten(text)!r} has {len(ids) + 2} tokens with start "
                f"and end, the limit is {context_length}; shorten it, or pass truncate=True to "
                "cut it"
            )
        ids = [SOT, *ids[: context_length - 2], EOT]
        row[: len(ids)] = ids
    return out


def count_tokens(texts: str | Sequence[str]) -> Int32[np.ndarray, "k"]:
    """Tokens of each text, without start and end (which take two of `context_length`)."""
    return np.array(
        [len(ids) for ids in encode([texts] if isinstance(texts, str) else texts)], np.int32
    )


def encode(texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, any length, without start, end or padding.

    As in OpenAI's code a text may spell out `<|startoftext|>` or `<|endoftext|>`: those become the
    special ids.
    """
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(
                f"text {i} of {len(texts)} is {brief(text)} ({type(text).__name__}), expected a "
                "string"
            )
    batch = [words(clean(text)) for text in texts]
    return [
        encoding.ids
        for encoding in _bpe().encode_batch(batch, is_pretokenized=True, add_special_tokens=False)
    ]


def decode(ids: Sequence[int] | Int[np.ndarray, "l"]) -> str:
    """The text of one row of ids up to the end token, words separated by single spaces.

    The start token is left out. Invalid UTF-8 (a character cut in two) becomes U+FFFD.

    Raises:
      UserError: an id outside `[0, 49408)`.
    """
    ids = [int(i) for i in ids]
    ids = ids[: ids.index(EOT)] if EOT in ids else ids
    if wrong := [i for i in ids if not 0 <= i <= EOT]:
        raise UserError(f"token id {wrong[0]} is not CLIP's, expected 0 to {EOT}")
    text = "".join(_bpe().id_to_token(i) or "" for i in ids if i != SOT)
    # the byte decoder leaves the suffix as it is, since it is ASCII
    return decoders.ByteLevel().decode([text]).replace(_END_OF_WORD, " ").strip()


@functools.cache
def merges() -> list[tuple[str, str]]:
    """CLIP's 48 894 merges, the earliest learnt first."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    return [(first, second) for first, second in map(str.split, lines)]


@functools.cache
def vocabulary() -> dict[str, int]:
    """CLIP's 49 408 tokens and ids: bytes, bytes that end a word, merges, two specials."""
    # OpenAI's byte order is the order of code points of the characters that stand for bytes
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols += [symbol + _END_OF_WORD for symbol in symbols]
    symbols += ["".join(merge) for merge in merges()]
    return {symbol: i for i, symbol in enumerate(symbols)} | _SPECIAL


@functools.cache
def _bpe() -> tokenizers.Tokenizer:
    bpe = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary(), merges=merges(), end_of_word_suffix=_END_OF_WORD)
    )
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.add_special_tokens(list(_SPECIAL))
    return bpe


def _shorten(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
