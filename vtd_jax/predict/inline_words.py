"""Labels or a vocabulary on the command line: words, or the path of a file of words."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.video.suffixes import is_video

# suffixes of files of words, and of files that are taken for such
_TEXTS = (".txt", ".csv")
_OTHERS = (
    ".tsv", ".json", ".text", ".names", ".list", ".lst", ".md", ".yaml", ".yml", ".xls",
    ".xlsx", ".ods",
)  # fmt: skip
# separators of words in other programs and on other keyboards
_MARKS = ";|\t，、；،"
_QUOTES = ("''", "‘’", "“”", "„“", "«»", "``")


def label_path(value: str, flag: str) -> Path | None:
    """The file that a value names; None if the value is words.

    Raises:
      UserError: a folder, or a video.
    """
    # unlike Path.is_file, these do not raise for names that no file system allows
    if os.path.isdir(value):
        raise UserError(
            f"{flag}={value}: is a folder; give a file of words, or words separated by commas"
        )
    text, several = value.strip(), "," in value or "\n" in value.strip()
    ending = os.path.splitext(text)[1].lower()
    if is_video(text) and not several:
        raise UserError(
            f"{flag}={value}: is a video; give words separated by commas, or a file of them"
        )
    if os.path.isfile(value):
        return Path(value)
    if "\n" in text or "\0" in text:
        return None
    if ending in _TEXTS or (not several and (ending in _OTHERS or "/" in value)):
        return Path(text)
    return None


def inline_words(value: str, flag: str) -> list[str]:
    """Splits words at commas; a word with a comma in it is in double quotes.

    Raises:
      UserError: an empty entry, unmatched quotes, or words that are separated or quoted in another
        way; names the entry.
    """
    if not value.strip():
        raise UserError(
            f"{flag}={value}: nothing there; give words such as 'arm wrestling,hugging', or a file"
        )
    where = f"{flag}={value!r:.60}"
    if re.fullmatch(r"\s*[\[({].*[\])}]\s*", value) and re.search("[\"'].*,", value):
        raise UserError(
            f"{where}: is a list of a programming language; give words separated by commas"
        )
    # csv refuses blanks after a closing quote
    line = re.sub(r'"\s+,', '",', value.strip())
    try:
        words = [
            word.strip() for word in next(csv.reader([line], strict=True, skipinitialspace=True))
        ]
    except csv.Error as error:
        raise UserError(
            f"{where}: cannot be split at commas ({error}); put double quotes around a whole "
            "word or phrase, or give a file with one a line"
        ) from None
    if "" in words:
        raise UserError(
            f"{flag}: entry {words.index('') + 1} of {value!r:.60} is empty; take out the comma "
            "that is too many"
        )
    mark = next((sign for sign in _MARKS if sign in words[0]), None)
    if len(words) == 1 and mark is not None:
        raise UserError(
            f"{where}: is one entry with {mark!r} in it; separate words by commas, or give a file "
            "with one a line"
        )
    for place, word in enumerate(words, start=1):
        if len(words) > 1 and word.lower().endswith(_TEXTS + _OTHERS) and os.path.isfile(word):
            raise UserError(
                f"{flag}: entry {place}, {word!r:.60}, is a file; give a single file, or words "
                "alone"
            )
        if len(word) > 2 and (word[0] + word[-1]) in _QUOTES:
            raise UserError(f"{flag}: entry {place}, {word!r:.60}, is in quotes; leave them out")
    if len(words) > 1 and words[0][0] == words[-1][-1] == "'" and value.count("'") == 2:
        raise UserError(
            f"{where}: the quotes are part of the words here; leave them out, or use double quotes"
        )
    return words


def doubt(words: Sequence[str], flag: str, *, are_labels: bool) -> str | None:
    """A warning about a probable mistake: a single label, or a single word to name frames."""
    if len(words) != 1:
        return None
    what = (
        "a single label, so that it scores 100 % in every video" if are_labels else "a single word"
    )
    return (
        f"{flag}: {words[0]!r:.80} is {what}; several are separated by commas, or one a line "
        "in a file"
    )
