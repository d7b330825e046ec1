"""Labels and vocabularies as people give them: inline, a text file, or a label CSV."""

from collections.abc import Sequence
from pathlib import Path

from vtd_jax.clip.tokenizer import count_tokens
from vtd_jax.errors import UserError
from vtd_jax.video.catalog import read_labels, spoken

# tokens of a text without start and end
ROOM = 75


def read_words(value: str, flag: str, room: int = ROOM) -> tuple[str, ...]:
    """Reads labels or a vocabulary.

    Args:
      value: words or phrases parted by commas ("arm wrestling,hugging"), or the path of a file: UTF-8 text with one
        word or phrase a line (a byte-order mark, blank lines and blanks around words are dropped), or a `.csv` of
        `id,name` rows, whose names come in the order of the ids. What ends in .txt or .csv, or has a slash and no
        comma, is a path.
      flag: what messages call the value, such as "--labels".
      room: tokens that a word may have: 75 for bare names; learnt context and templates leave less.

    Returns:
      One word or more, each once: words are the same when CLIP would read the same text (case, underscores and runs
      of blanks make no difference).

    Raises:
      UserError: with the file and line (inline: the entry) for an empty entry, a word that is there twice or is too
        long, a file that is missing, empty, unreadable or not UTF-8.
    """
    path = _path(value)
    if path is None:
        words = [word.strip() for word in value.split(",")]
        where = [f"{flag}: entry {i}" for i in range(1, len(words) + 1)]
        if not value.strip():
            raise UserError(f"{flag}={value}: nothing there; give words such as 'arm wrestling,hugging', or a file")
        if "" in words:
            raise UserError(f"{where[words.index('')]} of {value!r} is empty; take out the comma that is too many")
        _check_twice(words, where)
    elif path.suffix.lower() == ".csv":
        _text(path, flag)
        labels = read_labels(path)
        words, where = labels.names, [f"{path}: class id {i}" for i in labels.ids]
    else:
        lines = _text(path, flag).split("\n")
        numbered = [(word, i) for i, line in enumerate(lines, start=1) if (word := line.strip())]
        if not numbered:
            raise UserError(f"{path}: no words in it; expected one word or phrase a line")
        words, where = [word for word, _ in numbered], [f"{path}:{i}" for _, i in numbered]
        _check_twice(words, where)
    _check_lengths(words, where, room)
    return tuple(words)


def check_texts(texts: Sequence[str], what: str) -> tuple[str, ...]:
    """The texts as a tuple, once they are seen to be a list of different ones.

    Raises:
      UserError: no list, an empty one, or a text that is empty or twice there; `what` is what it calls them.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise UserError(f"{what}: {texts!r:.60}, expected a list of texts, e.g. ['arm wrestling', 'hugging']")
    if not texts:
        raise UserError(f"{what}: an empty list, expected one text or more")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{what}: {text!r:.60} at place {place}, expected a text that is not empty")
    if len(set(texts)) < len(texts):
        seen: set[str] = set()
        twice = next(text for text in texts if text in seen or seen.add(text))
        raise UserError(f"{what}: {twice!r:.60} is there twice; leave one out")
    return tuple(texts)


def _path(value: str) -> Path | None:
    """The file that a value names; None for words."""
    # a list of many words is no name that a file system would take
    if len(value) < 1024 and "\0" not in value and "\n" not in value and Path(value).is_file():
        return Path(value)
    if value.strip().lower().endswith((".txt", ".csv")) or ("/" in value and "," not in value):
        return Path(value.strip())
    return None


def _text(path: Path, flag: str) -> str:
    """A file's text, with every kind of line end as `\\n`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{flag}={path}: there is no such file; check the path, or give words parted by commas"
        ) from None
    except OSError as error:
        raise UserError(f"{flag}={path}: cannot be read ({error.strerror}); expected a text file") from None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: byte {error.start} of the file (0x{content[error.start]:02x}) is not UTF-8; "
            "expected text with one word or phrase a line, saved as UTF-8"
        ) from None


def _check_twice(words: Sequence[str], where: Sequence[str]) -> None:
    """Refuses words that CLIP would read as the same text."""
    texts = [spoken(word) for word in words]
    more = len(texts) - len(set(texts))
    if not more:
        return
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        if text in first:
            before = first[text]
            told = f"; {more} words of the list are there again" if more > 1 else ""
            raise UserError(
                f"{where[i]}: {words[i]!r} reads as {words[before]!r} of {where[before]}; each may appear once{told}"
            )
        first[text] = i


def _check_lengths(words: Sequence[str], where: Sequence[str], room: int) -> None:
    """Refuses words that do not fit into CLIP's text tower."""
    # a token is a byte or more, and normal forms make at most three bytes of one: most need not be tokenized
    long = [i for i, word in enumerate(words) if len(word.encode(errors="replace")) > room // 3]
    for i, count in zip(long, count_tokens([words[i] for i in long]), strict=True):
        if count > room:
            start = words[i] if len(words[i]) <= 40 else f"{words[i][:40]}…"
            raise UserError(f"{where[i]}: {start!r} has {count} tokens, CLIP takes {room} here; shorten it")
