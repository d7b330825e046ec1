"""A stand-in for `jaxtyping` on machines with nothing but jax, flax, optax and numpy.

Import this before anything of `vtd_jax`. Annotations of shapes are then ignored.
"""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import jax

_NAMES = [
    "Bool",
    "Float",
    "Float16",
    "Float32",
    "Float64",
    "Int",
    "Int32",
    "Int64",
    "Key",
    "Num",
    "Shaped",
    "UInt8",
    "UInt32",
]


class _Annotation:
    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        # `Float[Array, "b t d"]` means no more than `Array`
        return item[0]


def stand_in() -> ModuleType:
    """A module with the names of `jaxtyping` that this package uses."""
    module = ModuleType("jaxtyping")
    module.Array = jax.Array
    for name in _NAMES:
        setattr(module, name, type(name, (_Annotation,), {}))
    return module


if importlib.util.find_spec("jaxtyping") is None:
    sys.modules["jaxtyping"] = stand_in()
