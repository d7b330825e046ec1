"""Limits that real files may meet, and what raises them: a flag, or an environment variable.

A flag of a command sets the variable, so that the processes that it starts (the workers of a build,
the readers of training) have the same limits.
"""

import os
from dataclasses import dataclass

from vtd_jax.errors import UserError, setting
from vtd_jax.untrusted import limits


@dataclass(frozen=True)
class Limit:
    """A limit that a flag or an environment variable changes.

    Attributes:
      flag: name of the flag; the variable is VTD_JAX_ and this in capitals.
      default: what holds if neither is given.
      what: is limited, in a few words.
    """

    flag: str
    default: int
    what: str

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return f"VTD_JAX_{self.flag.upper()}"

    @property
    def value(self) -> int:
        """What holds now.

        Raises:
          UserError: the variable is no whole number above 0.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text)):
            raise UserError(f"{self.variable}={text!r}: expected a whole number above 0")
        return int(text)

    @property
    def remedy(self) -> str:
        """How to raise it, for a message."""
        return f"{setting(self.flag, 'N')} or {self.variable}=N raises the limit"

    def set(self, value: int | None) -> None:
        """Sets it for this process and those that it starts; None leaves it as it is."""
        if value is not None:
            os.environ[self.variable] = str(value)


MAX_FRAME_PIXELS = Limit("max_frame_pixels", limits.FRAME_PIXELS, "most pixels of a frame")
MAX_VIDEO_PIXELS = Limit(
    "max_video_pixels", limits.VIDEO_PIXELS, "most pixels of all frames of a small file"
)
MAX_MOMENTS = Limit(
    "max_moments", limits.MOMENTS, "most moments of the timeline of a video of few frames"
)
RAISED = (MAX_FRAME_PIXELS, MAX_VIDEO_PIXELS, MAX_MOMENTS)
