"""Output for people: lines that are logged or printed, safe text, and tables that fit.

The library logs, in `logging.getLogger("vtd_jax")` and loggers below it; commands print what it
logs, see `print_lines`. Texts are escaped here, so that no handler of `logging` can send control
characters to a terminal.
"""

import contextlib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtd_jax.printable import shown

if TYPE_CHECKING:
    import rich.console
    import rich.table
    import rich.text

# parent of all loggers here
_ROOT = "vtd_jax"
# blanks between columns
_GAP = 2
# longer words in a column of text may be broken
_WORD = 20


def verbatim(text: object) -> "rich.text.Text":
    """`shown` text for rich: no markup (`[red]`), no emoji (`:car:`), nothing highlighted."""
    from rich.text import Text

    return Text(shown(text))


def say(text: object, stream: Any = None) -> None:
    """Prints one line and flushes; the text goes through `shown`. For commands: the library logs.

    Args:
      text: to print.
      stream: a text stream; stdout if not given.
    """
    print(shown(text), file=sys.stdout if stream is None else stream, flush=True)


def asked(question: str) -> str:
    """Prints a question on stderr and returns the line that is typed; "" at the end of input."""
    print(shown(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def log(text: object) -> None:
    """Logs a line at level INFO; commands print it on stderr."""
    _emit(logging.INFO, text, False)


def log_result(text: object) -> None:
    """Logs a line at level INFO; commands print it on stdout, as what they were asked for."""
    _emit(logging.INFO, text, True)


def warn(text: object) -> None:
    """Logs a line at level WARNING; commands print `warning: …` on stderr."""
    _emit(logging.WARNING, text, False)


def print_lines() -> None:
    """Prints all lines from now on, and no longer passes them to other handlers: for commands."""
    logger = logging.getLogger(_ROOT)
    if not is_printed():
        logger.addHandler(_Printer())
        logger.setLevel(logging.INFO)
        # absl's handler would print them again
        logger.propagate = False


def is_printed() -> bool:
    """Whether lines are printed, as in commands; the library alone only logs them."""
    return any(isinstance(one, _Printer) for one in logging.getLogger(_ROOT).handlers)


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Prints all lines until the block ends, see `print_lines`."""
    if is_printed():
        yield
        return
    logger = logging.getLogger(_ROOT)
    level, propagate = logger.level, logger.propagate
    print_lines()
    try:
        yield
    finally:
        for handler in [one for one in logger.handlers if isinstance(one, _Printer)]:
            logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 video`, `2 videos`; `plural` for irregular nouns."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    whole: Collection[str] = (),
    less: Sequence[str] = (),
    console: "rich.console.Console | None" = None,
) -> None:
    """Prints a table that fits on a terminal; pipes and files get the full width.

    On a narrow terminal text is wrapped between words. If that is not enough, columns are left out
    and named below the table. Nothing is cut, except by `shown`.

    Args:
      title: line above the table.
      columns: names; the first one is never left out.
      rows: cells as text.
      numbers: columns that are right-aligned.
      whole: columns that are neither wrapped nor left out, such as names to copy.
      less: columns that are left out first, the least important first; then others from the right.
      console: to print on; stdout by default.
    """
    import rich.console

    console = console or rich.console.Console(highlight=False)
    columns, cells = [shown(c) for c in columns], [[shown(cell) for cell in row] for row in rows]
    content = {column: [row[i] for row in cells] for i, column in enumerate(columns)}
    widths = {column: _natural(column, texts) for column, texts in content.items()}
    left_out: list[str] = []
    if not console.is_terminal:
        need = sum(widths.values()) + _GAP * len(columns)
        console = rich.console.Console(
            file=console.file, width=max(need, 80), force_terminal=False, highlight=False
        )
    elif _taken(widths) > console.width:
        least = {
            c: w if c in whole else _least(c, content[c], c in numbers) for c, w in widths.items()
        }
        left_out = _dropped(least, console.width, whole, [c for c in less if c in least])
        least = {c: w for c, w in least.items() if c not in left_out}
        widths = _shared_out(least, {c: widths[c] for c in least}, console.width)
    console.print(verbatim(title), soft_wrap=True)
    kept = [column for column in columns if column in widths]
    table = _table(
        kept, widths, [[content[c][i] for c in kept] for i in range(len(cells))], numbers
    )
    if console.is_terminal:
        console.print(table)
    else:
        # strip trailing blanks, which `less` would wrap into empty lines
        with console.capture() as captured:
            console.print(table)
        console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))
    if left_out:
        names = ", ".join(column for column in columns if column in left_out)
        console.print(verbatim(f"left out on {console.width} columns: {names}"), soft_wrap=True)
        console.print()


def show_entries(
    title: str,
    entries: Sequence[tuple[str, str]],
    console: "rich.console.Console | None" = None,
) -> None:
    """Prints entries of a line and an indented text below it, for what no table has room for.

    Args:
      title: line above.
      entries: line and text of each.
      console: to print on; stdout by default.
    """
    import rich.console
    from rich.padding import Padding

    console = console or rich.console.Console(highlight=False)
    console.print(verbatim(title), soft_wrap=True)
    for line, text in entries:
        console.print(verbatim(line), soft_wrap=True)
        console.print(Padding(verbatim(text), (0, 0, 0, 4)))


def columns_of_terminal() -> int | None:
    """Width of the terminal that stdout is; None for a pipe or file."""
    import rich.console

    console = rich.console.Console()
    return console.width if console.is_terminal else None


def _table(
    columns: Sequence[str],
    widths: Mapping[str, int],
    rows: Sequence[Sequence[str]],
    numbers: Collection[str],
) -> "rich.table.Table":
    import rich.box
    import rich.table

    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, show_edge=True, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
    )
    for column in columns:
        justify = "right" if column in numbers else "left"
        table.add_column(verbatim(column), justify=justify, width=widths[column], overflow="fold")
    for row in rows:
        table.add_row(*map(verbatim, row))
    return table


def _natural(column: str, texts: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, (column, *texts)))


def _least(column: str, texts: Sequence[str], number: bool) -> int:
    """The smallest width: only long words are broken, and no numbers."""
    from rich.cells import cell_len

    if number:
        return max(map(cell_len, (*column.split(), *texts)), default=1)
    return min(
        _WORD,
        max((cell_len(word) for text in (column, *texts) for word in text.split()), default=1),
    )


def _taken(widths: Mapping[str, int]) -> int:
    """Width of a table."""
    return sum(widths.values()) + _GAP * len(widths)


def _dropped(
    least: Mapping[str, int], room: int, whole: Collection[str], less: Sequence[str]
) -> list[str]:
    """The columns that must be left out so that the others fit."""
    first, *others = least
    candidates = [c for c in (*less, *reversed(others)) if c != first and c not in whole]
    left, dropped = dict(least), []
    for column in dict.fromkeys(candidates):
        if _taken(left) <= room:
            break
        del left[column]
        dropped.append(column)
    return dropped


def _shared_out(least: Mapping[str, int], natural: Mapping[str, int], room: int) -> dict[str, int]:
    """Widths that fill the room: the least ones, and the rest for wide columns, narrow first."""
    widths = dict(least)
    wanting = sorted((c for c in least if natural[c] > least[c]), key=lambda c: natural[c])
    for place, column in enumerate(wanting):
        share = max(0, room - _taken(widths)) // (len(wanting) - place)
        widths[column] = min(natural[column], widths[column] + share)
    if _taken(widths) > room:
        # a name that is wider than the terminal is broken
        first = next(iter(widths))
        widths[first] = max(8, widths[first] - (_taken(widths) - room))
    return widths


class _Printer(logging.Handler):
    """Prints the message alone; the streams are those of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record and flushes; an error of the stream is raised, not swallowed."""
        text = record.getMessage()
        # shortened texts are not shortened again
        text = text if getattr(record, "is_shown", False) else shown(text)
        before = "warning: " if record.levelno >= logging.WARNING else ""
        stream = sys.stdout if getattr(record, "on_stdout", False) else sys.stderr
        print(f"{before}{text}", file=stream, flush=True)


def _emit(level: int, text: object, on_stdout: bool) -> None:
    # the module that logs, as `getLogger(__name__)` there would say; a command has no logger here
    caller = sys._getframe(2).f_globals.get("__name__", _ROOT)
    logger = logging.getLogger(caller if f"{caller}.".startswith(f"{_ROOT}.") else _ROOT)
    if logger.isEnabledFor(level):
        extra = {"is_shown": True, "on_stdout": on_stdout}
        logger.log(level, "%s", shown(text), stacklevel=3, extra=extra)
