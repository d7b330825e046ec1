"""Settings of a computation that change its cost and never its results."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Compute:
    """How features are computed. Results are the same up to rounding, whatever is chosen.

    Attributes:
      plain: compute every position in every layer, as the formulas say. Tests and benchmarks
        compare with it; otherwise only what can reach the result is computed.
      remat: what the backward pass computes again: "none", "block" (everything inside a transformer
        block) or "dots" (everything but matrix products).
      frame_chunks: equal parts of a video's frames that are encoded one after another. The backward
        pass computes all of each part again.
    """

    plain: bool = False
    remat: str = "none"
    frame_chunks: int = 1


DEFAULT = Compute()
