"""Trees of arrays as flat mappings from dotted paths, and back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.printable import listed


def flatten_arrays(tree: Any) -> dict[str, np.ndarray]:
    """A tree of arrays as dotted path -> NumPy array."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    # nnx wraps every array in a variable, whose attribute is not part of the name
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for path, _ in leaves
    ]
    return {name: np.asarray(leaf) for name, (_, leaf) in zip(names, leaves)}


def unflatten_arrays(template: Any, arrays: Mapping[str, Any], where: str) -> Any:
    """The inverse of `flatten_arrays`, in the structure of `template`.

    Raises:
      UserError: other names or shapes than in the template: a checkpoint of other settings.
    """
    expected = flatten_arrays(template)
    wrong = sorted(set(expected) ^ set(arrays))
    wrong += [
        f"{key} {np.shape(arrays[key])} instead of {value.shape}"
        for key, value in expected.items()
        if key in arrays and np.shape(arrays[key]) != value.shape
    ]
    if wrong:
        raise UserError(
            f"{where}: another run's checkpoint, these arrays differ: {listed(wrong, 4)}"
        )
    leaves = [
        np.asarray(arrays[key]).astype(value.dtype, copy=False) for key, value in expected.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)
