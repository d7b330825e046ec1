"""A folder that is written into for hours: whether it is still there."""

import contextlib
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.files import remove_tree


class Place:
    """A folder that is written into for hours, and whether it is still the one it was.

    The folder is kept open: file systems that number folders as they are asked for keep its number
    meanwhile.
    """

    def __init__(self, workdir: Path):
        self.workdir = Path(workdir)
        self._open = os.open(self.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._open)

    def check(self, files: Sequence[str] = ()) -> None:
        """Asks whether the folder, and what should be in it, is there.

        Raises:
          UserError: it was removed or moved, another one is in its place, or one of the files is
            missing.
        """
        mine = os.fstat(self._open)
        try:
            there = self.workdir.stat()
        except OSError:
            raise self.lost() from None
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise self.lost("was removed or moved, and another folder is in its place,")
        for name in files:
            if not (self.workdir / name).exists():
                raise UserError(
                    f"{self.workdir / name}: was removed while the run was writing; the same "
                    "command resumes from what is left"
                )

    def lost(self, what: str = "was removed or moved") -> UserError:
        """The error of a folder that went, or lost all that was in it."""
        return UserError(
            f"{setting('workdir', self.workdir)}: {what} while the run was writing into it; what "
            "was not "
            "saved before is lost; the same command resumes from the checkpoints that are there, "
            "or starts again"
        )


def names_in(workdir: Path) -> set[str]:
    """The files of a run, by name, but for those that come and go; its checkpoints are a folder,
    and not among them.
    """
    return {
        entry.name
        for entry in os.scandir(workdir)
        if entry.is_file() and not entry.name.startswith(".")
    }


def remove_remains(folder: Path, mine: set[str]) -> None:
    """Removes the workdir around a folder of checkpoints, where it holds only that, with only what
    is being written.

    Such a one was made by the writing itself, after the workdir was removed: one with anything else
    in it is left.
    """
    with contextlib.suppress(OSError):
        there = {path.name.partition(".orbax-checkpoint-tmp")[0] for path in folder.iterdir()}
        # a link was made by somebody else
        alone = os.listdir(folder.parent) == [folder.name] and not folder.parent.is_symlink()
        if alone and there <= mine:
            remove_tree(folder.parent)
