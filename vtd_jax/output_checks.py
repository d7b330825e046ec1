"""No output is an input: what a command would write is held against what it reads, before anything
runs.

Files are compared as the system knows them, not by how their paths are written: links, hard links,
other spellings and disks that ignore case make no difference.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import folded
from vtd_jax.outputs import check_output
from vtd_jax.printable import printable
from vtd_jax.untrusted.regular_files import open_regular

# what a folder holds -> what it is, and the names in it that are its own; () for all
_RUN = (
    "config.json",
    "metrics.csv",
    "training_list.json",
    "nonfinite.jsonl",
    "checkpoints",
    "events",
    "damaged",
)
_KINDS = (
    (("dataset_info.json", "features.json"), "the records", ()),
    (("about.json", "program.jaxexport"), "the served model", ()),
    (("config.json", "checkpoints"), "the run", (*_RUN, "profile", "results*")),
    (("config.json", "training_list.json"), "the run", (*_RUN, "profile", "results*")),
    (
        ("results.json", "results_scores.npz"),
        "the evaluation",
        ("results*", "identity.json", "run.log"),
    ),
    (("plans", "runs"), "the reproduced tables", ("plans", "scenes")),
)
# what is read beside weights
_BESIDE = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "model.safetensors.index.json",
)


@dataclasses.dataclass(frozen=True)
class Output:
    """A file or folder that a command would write.

    Attributes:
      flag: what messages call it, such as "--json".
      path: of it.
      folder: whether it is a folder.
      ours: whether a file that is there is one that this command wrote; only such a file is
        replaced in a folder that the command reads. None is for no file.
      belongs: whether it may be a file of a run, as the results of an evaluation are.
      whole: of a folder: whether it may be a run or a served model itself, which is replaced or
        gone on with.
    """

    flag: str
    path: Path
    folder: bool = False
    ours: Callable[[Path], bool] | None = None
    belongs: bool = False
    whole: bool = False

    @property
    def told(self) -> str:
        """For messages."""
        return f"{self.flag}={printable(str(self.path))}"


def check_outputs(
    outputs: Sequence[Output], inputs: Iterable[tuple[str, str | os.PathLike | None]]
) -> None:
    """Refuses outputs that cannot be written, are an input or one another, or are files of somebody
    else's folder.

    A file that is none of these is replaced, as a command that is run again replaces what it wrote.

    Args:
      outputs: what would be written.
      inputs: `(what messages call it, path)` of what is read; None, and what is no path of a file,
        such as inline labels, is left out. Of a folder, no file that is there is written over
        unless it is `ours`.

    Raises:
      UserError: says which output, and what it would write over.
    """
    for output in outputs:
        check_output(output.flag, str(output.path), folder=output.folder)
    _check_twice(outputs)
    there = {
        _identity(output.path): output
        for output in outputs
        if not output.folder and os.path.exists(output.path)
    }
    inside = {}
    for output in outputs:
        for parent in Path(os.path.realpath(output.path)).parents:
            inside.setdefault(_identity(parent), []).append(output)
    for told, path in inputs:
        if path is None or (found := _identity(path)) is None:
            continue
        if (output := there.get(found)) is not None:
            raise UserError(
                f"{output.told}: is {printable(told)}, which would be written over; give another "
                "name"
            )
        for output in inside.get(found, ()):
            if (
                output in there.values()
                and not output.belongs
                and not (output.ours and output.ours(output.path))
            ):
                raise UserError(
                    f"{output.told}: is there, a file of {printable(told)} that this command did "
                    "not write; give another name"
                )
    for output in outputs:
        _check_owner(output)


def weights_read(
    flag: str, value: str | os.PathLike | None
) -> Iterator[tuple[str, str | os.PathLike | None]]:
    """The inputs that a flag for weights names: a file with the configs beside it, or a folder."""
    yield f"{flag}={value}", value
    if value is not None and os.path.isfile(value):
        for name in _BESIDE:
            beside = Path(value).with_name(name)
            yield f"{beside}, which is read with {flag}={value}", beside


def begins(path: Path, *starts: bytes) -> bool:
    """Whether a file begins with one of these; an empty one does."""
    try:
        with open_regular(path) as file:
            head = file.read(max(map(len, starts)))
    except (OSError, UserError):
        return False
    return not head or head.startswith(starts)


def is_measurement(path: Path) -> bool:
    """Whether a file is what a benchmark of this package wrote: it says which machine was measured."""
    try:
        with open_regular(path) as file:
            head = file.read(2**16)
    except (OSError, UserError):
        return False
    return not head or (b'"processor": ' in head and b'"platform": ' in head)


def _check_twice(outputs: Sequence[Output]) -> None:
    """Refuses outputs that are the same file; folders may be shared."""
    known: dict[tuple, Output] = {}
    for output in outputs:
        first = known.setdefault(place_of(output.path), output)
        if first is not output and not (first.folder and output.folder):
            raise UserError(f"{output.told}: is {first.told} too; give each a name of its own")


def _check_owner(output: Output) -> None:
    """Refuses what would become a part, or write over a part, of a run, of records or of a served
    model.
    """
    if output.belongs:
        return
    below = Path(os.path.realpath(output.path))
    for folder in (below, *below.parents) if output.folder else below.parents:
        first = "".join(below.relative_to(folder).parts[:1]).casefold()
        # records are built by build_data alone
        for marks, what, names in _KINDS[:1] if output.whole and not first else _KINDS:
            if not all(os.path.lexists(folder / mark) for mark in marks):
                continue
            if (
                not names
                or not first
                or any(first == name or _starts(first, name) for name in names)
            ):
                raise UserError(
                    f"{output.told}: is a place of {what} in {printable(str(folder))}; give "
                    "another name"
                )


def _starts(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])


def place_of(path: Path) -> tuple:
    """What a path means, whether it is there or not: the same for every spelling of it."""
    there, names = Path(os.path.realpath(path)), []
    while (found := _identity(there)) is None and there != there.parent:
        names.append(there.name)
        there = there.parent
    if names and _ignores_case(there):
        names = [folded(name) for name in names]
    return (found, *names)


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """What the system calls a file or folder; None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _ignores_case(folder: Path) -> bool:
    """Whether names that differ in case only are the same in a folder that is there."""
    for part in (folder, *folder.parents):
        other = part.name.swapcase()
        if other != part.name:
            return _identity(part.with_name(other)) == _identity(part)
    return False
