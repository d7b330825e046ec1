"""Paths that orbax and TensorStore can use, whatever the name of the folder."""

import atexit
import functools
import re
import tempfile
from pathlib import Path

from vtd_jax.files import remove_tree

# glob patterns, a URL's scheme, another system's separator, and bytes that are not UTF-8
_SPECIAL = re.compile(r"[][*?\\:\ud800-\udfff]")


def plain(folder: Path) -> Path:
    """The folder's absolute path, or where that has special characters a temporary link to it."""
    folder = folder.resolve()
    return _linked(folder) if _SPECIAL.search(str(folder)) else folder


@functools.lru_cache(maxsize=64)
def _linked(folder: Path) -> Path:
    temporary = Path(tempfile.mkdtemp(prefix="vtd_jax_"))
    atexit.register(remove_tree, temporary, must=False)
    link = temporary / "folder"
    link.symlink_to(folder, target_is_directory=True)
    return link
