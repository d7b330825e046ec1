"""The folder of a run while the run writes into it: whether it is still there."""

import contextlib
import itertools
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError, setting
from vtd_jax.files import remove_tree


class WorkdirHandle:
    """A folder, which can be checked to be still the same one.

    It is kept open: some file systems give a folder another inode number once nothing uses it.
    """

    def __init__(self, workdir: Path):
        self.workdir = Path(workdir)
        self._open = os.open(self.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._open)

    def check(self, files: Sequence[str] = ()) -> None:
        """Checks that the folder, and these files in it, are still there.

        Raises:
          UserError: it was removed, moved or replaced, or a file is missing.
        """
        mine = os.fstat(self._open)
        try:
            now = self.workdir.stat()
        except OSError:
            raise self.lost() from None
        if not os.path.samestat(now, mine):
            raise self.lost("was removed or moved, and replaced by another folder,")
        for name in files:
            if not (self.workdir / name).exists():
                raise UserError(
                    f"{self.workdir / name}: was removed while the run was writing; the same "
                    "command resumes from the rest"
                )

    def lost(self, what: str = "was removed or moved") -> UserError:
        """The error for a folder that is gone, or lost its contents."""
        return UserError(
            f"{setting('workdir', self.workdir)}: {what} while the run was writing into it; "
            "unsaved steps are lost; the same command resumes from the remaining checkpoints, or "
            "starts again"
        )


def free_path(path: Path) -> Path:
    """The path, or the first of `path_2`, `path_3`, … that does not exist yet."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))


def names_in(workdir: Path) -> set[str]:
    """The names of a run's files, without temporary ones and folders."""
    return {
        entry.name
        for entry in os.scandir(workdir)
        if entry.is_file() and not entry.name.startswith(".")
    }


def remove_remains(folder: Path, mine: set[str]) -> None:
    """Removes the workdir around a folder of checkpoints, if it holds only checkpoints in `mine`.

    Such a workdir was made by orbax, after the run's own was removed.
    """
    with contextlib.suppress(OSError):
        names = {path.name.partition(".orbax-checkpoint-tmp")[0] for path in folder.iterdir()}
        # orbax makes no links
        alone = os.listdir(folder.parent) == [folder.name] and not folder.parent.is_symlink()
        if alone and names <= mine:
            remove_tree(folder.parent)
