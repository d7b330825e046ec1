"""Puts the commands and the data sets' builders into the wheel; pyproject.toml has the rest.

In the checkout they are top-level folders. In site-packages `experiments` and `data` would be in
the way of everyone's own, so they lie in `vtd_jax/_bundled`, which `vtd` puts on the search path.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDERS = ("experiments", "data")


def _files() -> list[Path]:
    """What is bundled, from the root of the checkout."""
    return sorted(
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


class _Bundle(build_py):
    """`build_py` that also copies the commands; an editable install runs those of the checkout."""

    def run(self) -> None:
        """Copies the package, then the commands."""
        super().run()
        if self.editable_mode:
            return
        for file in _files():
            copy = Path(self.build_lib, "vtd_jax", "_bundled", file)
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(ROOT / file), str(copy), preserve_mode=False)

    def get_source_files(self) -> list[str]:
        """For the archive of sources, which must build the same wheel."""
        return [*super().get_source_files(), *map(str, _files())]


setup(cmdclass={"build_py": _Bundle})
