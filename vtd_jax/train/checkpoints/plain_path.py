"""A folder under a path that orbax and TensorStore take as it is, whatever its name."""

import atexit
import functools
import re
import tempfile
from pathlib import Path

from vtd_jax.files import remove_tree

# patterns of glob, what stands before `//`, what is a separator elsewhere, and bytes that are not
# UTF-8
_SPECIAL = re.compile(r"[][*?\\:\ud800-\udfff]")


def plain(folder: Path) -> Path:
    """The folder's absolute path; a link to it, in a folder for temporary files, where that has
    special characters.
    """
    folder = folder.resolve()
    return _linked(folder) if _SPECIAL.search(str(folder)) else folder


@functools.lru_cache(maxsize=64)
def _linked(folder: Path) -> Path:
    place = Path(tempfile.mkdtemp(prefix="vtd_jax_"))
    atexit.register(remove_tree, place, must=False)
    link = place / "folder"
    link.symlink_to(folder, target_is_directory=True)
    return link
