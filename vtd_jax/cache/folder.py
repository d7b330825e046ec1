"""Where things are kept that can be computed again: text features, frame features, compiled
programs.
"""

import errno
import os
import stat
from pathlib import Path

from vtd_jax.errors import UserError

VARIABLE = "VTD_JAX_CACHE"
# of folders that nobody else may write, and of those that nobody else may read either
NOT_WRITABLE, PRIVATE = 0o755, 0o700


def cache_folder(given: str | os.PathLike | None = None) -> Path:
    """The folder `given`, else `$VTD_JAX_CACHE`, else `~/.cache/vtd_jax`; it need not be there, and
    may be deleted.
    """
    return Path(given or os.environ.get(VARIABLE) or Path("~", ".cache", "vtd_jax")).expanduser()


def make_folders(folder: Path, mode: int = NOT_WRITABLE) -> None:
    """Makes a folder and those above it that are missing, all with this mode; one that is there
    stays as it is.

    Raises:
      OSError: one cannot be made, or is no folder.
    """
    missing, above = [], folder
    while not os.path.lexists(above) and above != above.parent:
        missing.append(above)
        above = above.parent
    for part in reversed(missing):
        part.mkdir(mode, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def check_ours(folder: Path) -> None:
    """Refuses features in a folder into which others could have put them: numbers would depend on
      whoever did.

    The user's own links are followed, as to a larger disk.

    Args:
      folder: the cache folder, one below it, or one that was given in its place; there or not.

    Raises:
      UserError: it, or one between it and the cache folder, is another user's, or everybody can
        write into it.
    """
    if not hasattr(os, "getuid"):
        return
    folder, root = folder.absolute(), cache_folder().absolute()
    above = [parent for parent in folder.parents if parent.is_relative_to(root)]
    for part in (folder, *above):
        if os.path.exists(part):
            owners, mode = {os.lstat(part).st_uid, os.stat(part).st_uid}, os.stat(part).st_mode
            strange = sorted(owners - {os.getuid(), 0})
            why = f"it belongs to user {strange[0]}" if strange else "everybody can write into it"
            if strange or mode & stat.S_IWOTH:
                raise UserError(
                    f"{part}: others could have put features there, which decide results ({why}); "
                    f"remove it, make it yours alone (chmod go-w), or set {VARIABLE} to another "
                    "folder"
                )


def why_not_ours(folder: Path) -> str:
    """Why code must not be loaded from a folder: others could have put it there. "" where only its
      owner could.

    It and the two above it, down from the cache folder, must be this user's, writable by nobody
    else, and the lower two no links. Of folders further up, none may be writable by everybody, but
    for one in which everybody can move only what is his (`/tmp`). Systems without owners have
    nothing to check.

    Args:
      folder: of the programs of one kind of machine, `CACHE/programs/KIND`; it is there.
    """
    if not hasattr(os, "getuid"):
        return ""
    folder = folder.absolute()
    root = folder.parent.parent
    for link in (folder, folder.parent):
        if link.is_symlink():
            return f"{link} is a link"
    for own in (folder, folder.parent, root):
        found = own.stat()
        if found.st_uid != os.getuid():
            return f"{own} belongs to user {found.st_uid}, not to {os.getuid()}"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others can write into {own}"
    for above in {*root.parents, *root.resolve().parents}:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"everybody can write into {above}"
    return ""
