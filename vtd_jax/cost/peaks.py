"""Peak FLOP/s of devices from their vendors' data sheets."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Peak(NamedTuple):
    """Dense FLOP/s of one device in matrix products, by dtype."""

    bfloat16: float
    float32: float


# TPUs: Google's pages, for one chip. JAX multiplies float32 in one bfloat16 pass by default, so
# both have the bfloat16 peak. GPUs: NVIDIA's data sheets, SXM variants, without sparsity; float32
# outside the tensor cores (XLA may use TF32, which is faster). The V100 has float16, not bfloat16.
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
# JAX's `device_kind` -> key of `DEVICES`
_TPUS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
}


def known_device(kind: str) -> str | None:
    """The key of `DEVICES` for JAX's `device_kind`; None if unknown, as for PCIe and NVL cards."""
    if kind in _TPUS:
        return _TPUS[kind]
    if "PCIe" in kind or "NVL" in kind:
        return None
    found = re.search(r"\b(V100|A100|H100|H200|L4)\b", kind)
    return found[1] if found else None
