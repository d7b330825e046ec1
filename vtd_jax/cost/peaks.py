"""What devices can do at most, by their vendors' data sheets."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Peak(NamedTuple):
    """Dense FLOP/s of one device in matrix products, by the type that the towers compute in."""

    bfloat16: float
    float32: float


# Google's pages of the TPU versions, one chip. JAX multiplies float32 there in one bfloat16 pass by
# default, so the bfloat16 peak stands for both. NVIDIA's data sheets, SXM where there is a choice,
# without sparsity; float32 outside the tensor cores (XLA may use TF32, which is faster). The V100's
# tensor cores take float16, and no bfloat16.
DEVICES: Mapping[str, Peak] = {
    "v4": Peak(275e12, 275e12),
    "v5e": Peak(197e12, 197e12),
    "v5p": Peak(459e12, 459e12),
    "v6e": Peak(918e12, 918e12),
    "V100": Peak(125e12, 15.7e12),
    "A100": Peak(312e12, 19.5e12),
    "H100": Peak(989e12, 67e12),
    "H200": Peak(989e12, 67e12),
    "L4": Peak(121e12, 30.3e12),
}
# as JAX calls them
_TPUS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
}


def known_device(kind: str) -> str | None:
    """The key of `DEVICES` for JAX's `device_kind`; None where its peak is not known (as of PCIe
    and NVL cards).
    """
    if kind in _TPUS:
        return _TPUS[kind]
    if "PCIe" in kind or "NVL" in kind:
        return None
    found = re.search(r"\b(V100|A100|H100|H200|L4)\b", kind)
    return found[1] if found else None
