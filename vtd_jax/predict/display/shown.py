"""What a result offers to look at: text, rows, a data frame, a cell, a page and a figure."""

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from vtd_jax.errors import UserError
from vtd_jax.predict.display import rows as tables
from vtd_jax.predict.display import texts

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Shown:
    """Base of all results."""

    # what `rows` makes a row of, by default
    _BY: ClassVar[str] = "label"

    def __repr__(self) -> str:
        return texts.one_line(self)  # pyright: ignore[reportArgumentType]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def rows(self, by: str | None = None) -> list[dict[str, Any]]:
        """The result as rows of a table, each a dict of plain texts and numbers.

        Args:
          by: what a row is: "label" (best first; the default), for an `Explanation` also "frame"
            (word, and numbers for the best label), for a `Timeline` "segment" (the default) or
            "window".

        Raises:
          UserError: another `by`.
        """
        return self._rows(self._BY if by is None else by)

    def to_dataframe(self, by: str | None = None) -> "pandas.DataFrame":
        """`rows` as a data frame of pandas, which must be installed.

        Args:
          by: as for `rows`.

        Raises:
          UserError: as `rows`, or there is no pandas.
        """
        found = self.rows(by)
        try:
            import pandas
        except ImportError:
            raise UserError(
                "to_dataframe() needs pandas: pip install pandas; without it, rows() gives the "
                "same as a list of dicts"
            ) from None
        return pandas.DataFrame(found)

    def plot(self, *, top: int | None = None, title: str = "") -> "Figure":
        """Draws the result; a notebook shows what is returned, its `savefig` saves it.

        Needs matplotlib (the extra `figures`). The figure is not among those of `plt`.

        Args:
          top: most labels shown; None for 5, of a timeline 12.
          title: line above; the video's name for "".

        Raises:
          UserError: there is no matplotlib, or `top` is below 1.
        """
        return _report().figure(self, top, title)

    def save_html(self, path: str | os.PathLike) -> Path:
        """Writes a page that holds everything it shows and fetches nothing; returns its path.

        The page of an `Explanation` or `Timeline` is that of `vtd report`; that of a `Prediction`
        is a table. The file is written whole or not at all. A page of this package is replaced.

        Args:
          path: of the file, which ends in `.html`; its folder is made if missing.

        Raises:
          UserError: another suffix, the name `index.html`, or a file that is no page of this
            package.
        """
        return _report().save(self, path)

    def _repr_html_(self) -> str:
        return _report().notebook_html(self)

    def _lines(self) -> list[str]:
        raise NotImplementedError

    def _rows(self, by: str) -> tables.Rows:
        raise NotImplementedError


def _report() -> ModuleType:
    """What draws results, which stands above them: imported when a result is looked at."""
    from vtd_jax.report import display

    return display
