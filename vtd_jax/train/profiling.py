"""A trace of chosen steps, for TensorBoard's profile plugin."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vtd_jax.errors import UserError, setting

FOLDER = "profile"


def read_steps(value: str) -> tuple[int, int] | None:
    """Reads `10:15`, the steps from 10 to 15, counted from 1; None for "".

    Raises:
      UserError: any other text.
    """
    if not value:
        return None
    first, colon, last = value.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(
            f"{setting('profile', value)}: expected FIRST:LAST, steps counted from 1, e.g. 10:15"
        )
    return int(first), int(last)


class Profile:
    """Traces a range of steps."""

    def __init__(self, steps: tuple[int, int] | None, workdir: Path, log: Callable[[str], None]):
        """
        Args:
          steps: the first and the last step, counted from 1; None traces nothing.
          workdir: gets the trace.
          log: called with one line at the end.
        """
        self._steps, self._folder, self._log = steps, Path(workdir) / FOLDER, log
        self._begun: int | None = None
        self._last, self._pending = 0, None

    def before(self, step: int) -> None:
        """Call before step number `step`, from 1."""
        if self._steps and self._begun is None and self._steps[0] <= step <= self._steps[1]:
            jax.block_until_ready(self._pending)
            jax.profiler.start_trace(str(self._folder))
            self._begun = step

    def after(self, step: int, results: Any) -> None:
        """Call after step number `step` was dispatched; `results` are its outputs."""
        if self._steps is None:
            return
        self._last, self._pending = step, results
        if self._begun is not None and step >= self._steps[1]:
            self.close()

    def close(self) -> None:
        """Ends the trace and logs what was traced; a second call does nothing."""
        if self._steps is None:
            return
        if self._begun is None:
            self._log(
                f"{setting('profile', f'{self._steps[0]}:{self._steps[1]}')}: none of these steps "
                "was run, nothing traced"
            )
        else:
            jax.block_until_ready(self._pending)
            jax.profiler.stop_trace()
            self._log(f"profile: steps {self._begun} to {self._last} traced into {self._folder}")
        self._steps = None
