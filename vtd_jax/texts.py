"""How CLIP reads a text before it becomes tokens: its cleaning, its words, and the texts that it
cannot tell apart.
"""

import functools
import html
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import TEXT_CHARACTERS

END_OF_TEXT = "<|endoftext|>"
# ftfy takes one level of `&amp;amp;` after the other, each time through the whole text, to the same
# end from any depth; of a text with a `<` it takes none
_NESTED = "&" + "amp;" * 8


def clean(text: str) -> str:
    """OpenAI's order: mend encodings, HTML entities (twice: `&amp;amp;`), runs of whitespace, lower
    case.
    """
    # imported where it is needed: lists are read by many processes, and most names need no mending
    import ftfy

    if "<" not in text:
        text = _patterns()[2].sub(_NESTED, text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _patterns()[1].sub(" ", text).strip().lower()


def words(cleaned: str) -> list[str]:
    """The words of a cleaned text, which are tokenized one by one; blanks between them make no
    difference.
    """
    return _patterns()[0].findall(cleaned)


@functools.cache
def _patterns():
    import regex

    # split here and not by `tokenizers`: its Rust regex knows another Unicode version and another
    # \s
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    nested = r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);){9,}"
    return regex.compile(pattern, regex.IGNORECASE), regex.compile(r"\s+"), regex.compile(nested)


@functools.lru_cache(maxsize=1 << 16)
def read_as(text: str) -> str:
    """The words that CLIP reads, parted by single blanks; two texts have the same tokens where
    these are the same.

    What stands behind a spelled out `<|endoftext|>` has no influence on a text's features.
    """
    found = words(_plain(text) or clean(text))
    return " ".join(found[: found.index(END_OF_TEXT)] if END_OF_TEXT in found else found)


def keys(texts: Sequence[str], *, underscores: bool) -> list[str]:
    """A key a text, equal where CLIP reads the same, "" where it reads nothing; a few other texts
    share one, too.

    Args:
      texts: any number of them, millions included.
      underscores: whether they become blanks, as they do where a prompt is learnt around a class
        name.
    """
    texts = (text.replace("_", " ") for text in texts) if underscores else texts
    found = ("".join((_plain(text) or clean(text)).split()) for text in texts)
    return [key.partition(END_OF_TEXT)[0] if "<" in key else key for key in found]


def alike(
    texts: Sequence[str], *, underscores: bool, found: Sequence[str] | None = None
) -> list[tuple[int, int]]:
    """`(place, place of the first such text)` of every text that CLIP reads as an earlier one, in
    their order.

    Args:
      texts, underscores: as for `keys`.
      found: their keys, where they are known.
    """
    found = keys(texts, underscores=underscores) if found is None else found
    if len(set(found)) == len(found):
        return []
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


def check_lengths(texts: Sequence[str], where: Sequence[str]) -> None:
    """Refuses texts of more characters than any text that CLIP takes has.

    Args:
      texts: any number of them.
      where: what messages call each.

    Raises:
      UserError: says which.
    """
    for text, place in zip(texts, where, strict=True):
        if len(text) > TEXT_CHARACTERS:
            told = (
                f"a text of {len(text):,} characters, expected at most {TEXT_CHARACTERS:,}; "
                "shorten it"
            )
            raise UserError(f"{place}: {text[:40]!a}…: {told}")


def told_pair(one: str, other: str) -> tuple[str, str]:
    """Two texts for a message: as they are written, with escapes where they would look the same."""
    same = one != other and unicodedata.normalize("NFKC", one) == unicodedata.normalize(
        "NFKC", other
    )
    return (ascii(one), ascii(other)) if same else (repr(one), repr(other))


def _plain(text: str) -> str:
    """`clean` of a text of printable ASCII without entities, in which there is nothing to mend; ""
    for any other.
    """
    return text.lower() if text.isascii() and text.isprintable() and "&" not in text else ""
