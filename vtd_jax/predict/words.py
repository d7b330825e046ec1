"""Labels and vocabularies from users: inline, a text file, or a label CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtd_jax.clip import tokenizer as openais
from vtd_jax.errors import UserError
from vtd_jax.fields import check_listed
from vtd_jax.files import likely
from vtd_jax.predict.inline_words import inline_words, label_path
from vtd_jax.printable import brief, utf8
from vtd_jax.texts import check_lengths, keys, quoted_pair, read_as, same_texts
from vtd_jax.untrusted.regular_files import read_bytes
from vtd_jax.video.lists.label_files import parse_label_file

# tokens of a text without start and end
ROOM = 75


def read_words(
    value: str, flag: str, room: int = ROOM, tokenizer: Any = openais
) -> tuple[str, ...]:
    """Reads labels or a vocabulary.

    Args:
      value: words or the path of a file of words. A value with the suffix of a text file, or with a
        slash and no comma, is a path. Words are separated by commas ("arm wrestling,hugging"), in
        double quotes if they contain one, or by line ends. A file is UTF-8 text with a word or
        phrase a line (a byte-order mark, blank lines and blanks around words are dropped), rows of
        ids and names, sorted by id, or another form that `parse_label_file` reads.
      flag: name of the value in messages, such as "--labels".
      room: tokens that a word may have: 75 for bare names, fewer with prompts or templates.
      tokenizer: of the CLIP, whose `count_tokens` counts them.

    Returns:
      One word or more, without duplicates: words that CLIP reads as the same text, whatever their
      Unicode form, case, underscores and blanks.

    Raises:
      UserError: an empty, repeated or too long word, with its file and line, or entry; a file that
        is missing, empty, unreadable, not UTF-8 or of another kind; a value that is a folder, a
        video, or words that are not separated by commas.
    """
    path = label_path(value, flag)
    if path is None and utf8(value) != value:
        raise UserError(
            f"{flag}={value!a:.60}: holds bytes that are not UTF-8; give it as UTF-8, or a file"
        )
    if path is None and "\n" not in value.strip():
        words = inline_words(value, flag)
        where = [f"{flag}: entry {i}" for i in range(1, len(words) + 1)]
        _check_twice(words, where)
    else:
        file = parse_label_file(
            value if path is None else _text(path, flag), flag if path is None else path
        )
        if not file.names and path is not None and path.suffix.lower() == ".csv":
            raise UserError(f"{path}: no classes; expected rows of the form id,name")
        if not file.names:
            raise UserError(f"{path or flag}: no words in it; expected one word or phrase a line")
        words, where = file.names, file.where
        if file.ids is None:
            _check_twice(words, where)
    _check_lengths(words, where, room, tokenizer)
    return tuple(words)


def check_texts(texts: Sequence[str], what: str, *, underscores: bool = False) -> tuple[str, ...]:
    """Checks that texts are different to CLIP, and returns them as a tuple.

    Args:
      texts: to check.
      what: name of the texts in messages.
      underscores: whether the model reads underscores as blanks, as with learnt text prompts.

    Raises:
      UserError: not a list (a set has no order), an empty list, or a text that is empty (also to
        CLIP), repeated, the same as another one to CLIP, or not valid Unicode.
    """
    found, texts = check_readable(texts, what, underscores=underscores), list(texts)
    for place, first in same_texts(texts, underscores=underscores, found=found)[:1]:
        if texts[place] == texts[first]:
            raise UserError(f"{what}: {texts[place]!r:.60} is there twice; leave one out")
        one, other = quoted_pair(texts[first], texts[place])
        read = read_as(texts[place].replace("_", " ") if underscores else texts[place])
        raise UserError(
            f"{what}: CLIP reads {one:.60} and {other:.60} as the same text, {read!r:.60}; "
            "leave one out"
        )
    return tuple(texts)


def check_readable(
    texts: Sequence[str], what: str, *, underscores: bool = False, remedy: str = "shorten it"
) -> list[str]:
    """Checks that CLIP reads something in each of some texts, and returns their `keys`.

    Args:
      texts, what, underscores: as for `check_texts`.
      remedy: what to do about a text that has too many characters.

    Raises:
      UserError: as for `check_texts`, less texts that are there again.
    """
    texts = check_listed(what, texts, "a list of texts, e.g. ['arm wrestling', 'hugging']")
    if not texts:
        raise UserError(f"{what}: an empty list, expected one text or more")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text or text.isspace():
            raise UserError(
                f"{what}: {brief(text)} at place {place}, expected a text that is not empty"
            )
    check_lengths(texts, [what] * len(texts), remedy)
    for place, text in enumerate(texts):
        if utf8(text) != text:
            raise UserError(
                f"{what}: {text!a:.60} at place {place} cannot be written as UTF-8, expected one "
                "that can"
            )
    found = keys(texts, underscores=underscores)
    if "" in found:
        raise UserError(
            f"{what}: CLIP reads no text in {texts[found.index('')]!a:.60}; give another"
        )
    return found


def _text(path: Path, flag: str) -> str:
    """Text of a file, with `\\n` for every kind of line end."""
    try:
        content = read_bytes(path, "file of words")
    except FileNotFoundError:
        meant = likely(path)
        advice = "check the path"
        if meant is not None:
            advice = f"give {quoted_pair(str(path), str(meant))[1]}, which is there"
        raise UserError(
            f"{flag}={path}: there is no such file; {advice}, or give words separated by commas"
        ) from None
    except OSError as error:
        raise UserError(
            f"{flag}={path}: cannot be read ({error.strerror}); expected a text file"
        ) from None
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: byte {error.start} of the file (0x{content[error.start]:02x}) is not "
            "UTF-8; expected text with one word or phrase a line, saved as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(
            f"{path}:{line}: a zero byte, as in UTF-16; expected one word or phrase a line, saved "
            "as UTF-8"
        )
    return text


def _check_twice(words: Sequence[str], where: Sequence[str]) -> None:
    """Refuses words that CLIP reads as the same text, as nothing, or that are far too long."""
    check_lengths(words, where)
    found = keys(words, underscores=True)
    if "" in found:
        place = found.index("")
        raise UserError(f"{where[place]}: CLIP reads no text in {words[place]!a:.60}; give another")
    pairs = same_texts(words, underscores=True, found=found)
    if not pairs:
        return
    place, before = pairs[0]
    word, other = quoted_pair(words[place], words[before])
    more = f"; {len(pairs)} words of the list are there again" if len(pairs) > 1 else ""
    read = f"; CLIP reads {read_as(words[place].replace('_', ' '))!r}" if word != other else ""
    raise UserError(
        f"{where[place]}: {word} reads as {other} of {where[before]}; each may appear "
        f"once{more}{read}"
    )


def _check_lengths(words: Sequence[str], where: Sequence[str], room: int, tokenizer: Any) -> None:
    """Refuses words that do not fit into CLIP's text tower."""
    # a token is a byte or more, and normalization makes at most three bytes of one: short words
    # need not be tokenized
    long = [i for i, word in enumerate(words) if len(word.encode(errors="replace")) > room // 3]
    for i, count in zip(long, tokenizer.count_tokens([words[i] for i in long]), strict=True):
        if count > room:
            start = words[i] if len(words[i]) <= 40 else f"{words[i][:40]}…"
            raise UserError(
                f"{where[i]}: {start!r} has {count} tokens, CLIP takes {room} here; shorten it"
            )
