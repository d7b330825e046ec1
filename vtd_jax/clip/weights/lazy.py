"""Tensors of a checkpoint before they are read."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class LazyTensor(NamedTuple):
    """Shape, a call that reads it as float32, and the stored dtype ("f4", "bfloat16") if known."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = ""


def transposed(tensor: LazyTensor) -> LazyTensor:
    """With its axes in reverse order."""
    return LazyTensor(tensor.shape[::-1], lambda: np.ascontiguousarray(tensor.read().T))
