"""What a computation runs on, in words."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax


def device_told(devices: Sequence[Any] | None = None) -> str:
    """`cpu`, `gpu NVIDIA H100 80GB HBM3`, `8 × tpu TPU v5 lite`.

    Args:
      devices: JAX's, that are used; all of this process if not given.
    """
    kinds = Counter(map(_kind, jax.local_devices() if devices is None else devices))
    return ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in kinds.items())


def _kind(device: Any) -> str:
    # a CPU is of the kind "cpu"
    same = device.device_kind.lower() == device.platform
    return device.platform if same else f"{device.platform} {device.device_kind}"
