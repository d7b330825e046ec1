"""How CLIP cleans a text and splits it into words, and which texts it reads as the same."""

import functools
import html
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import TEXT_CHARACTERS

END_OF_TEXT = "<|endoftext|>"
# ftfy unescapes one level of `&amp;amp;` in each pass over the whole text, so that deep nesting is
# slow; the result is the same from any depth. A text with a `<` is not unescaped
_NESTED = "&" + "amp;" * 8
# characters of a text that is cut, in which its first words are looked for, behind blanks
_LOOKED_AT = 256 * TEXT_CHARACTERS


def clean(text: str) -> str:
    """Cleans text in OpenAI's order: encodings, HTML entities (twice), whitespace, lower case."""
    # imported here: lists are read by many processes, and most names need no fixing
    import ftfy

    if "<" not in text:
        text = _patterns()[2].sub(_NESTED, text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _patterns()[1].sub(" ", text).strip().lower()


def words(cleaned: str) -> list[str]:
    """The words of a cleaned text, which are tokenized one by one."""
    return _patterns()[0].findall(cleaned)


@functools.cache
def _patterns():
    import regex

    # not split by `tokenizers`: its Rust regex has another Unicode version and another \s
    pattern = (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    nested = r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);){9,}"
    return regex.compile(pattern, regex.IGNORECASE), regex.compile(r"\s+"), regex.compile(nested)


@functools.lru_cache(maxsize=1 << 16)
def read_as(text: str) -> str:
    """The words that CLIP reads, joined by blanks; equal for texts with the same tokens.

    Text after a literal `<|endoftext|>` has no influence on features, and is dropped.
    """
    found = words(_plain(text) or clean(text))
    return " ".join(found[: found.index(END_OF_TEXT)] if END_OF_TEXT in found else found)


def keys(texts: Sequence[str], *, underscores: bool) -> list[str]:
    """Fast keys of texts: equal for texts that CLIP reads as the same, "" if it reads nothing.

    A few other texts share a key, too.

    Args:
      texts: up to millions.
      underscores: whether underscores become blanks, as in class names with learnt prompts.
    """
    read = (text.replace("_", " ") for text in texts) if underscores else texts
    found = ("".join((_plain(text) or clean(text)).split()) for text in read)
    return [key.partition(END_OF_TEXT)[0] if "<" in key else key for key in found]


def same_texts(
    texts: Sequence[str], *, underscores: bool, found: Sequence[str] | None = None
) -> list[tuple[int, int]]:
    """Pairs `(i, j)`, sorted: CLIP reads text i as text j, the first of its kind.

    Args:
      texts, underscores: as for `keys`.
      found: their keys, if known.
    """
    found = keys(texts, underscores=underscores) if found is None else found
    if len(set(found)) == len(found):
        return []
    # texts with the same key are few, and compared exactly
    groups: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(found):
        groups[key].append(place)
    pairs = []
    for group in groups.values():
        first: dict[str, int] = {}
        for place in group if len(group) > 1 else ():
            text = texts[place].replace("_", " ") if underscores else texts[place]
            other = first.setdefault(read_as(text), place)
            if other != place:
                pairs.append((place, other))
    return sorted(pairs)


def beginning(text: str) -> str:
    """The first `TEXT_CHARACTERS` of a text of any length, runs of blanks as one blank.

    They are more than CLIP's text towers read: a token has at most 32 characters. A shorter text is
    returned as it is.
    """
    if len(text) <= TEXT_CHARACTERS:
        return text
    words = text[:_LOOKED_AT].split(None, TEXT_CHARACTERS)
    return " ".join(words)[:TEXT_CHARACTERS]


def check_lengths(texts: Sequence[str], where: Sequence[str], remedy: str = "shorten it") -> None:
    """Refuses texts that are certainly too long for CLIP.

    Args:
      texts: to check.
      where: name of each text in messages.
      remedy: what to do about a long one.

    Raises:
      UserError: a text has too many characters.
    """
    for text, place in zip(texts, where, strict=True):
        if len(text) > TEXT_CHARACTERS:
            raise UserError(
                f"{place}: {text[:40]!a}…: a text of {len(text):,} characters, expected at most "
                f"{TEXT_CHARACTERS:,}; {remedy}"
            )


def quoted_pair(one: str, other: str) -> tuple[str, str]:
    """Two quoted texts for a message, escaped if they would look the same."""
    same = one != other and unicodedata.normalize("NFKC", one) == unicodedata.normalize(
        "NFKC", other
    )
    return (ascii(one), ascii(other)) if same else (repr(one), repr(other))


def _plain(text: str) -> str:
    """`clean` of simple text, printable ASCII without entities; "" for other text."""
    return text.lower() if text.isascii() and text.isprintable() and "&" not in text else ""
