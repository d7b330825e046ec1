"""The command `vtd`: finds the commands, and runs the one that is named.

They are in the wheel, or in the checkout that this package is a folder of.
"""

import importlib
import sys
from pathlib import Path


def folder_of_commands() -> Path:
    """The folder that has `experiments` and `data`."""
    package = Path(__file__).resolve().parents[1]
    bundled = package / "_bundled"
    return bundled if bundled.is_dir() else package.parent


def main() -> None:
    """Runs `vtd`."""
    # first: a folder `experiments` of somebody else's must not be found instead
    sys.path.insert(0, str(folder_of_commands()))
    importlib.import_module("experiments.common.dispatch").main("vtd")


if __name__ == "__main__":
    main()
