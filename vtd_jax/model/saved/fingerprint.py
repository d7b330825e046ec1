"""Telling models apart by their numbers."""

import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx


def weights_fingerprint(state: nnx.State) -> str:
    """Eight hex digits of all arrays of a state: two models (or CLIPs) of one architecture are told
      apart by it.

    The layout of a tower's blocks does not matter: stacked ones are taken layer by layer, as a list
    of them is.
    """
    digest = 0
    for _, leaf in sorted(_by_layer(state), key=lambda found: found[0]):
        digest = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), digest)
    return f"{digest:08x}"


def _by_layer(state: nnx.State) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """Arrays by their paths in a model whose blocks are lists."""
    for path, variable in nnx.to_flat_state(state):
        array = jax.device_get(variable[...])
        parts = tuple((isinstance(part, str), part) for part in path)
        place = path.index("blocks") + 1 if "blocks" in path else None
        if place is None or isinstance(path[place], int):
            yield parts, array
            continue
        for layer, one in enumerate(array):
            yield (*parts[:place], (False, layer), *parts[place:]), one
