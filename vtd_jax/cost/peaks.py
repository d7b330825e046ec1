"""Peak FLOP/s and memory bandwidth of devices from their vendors' data sheets."""

import re
from collections.abc import Mapping
from typing import NamedTuple

# dtypes of the towers, each a field of `Peak`
DTYPES = ("bfloat16", "float32")
# bfloat16 products of which a TPU makes one float32 product at `Precision.HIGHEST`
_PASSES = 6


class Peak(NamedTuple):
    """What one device of JAX reaches at most.

    Attributes:
      bfloat16: dense FLOP/s in matrix products of bfloat16.
      float32: the same in matrix products of float32 at `Precision.HIGHEST`, as ours are.
      bandwidth: bytes/s of the device's memory.
    """

    bfloat16: float
    float32: float
    bandwidth: float


def _tpu(bfloat16: float, bandwidth: float) -> Peak:
    """A TPU: it has no float32 products, XLA adds up six of bfloat16 (`_PASSES`)."""
    return Peak(bfloat16, bfloat16 / _PASSES, bandwidth)


# TPUs: Google's pages (docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, tpu7x), for one chip. A
# TPU7x chip has 2307 TFLOP/s and 7380 GB/s, but JAX sees its two chiplets as two devices ("Dual-
# chiplet architecture" on its page). GPUs: NVIDIA's data sheets, SXM variants, without sparsity;
# float32 outside the tensor cores, as `Precision.HIGHEST` excludes TF32. The V100 has float16, not
# bfloat16; the A100 is the one with 80 GB (1555 GB/s with 40 GB). Blackwell: the table in NVIDIA's
# architecture brief; B100 and B200 are an eighth of their HGX boards, GB200 half of a superchip.
DEVICES: Mapping[str, Peak] = {
    "v4": _tpu(275e12, 1228e9),
    "v5e": _tpu(197e12, 819e9),
    "v5p": _tpu(459e12, 2765e9),
    "v6e": _tpu(918e12, 1638e9),
    "TPU7x": _tpu(2307e12 / 2, 7380e9 / 2),
    "V100": Peak(125e12, 15.7e12, 900e9),
    "A100": Peak(312e12, 19.5e12, 2039e9),
    "H100": Peak(989e12, 67e12, 3350e9),
    "H200": Peak(989e12, 67e12, 4800e9),
    "L4": Peak(121e12, 30.3e12, 300e9),
    "B100": Peak(1750e12, 60e12, 8000e9),
    "B200": Peak(2250e12, 75e12, 8000e9),
    "GB200": Peak(2500e12, 80e12, 8000e9),
}
# JAX's `device_kind` -> key of `DEVICES`
_TPUS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "TPU7x",
}


def known_device(kind: str) -> str | None:
    """The key of `DEVICES` for JAX's `device_kind`; None if unknown, as for PCIe and NVL cards."""
    if kind in _TPUS:
        return _TPUS[kind]
    if re.search("pcie|nvl", kind, re.IGNORECASE):
        return None
    found = re.search(r"\b(V100|A100|H100|H200|L4|B100|B200|GB200)\b", kind)
    return found[1] if found else None


def float32_note(device: str) -> str:
    """How a key of `DEVICES` multiplies float32 at `Precision.HIGHEST`, after "the peak"."""
    if device in _TPUS.values():
        return "divided by the six bfloat16 passes of a float32 product"
    return "outside the tensor cores, which would round to TF32"
