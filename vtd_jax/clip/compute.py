"""Settings of a computation that change its cost and never its results."""

import dataclasses

import jax

# of JAX's platforms; every other one computes as a CPU does
_DEVICES = {"cuda": "gpu", "rocm": "gpu", "gpu": "gpu", "tpu": "tpu"}


@dataclasses.dataclass(frozen=True)
class Compute:
    """How features are computed. Results are the same up to rounding, whatever is chosen.

    Attributes:
      plain: compute every position in every layer, as the formulas say. Tests and benchmarks
        compare with it; otherwise only what can reach the result is computed.
      remat: what the backward pass computes again: "none" (no product), "block" (everything inside
        a transformer block) or "dots" (everything but the products that it needs: queries, keys,
        values, the sum after attention, what the MLP's activation takes).
      frame_chunks: equal parts of a video's frames that are encoded one after another. The backward
        pass computes all of each part again.
      attention: "xla", "pallas" (a TPU's kernels), "cudnn" (a GPU's) or "auto", which takes the
        device's own kernels where they accept the tower.
      platform: that the program is for, "cpu", "gpu", "cuda", "rocm" or "tpu"; None for the one
        that JAX uses.
      interpret: run the kernels' operations without their device, slowly, for tests.
    """

    plain: bool = False
    remat: str = "none"
    frame_chunks: int = 1
    attention: str = "auto"
    platform: str | None = None
    interpret: bool = False

    @property
    def device(self) -> str:
        """The kind of device that layouts are chosen for: "cpu", "gpu" or "tpu"."""
        return _DEVICES.get(self.platform or jax.default_backend(), "cpu")


DEFAULT = Compute()
