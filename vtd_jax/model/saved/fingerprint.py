"""Fingerprints of a model's arrays."""

import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from vtd_jax.fingerprints import fingerprint_all, same


def weights_fingerprint(state: nnx.State) -> str:
    """The fingerprint of all arrays of a state.

    The layout of a tower's blocks does not matter: stacked ones are read layer by layer, like a
    list.
    """
    return fingerprint_all(part for name, array in _by_layer(state) for part in (f"{name} ", array))


def legacy_weights_fingerprint(state: nnx.State) -> str:
    """Eight hex digits, a CRC-32 of all arrays: the fingerprint of earlier versions."""
    found = 0
    for _, array in _by_layer(state):
        found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return f"{found:08x}"


def are_weights(noted: str, state: nnx.State) -> bool:
    """Whether a fingerprint, of this or an earlier version, is that of a state's arrays."""
    return same(noted, weights_fingerprint(state), legacy=lambda: legacy_weights_fingerprint(state))


def _by_layer(state: nnx.State) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays, in the order of their paths in a model whose blocks are lists."""
    for parts, array in sorted(_flat(state), key=lambda found: found[0]):
        yield ".".join(str(part) for _, part in parts), array


def _flat(state: nnx.State) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    for path, variable in nnx.to_flat_state(state):
        array = jax.device_get(variable[...])
        # numbers sort as numbers, and before names
        parts = tuple((isinstance(part, str), part) for part in path)
        place = path.index("blocks") + 1 if "blocks" in path else None
        if place is None or isinstance(path[place], int):
            yield parts, array
            continue
        for layer, one in enumerate(array):
            yield (*parts[:place], (False, layer), *parts[place:]), one
