"""What all videos of a call have in common, and the result for an unreadable video."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float32

from vtd_jax.errors import UserError
from vtd_jax.fields import check_whole
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.printable import brief, utf8
from vtd_jax.video.clip import Clip


@dataclass(frozen=True, eq=False)
class Encoded:
    """A video that is read and encoded.

    Attributes:
      clip: its frames.
      features: of the frames, raw.
    """

    clip: Clip
    features: Float32[np.ndarray, "t d"]


class Failure(NamedTuple):
    """The result for a video that cannot be read.

    Example:
      >>> import vtd_jax
      >>> model = vtd_jax.load("tiny")
      >>> result = model.predict("absent.mp4", ["red", "blue"], on_error="return")
      >>> isinstance(result, vtd_jax.Failure)
      True
      >>> result.to_dict()
      {'video': 'absent.mp4', 'error': 'absent.mp4: there is no such video file'}

    Attributes:
      video: its file, or "frames" for an array.
      error: why it cannot be read.
    """

    video: str
    error: UserError

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, as results are."""
        return {"video": utf8(self.video), "error": str(self.error)}


def check_on_error(on_error: str) -> None:
    """Raises a `UserError` unless this is "raise" or "return"."""
    if not isinstance(on_error, str) or on_error not in ("raise", "return"):
        raise UserError(
            f'on_error={brief(on_error)}: expected "raise", or "return" to get a Failure as a '
            "result"
        )


def check_runner_ups(runner_ups: int | None) -> None:
    """Raises a `UserError` for a number of further words that is out of its range."""
    if runner_ups is not None:
        check_whole("runner_ups", runner_ups, "0 or more", least=0)


class Job(NamedTuple):
    """What all videos of a call have in common.

    Attributes:
      labels: K texts that videos are scored for.
      codebook: the codes of the labels, on the devices.
      vocabulary: the words that name frames; the labels by default.
    """

    labels: tuple[str, ...]
    codebook: Float32[Array, "k d"]
    vocabulary: Vocabulary
