"""What is the same for all videos of a call, and what stands for one that cannot be read."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float32

from vtd_jax.errors import UserError
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.printable import utf8


class Failure(NamedTuple):
    """A video that could not be read, in the place of its result: which, and what is wrong with it."""

    video: str
    error: UserError

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, as results are."""
        return {"video": utf8(self.video), "error": str(self.error)}


def check_on_error(on_error: str) -> None:
    """Refuses what is neither of the two."""
    if on_error not in ("raise", "return"):
        raise UserError(
            f'on_error={on_error!r}: expected "raise", or "return" for a Failure in the place of '
            "a result"
        )


class Job(NamedTuple):
    """What is the same for all videos of a stream.

    Attributes:
      labels, codebook: that classify.
      words: that name frames where the labels do not; else None.
      naming: that name frames, labels or not; only explaining needs it.
      runner_ups: None where nothing is explained.
    """

    labels: tuple[str, ...]
    codebook: Float32[Array, "k d"]
    words: Vocabulary | None
    naming: Vocabulary | None
    runner_ups: int | None
