"""Where things are kept that can be computed again: text features, frame features, compiled programs."""

import os
from pathlib import Path

VARIABLE = "VTD_JAX_CACHE"


def cache_folder(given: str | os.PathLike | None = None) -> Path:
    """The folder `given`, else `$VTD_JAX_CACHE`, else `~/.cache/vtd_jax`; it need not be there, and may be deleted."""
    return Path(given or os.environ.get(VARIABLE) or Path("~", ".cache", "vtd_jax")).expanduser()
