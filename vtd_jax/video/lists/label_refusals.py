"""Refuses label files that are ambiguous or no lists of names, with the line."""

import re
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.video.lists.label_rows import whole_number
from vtd_jax.video.suffixes import ENDING

FORMS = "one name a line, or rows of the form id,name"
# lines that are searched for codes in front
CODES = 100
DIGITS = frozenset("0123456789")
_MARKS = DIGITS | frozenset("[(#")
# numbers as other programs write them: 0|name, [0] name, #1 name, 1.name; but not 1.5
_MARKED = re.compile(r"[\[(#]*([0-9]+)\s*(?:[|=:)\]_>–—-]+|\.(?![0-9]))\s*\S|#([0-9]+)\s+\S")
_ANY_NUMBER = re.compile(r"([0-9]+)(?:[.):]?\s+|\s*[\t;,]\s*)\S")
_VIDEO = re.compile(rf"{ENDING}[\"']?(?:[\s,;].*)?$", re.IGNORECASE)

# line numbers from 1, and the lines stripped
Lines = Sequence[tuple[int, str]]


def refuse_partly_numbered(lines: Lines, path: str | Path) -> None:
    """Raises UserError where most lines are numbered one after another, and others are not."""
    matches = [_ANY_NUMBER.match(line) for _, line in lines]
    numbers = [whole_number(match[1]) for match in matches if match]
    counting = len(numbers) > 1 and None not in numbers and counted(numbers)
    if not counting or 2 * len(numbers) <= len(lines):
        return
    number, line = next((at for at, match in zip(lines, matches) if not match), lines[0])
    reason = "begins with a number that may be an id, or belong to the name"
    if len(numbers) < len(lines):
        reason = "is not numbered as the other lines are"
    raise UserError(
        f"{path}:{number}: {line!r:.60} {reason}; expected {FORMS}, the same on every line"
    )


def refuse_marked(lines: Lines, path: str | Path) -> None:
    """Raises UserError where every line is numbered, in a way that could belong to the name."""
    if len(lines) < 2 or not all(line[0] in _MARKS for _, line in lines):
        return
    matches = [_MARKED.match(line) for _, line in lines]
    if all(matches) and counted([whole_number(match[1] or match[2]) for match in matches]):
        number, line = lines[0]
        raise UserError(
            f"{path}:{number}: {line!r:.60} begins with a number that may be an id, or belong to "
            f"the name; expected {FORMS}"
        )


def refuse_columns(lines: Lines, path: str | Path) -> None:
    """Raises UserError for lines that hold more than a name, in no form that is known."""
    number, first = lines[0]
    where = f"{path}:{number}: {first!r:.60}"
    tabs = next(((at, line) for at, line in lines if "\t" in line), None)
    if tabs is not None:
        raise UserError(
            f"{path}:{tabs[0]}: {tabs[1]!r:.60} has a tab in it; expected {FORMS} on every line"
        )
    if len(lines) == 1 and "," in first:
        raise UserError(f"{where} is the only line and has commas in it; expected one name a line")
    if len(lines) == 1:
        return
    # neither a comma of a sentence nor of 1,000, nor one in quotes
    commas = {0 if line.startswith('"') else line.count(",") for _, line in lines}
    split = re.compile(r",(?![0-9]{3}(?![0-9]))(\S|$)|,\s*[0-9]+$")
    columns = len(commas) == 1 and commas != {0} and all(split.search(line) for _, line in lines)
    semicolons = {line.count(";") for _, line in lines}
    if columns or (len(semicolons) == 1 and semicolons != {0}):
        raise UserError(f"{where} seems to have columns, as every line; expected {FORMS}")
    if first[-1] in ":{[":
        raise UserError(f"{where} is no name but the beginning of a structure; expected {FORMS}")
    if all(re.match(r"[-*•]\s", line) for _, line in lines):
        raise UserError(
            f"{where} begins with {first[0]!r}, as every line; leave it out, expected one name a "
            "line"
        )
    if all(len(line) > 2 and line[0] == line[-1] == "'" for _, line in lines):
        raise UserError(
            f"{where} is in single quotes, as every line; leave them out, expected one name a line"
        )
    if coded(lines[:CODES]):
        raise UserError(
            f"{where} begins with a code, as every line; leave it out, or make it a number: {FORMS}"
        )
    if not all(line[-1] in DIGITS for _, line in lines):
        return
    behind = [re.fullmatch(r"(.*\S)(?:\s+|\s*[|=]\s*)([0-9]+)", line) for _, line in lines]
    numbers = sorted(whole_number(match[2]) or 0 for match in behind if match)
    if all(behind) and len({match[1] for match in behind}) == len(lines) and counted(numbers):
        raise UserError(f"{where} ends with a number, as every line; write ids in front: {FORMS}")


def coded(lines: Lines) -> bool:
    """Whether all of these lines begin with codes such as c000, each with another one."""
    codes = [re.match(r"([A-Za-z]{1,2})[0-9]+[.:)]?\s", line) for _, line in lines]
    if len(codes) < 3 or not all(codes):
        return False
    return len({code[1] for code in codes}) == 1 and len({code[0] for code in codes}) == len(codes)


def counted(numbers: Sequence[int]) -> bool:
    """Whether numbers count up from 0 or 1."""
    return list(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def refuse_videos(lines: Lines, path: str | Path) -> None:
    """Raises UserError for a list of videos."""
    videos = [(number, line) for number, line in lines if "." in line and _VIDEO.search(line)]
    if 2 * len(videos) > len(lines):
        number, line = videos[0]
        raise UserError(
            f"{path}:{number}: {line!r:.60} is a video: this is a list of videos; expected {FORMS}"
        )
