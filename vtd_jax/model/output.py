"""What a VTD-CLIP makes of a batch of videos."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class Output(NamedTuple):
    """Logits of a batch of videos, and what led to them.

    Attributes:
      logits: `[B, K]`.
      confidence: `[B, T, K]`, sums to 1 over frames.
      assignment: `[B, T]`, the code that names each frame.
      votes: `[B, K]`.
      video_token: `[B, n, D]`, raw codes, most votes first.
      frame_features: `[B, T, D]`, raw.
      tied: `[B]`, whether several classes have the most votes to rounding (`ties.tied`).
    """

    logits: Float[Array, "b k"]
    confidence: Float[Array, "b t k"]
    assignment: Int[Array, "b t"]
    votes: Float[Array, "b k"]
    video_token: Float[Array, "b n d"]
    frame_features: Float[Array, "b t d"]
    tied: Bool[Array, " b"]
