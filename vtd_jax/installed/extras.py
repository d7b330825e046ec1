"""What only some uses need: the packages of each extra, and the line about one that is missing."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError

# extra -> module that is imported -> its package; `train` brings what `data` has
EXTRAS = {
    "app": {
        "starlette": "starlette",
        "threadpoolctl": "threadpoolctl",
        "uvicorn": "uvicorn",
    },
    "data": {
        "array_record": "array-record",
        "pyarrow": "pyarrow",
        "tensorflow_datasets": "tensorflow-datasets",
    },
    "train": {"grain": "grain", "optax": "optax", "tensorboardX": "tensorboardX"},
    "figures": {"matplotlib": "matplotlib"},
    "hub": {"gcsfs": "gcsfs", "s3fs": "s3fs"},
    "mteb": {"mteb": "mteb"},
    "verify": {"PIL": "pillow", "skimage": "scikit-image"},
}
_BRINGS = {"train": ("train", "data")}


def need(module: str, what: str) -> None:
    """Checks that a module of an extra is installed, before work that ends in it.

    Args:
      module: a key of a group of `EXTRAS`.
      what: needs it; begins the message.

    Raises:
      UserError: it is not installed; names the package and the extra.
    """
    if not _is_installed(module):
        raise UserError(f"{what} needs {missing(module)}")


def missing(module: str, wanted: Sequence[str] = ()) -> str | None:
    """What a message says about a module that is not installed; None for one of no extra.

    Args:
      module: as Python's ImportError names it, `matplotlib.figure` for one.
      wanted: extras of the running command, which are named together if one of them brings it.
    """
    top = module.partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if top in modules), None)
    if extra is None:
        return None
    brought = {one for name in wanted for one in _BRINGS.get(name, (name,))}
    return f"{EXTRAS[extra][top]}: {install(wanted if extra in brought else (extra,))}"


def lacking(extras: Sequence[str]) -> str | None:
    """The first module of these extras that is not installed."""
    groups = (one for extra in extras for one in _BRINGS.get(extra, (extra,)))
    modules = (module for group in groups for module in EXTRAS[group])
    return next((module for module in modules if not _is_installed(module)), None)


def install(extras: Sequence[str]) -> str:
    """The command that installs extras, of the wheel or of the checkout that this runs from."""
    names = ",".join(extras)
    checkout = (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file()
    return f"pip install -e '.[{names}]'" if checkout else f"pip install 'vtd-jax[{names}]'"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        # ValueError: a stand-in of a test, without a spec
        return False
