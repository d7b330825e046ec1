"""The order of devices in a mesh, by what JAX knows of how they are connected."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType

# `shard_map` decides what is split; GSPMD's propagation and explicit shardings have no part in it
AXIS_TYPES = (AxisType.Auto, AxisType.Auto)
# what JAX raises for a shape that the torus does not divide into, for devices that are no box (some
# of a slice, or single cores of a v4), and for slices of unequal size
_UNARRANGED = (NotImplementedError, AssertionError, ValueError)


def arrange(devices: Sequence[Any], codebook_shards: int) -> np.ndarray:
    """Devices as a grid, data × codebook, in the order in which JAX would lay out a mesh.

    Every row lies within one host, which holds a whole copy of the codebook. Rows of a host need
    not be adjacent: a ring over a slice of TPUs may pass through a host twice.

    Args:
      devices: `jax.Device`s, or described ones, host by host, as many of each.
      codebook_shards: S, a divisor of the devices of a host.

    Returns:
      An array of devices `[len(devices) / S, S]`.
    """
    grid = _by_topology(devices, codebook_shards)
    if all(len({device.process_index for device in row}) == 1 for row in grid):
        return grid
    # JAX puts the codebook axis along the torus, across hosts: each host by itself instead
    hosts: dict[int, list[Any]] = {}
    for device in _by_topology(devices, 1).flat:
        hosts.setdefault(device.process_index, []).append(device)
    return np.concatenate([_by_topology(group, codebook_shards) for group in hosts.values()])


def _by_topology(devices: Sequence[Any], codebook_shards: int) -> np.ndarray:
    """The grid as JAX chooses it; in the given order where it has no choice of its own."""
    shape = (len(devices) // codebook_shards, codebook_shards)
    # slices of TPUs, or GPUs with NVLink between them; not every backend has the attribute
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    try:
        if slices > 1:
            return mesh_utils.create_hybrid_device_mesh(
                (shape[0] // slices, codebook_shards),
                (slices, 1),
                devices,
                allow_split_physical_axes=True,
            )
        return _of_one_slice(devices, shape)
    except _UNARRANGED:
        grid = np.empty(len(devices), object)
        grid[:] = devices
        return grid.reshape(shape)


def _of_one_slice(devices: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
    try:
        return jax.make_mesh(
            shape, ("data", "codebook"), axis_types=AXIS_TYPES, devices=devices
        ).devices
    except NotImplementedError:
        # no side of the torus has the length of an axis; `make_mesh` splits a side on a v5e only
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
