"""Checks before a command runs that no output overwrites an input or a file of something else.

Files are compared by their identity in the file system: links, hard links, other spellings and
case-insensitive disks make no difference.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import folded
from vtd_jax.outputs import check_output
from vtd_jax.printable import printable
from vtd_jax.untrusted.regular_files import open_regular

# files that identify a kind of folder, the kind, and names that are reserved in it; () for all
_RUN = (
    "config.json", "metrics.csv", "training_list.json", "nonfinite.jsonl", "checkpoints", "events",
    "damaged", "profile", "results*",
)  # fmt: skip
_KINDS = (
    (("dataset_info.json", "features.json"), "the records", ()),
    (("about.json", "program.jaxexport"), "the served model", ()),
    (("config.json", "checkpoints"), "the run", _RUN),
    (("config.json", "training_list.json"), "the run", _RUN),
    (
        ("results.json", "results_scores.npz"),
        "the evaluation",
        ("results*", "identity.json", "run.log"),
    ),
    (("plans", "runs"), "the reproduced tables", ("plans", "scenes")),
)
# files that are read beside weights
_BESIDE = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@dataclasses.dataclass(frozen=True)
class Output:
    """A file or folder that a command would write.

    Attributes:
      flag: its flag, such as "--json".
      path: of the file or folder.
      folder: whether it is a folder.
      ours: says whether this command wrote an existing file. In a folder that the command reads,
        only such files are replaced; None replaces none.
      belongs: whether it may be a file of a run, such as the results of an evaluation.
      whole: of a folder: whether it may be a run or served model, which is resumed or replaced.
    """

    flag: str
    path: Path
    folder: bool = False
    ours: Callable[[Path], bool] | None = None
    belongs: bool = False
    whole: bool = False

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return f"{self.flag}={printable(str(self.path))}"


def check_outputs(
    outputs: Sequence[Output], inputs: Iterable[tuple[str, str | os.PathLike | None]]
) -> None:
    """Refuses outputs that cannot be written, that repeat, or that would overwrite other files.

    Other files are inputs, files in folders that are inputs, and files of runs, records and served
    models. All other existing files are replaced.

    Args:
      outputs: of the command.
      inputs: `(name in messages, path)` of what is read; None and text that is not an existing
        path, such as inline labels, is ignored.

    Raises:
      UserError: names the output, and what it would overwrite.
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
    for name, path in inputs:
        if path is None or (found := _identity(path)) is None:
            continue
        if (output := there.get(found)) is not None:
            raise UserError(
                f"{output.shown}: is {printable(name)}, which would be overwritten; give another "
                "name"
            )
        for output in inside.get(found, ()):
            is_ours = output.belongs or (output.ours and output.ours(output.path))
            if output in there.values() and not is_ours:
                raise UserError(
                    f"{output.shown}: exists, a file of {printable(name)} that this command did "
                    "not write; give another name"
                )
    for output in outputs:
        _check_owner(output)


def weights_read(
    flag: str, value: str | os.PathLike | None
) -> Iterator[tuple[str, str | os.PathLike | None]]:
    """The inputs of a flag for weights: a file and the configs beside it, or a folder."""
    yield f"{flag}={value}", value
    if value is not None and os.path.isfile(value):
        for name in (*_BESIDE, f"{Path(value).stem}.tokenizer.json"):
            beside = Path(value).with_name(name)
            yield f"{beside}, which is read with {flag}={value}", beside


def begins(path: Path, *starts: bytes) -> bool:
    """Whether a file is empty or begins with one of `starts`."""
    try:
        with open_regular(path) as file:
            head = file.read(max(map(len, starts)))
    except (OSError, UserError):
        return False
    return not head or head.startswith(starts)


def is_measurement(path: Path) -> bool:
    """Whether a file is empty or the result of a benchmark, which names the machine."""
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
            raise UserError(f"{output.shown}: is {first.shown} too; give each a name of its own")


def _check_owner(output: Output) -> None:
    """Refuses an output that is a reserved name in a run, records or a served model."""
    if output.belongs:
        return
    below = Path(os.path.realpath(output.path))
    for folder in (below, *below.parents) if output.folder else below.parents:
        # casefold: a name may be the same on a disk that ignores case
        first = "".join(below.relative_to(folder).parts[:1]).casefold()
        # even as a whole, records are written by their builder only
        for marks, what, names in _KINDS[:1] if output.whole and not first else _KINDS:
            if not all(os.path.lexists(folder / mark) for mark in marks):
                continue
            if not names or not first or any(fnmatchcase(first, name) for name in names):
                raise UserError(
                    f"{output.shown}: is a place of {what} in {printable(str(folder))}; give "
                    "another name"
                )


def place_of(path: Path) -> tuple:
    """The identity of a path, existing or not: the same for every spelling."""
    there, names = Path(os.path.realpath(path)), []
    while (found := _identity(there)) is None and there != there.parent:
        names.append(there.name)
        there = there.parent
    if names and _ignores_case(there):
        names = [folded(name) for name in names]
    return (found, *names)


def _identity(path: str | os.PathLike) -> tuple[int, int] | None:
    """Device and inode of a file or folder; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _ignores_case(folder: Path) -> bool:
    """Whether an existing folder is on a case-insensitive disk."""
    for part in (folder, *folder.parents):
        other = part.name.swapcase()
        if other != part.name:
            return _identity(part.with_name(other)) == _identity(part)
    return False
