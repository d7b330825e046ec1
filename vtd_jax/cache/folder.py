"""Whether others could have written to the cache folder, whose features decide results."""

import os
import stat
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, cache_folder


def check_ours(folder: Path) -> None:
    """Checks that no other user can write features to a folder, since results depend on them.

    The user's own links are followed, for example to a larger disk.

    Args:
      folder: the cache folder, one below it, or one that replaces it; it may be missing.

    Raises:
      UserError: it, or one between it and the cache folder, belongs to another user or can be
        written by everybody.
    """
    if not hasattr(os, "getuid"):
        return
    folder, root = folder.absolute(), cache_folder().absolute()
    above = [parent for parent in folder.parents if parent.is_relative_to(root)]
    for part in (folder, *above):
        if os.path.exists(part):
            owners, mode = {os.lstat(part).st_uid, os.stat(part).st_uid}, os.stat(part).st_mode
            # root can write everywhere anyway
            strange = sorted(owners - {os.getuid(), 0})
            why = f"it belongs to user {strange[0]}" if strange else "everybody can write into it"
            if strange or mode & stat.S_IWOTH:
                raise UserError(
                    f"{part}: others could have put features there, which decide results ({why}); "
                    f"remove it, make it yours alone (chmod go-w), or set {CACHE_VARIABLE} to "
                    "another folder"
                )


def why_not_ours(folder: Path) -> str:
    """Why others could have put code into a folder; "" if only this user could.

    The folder and the two above it, up to the cache folder, must belong to this user and be
    not be writable by others; the lower two must not be links. Folders further up must not be
    writable by everybody, unless they are sticky like `/tmp`.

    Args:
      folder: of the programs of one kind of machine, `CACHE/programs/KIND`; it exists.
    """
    # systems without owners have nothing to check
    if not hasattr(os, "getuid"):
        return ""
    folder = folder.absolute()
    root = folder.parent.parent
    for link in (folder, folder.parent):
        if link.is_symlink():
            return f"{link} is a link"
    for own in (folder, folder.parent, root):
        status = own.stat()
        if status.st_uid != os.getuid():
            return f"{own} belongs to user {status.st_uid}, not to {os.getuid()}"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others can write into {own}"
    for above in {*root.parents, *root.resolve().parents}:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"everybody can write into {above}"
    return ""
