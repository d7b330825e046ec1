"""Tensors of a checkpoint before they are read."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class LazyTensor(NamedTuple):
    """A tensor of a checkpoint before it is read: its shape, a call that gives it as float32, and
    the dtype that it is stored in where that is known ("f4", "f2", "bfloat16", …)."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    dtype: str = ""
