"""Whether a file is a figure of ours, by the mark that they all have. Needs no matplotlib."""

import os
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.untrusted.regular_files import open_regular

# metadata that marks our figures, and bytes at both ends searched for it
MADE_BY, _ENDS = "vtd_jax figure", 4096


def is_figure(path: Path) -> bool:
    """Whether a file is a figure of this package."""
    try:
        with open_regular(path, "figure") as file:
            head = file.read(_ENDS)
            file.seek(-min(_ENDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return MADE_BY.encode() in head + file.read(_ENDS)
    except (OSError, UserError):
        return False
