"""Labels and vocabularies as people give them: inline, a text file, or a label CSV."""

from collections.abc import Sequence
from pathlib import Path

from vtd_jax.clip.tokenizer import count_tokens
from vtd_jax.errors import UserError
from vtd_jax.files import likely
from vtd_jax.predict.inline_words import inline_words, label_path
from vtd_jax.printable import utf8
from vtd_jax.texts import check_lengths, keys, quoted_pair, read_as, same_texts
from vtd_jax.untrusted.regular_files import read_bytes
from vtd_jax.video.lists.label_files import parse_label_file

# tokens of a text without start and end
ROOM = 75


def read_words(value: str, flag: str, room: int = ROOM) -> tuple[str, ...]:
    """Reads labels or a vocabulary.

    Args:
      value: words or phrases parted by commas ("arm wrestling,hugging"), with double quotes around
        one that has a comma in it, or one a line; or the path of a file: UTF-8 text with one word
        or phrase a line (a byte-order mark, blank lines and blanks around words are dropped), rows
        of ids and names, which come in the order of the ids, or another form that
        `parse_label_file` reads. What ends like a text file, or has a slash and no comma, is a
        path.
      flag: what messages call the value, such as "--labels".
      room: tokens that a word may have: 75 for bare names; learnt context and templates leave less.

    Returns:
      One word or more, each once: words are the same when CLIP would read the same text (Unicode
      form, case, underscores and blanks make no difference).

    Raises:
      UserError: with the file and line (inline: the entry) for an empty entry, a word that is there
        twice or is too long; a file that is missing, empty, unreadable, not UTF-8, or holds
        something else; a value that is a folder, a video, or words parted by something else than
        commas.
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
        found = parse_label_file(
            value if path is None else _text(path, flag), flag if path is None else path
        )
        if not found.names and path is not None and path.suffix.lower() == ".csv":
            raise UserError(f"{path}: no classes; expected rows of the form id,name")
        if not found.names:
            raise UserError(
                f"{flag if path is None else path}: no words in it; expected one word or phrase a "
                "line"
            )
        words, where = found.names, found.where
        if found.ids is None:
            _check_twice(words, where)
    _check_lengths(words, where, room)
    return tuple(words)


def check_texts(texts: Sequence[str], what: str, *, underscores: bool = False) -> tuple[str, ...]:
    """The texts as a tuple, once they are seen to be a list of texts that CLIP reads as different
    ones.

    Args:
      texts: of one kind.
      what: they are called in messages.
      underscores: whether the model reads them as blanks, as those with learnt text prompts do.

    Raises:
      UserError: no list, an empty one, a text that is empty, or twice there, or in which CLIP reads
        what it reads in another one, or nothing, or with surrogates, as of bytes that are not
        UTF-8.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise UserError(
            f"{what}: {texts!r:.60}, expected a list of texts, e.g. ['arm wrestling', 'hugging']"
        )
    if not texts:
        raise UserError(f"{what}: an empty list, expected one text or more")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"{what}: {text!r:.60} at place {place}, expected a text that is not empty"
            )
        if utf8(text) != text:
            raise UserError(
                f"{what}: {text!a:.60} at place {place} cannot be written as UTF-8, expected one "
                "that can"
            )
    check_lengths(texts, [what] * len(texts))
    found = keys(texts, underscores=underscores)
    if "" in found:
        raise UserError(
            f"{what}: CLIP reads no text in {texts[found.index('')]!a:.60}; give another"
        )
    for place, first in same_texts(texts, underscores=underscores, found=found)[:1]:
        if texts[place] == texts[first]:
            raise UserError(f"{what}: {texts[place]!r:.60} is there twice; leave one out")
        one, other = quoted_pair(texts[first], texts[place])
        read = read_as(texts[place].replace("_", " ") if underscores else texts[place])
        raise UserError(
            f"{what}: CLIP reads {one:.60} and {other:.60} alike, as {read!r:.60}; leave one out"
        )
    return tuple(texts)


def _text(path: Path, flag: str) -> str:
    """A file's text, with every kind of line end as `\\n`."""
    try:
        content = read_bytes(path, "file of words")
    except FileNotFoundError:
        meant = likely(path)
        told = (
            "check the path"
            if meant is None
            else f"give {quoted_pair(str(path), str(meant))[1]}, which is there"
        )
        raise UserError(
            f"{flag}={path}: there is no such file; {told}, or give words parted by commas"
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
    """Refuses words that CLIP would read as the same text, and those without end."""
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


def _check_lengths(words: Sequence[str], where: Sequence[str], room: int) -> None:
    """Refuses words that do not fit into CLIP's text tower."""
    # a token is a byte or more, and normal forms make at most three bytes of one: most need not be
    # tokenized
    long = [i for i, word in enumerate(words) if len(word.encode(errors="replace")) > room // 3]
    for i, count in zip(long, count_tokens([words[i] for i in long]), strict=True):
        if count > room:
            start = words[i] if len(words[i]) <= 40 else f"{words[i][:40]}…"
            raise UserError(
                f"{where[i]}: {start!r} has {count} tokens, CLIP takes {room} here; shorten it"
            )
