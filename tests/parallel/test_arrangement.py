"""The order of devices in a mesh, for slices of TPUs and nodes of GPUs that are not there."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils

from vtd_jax.parallel.arrangement import arrange


@dataclasses.dataclass(frozen=True)
class Device:
    """What JAX reads of a device to lay out a mesh."""

    id: int
    process_index: int
    coords: tuple[int, int, int] = (0, 0, 0)
    slice_index: int = 0
    core_on_chip: int = 0
    device_kind: str = "TPU v5 lite"
    platform: str = "tpu"


def tpu_slice(width, height, number=0, first_host=0, kind="TPU v5 lite"):
    """A slice of hosts of 2 × 2 chips, host by host."""
    found = [
        Device(
            100 * number + x + width * y,
            first_host + x // 2 + (width // 2) * (y // 2),
            (x, y, 0),
            number,
            device_kind=kind,
        )
        for y, x in itertools.product(range(height), range(width))
    ]
    return sorted(found, key=lambda device: (device.process_index, device.id))


def ids(grid):
    return [[device.id for device in row] for row in grid]


def hosts(grid):
    return [{device.process_index for device in row} for row in grid]


def test_a_slice_is_in_the_order_of_its_torus():
    grid = arrange(tpu_slice(4, 4), 1)
    ring = [device.coords for device in grid[:, 0]]
    # every chip is next to the one before, and the last one next to the first
    for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) == 1
    # this ring passes through a host more than once
    assert [device.process_index for device in grid.flat][:6] == [0, 0, 1, 1, 1, 1]
    assert len(list(itertools.groupby(device.process_index for device in grid.flat))) > 4


@pytest.mark.parametrize("kind", ["TPU v5 lite", "TPU v6 lite"])
@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("width, height", [(2, 4), (4, 4), (4, 8)])
def test_a_copy_of_the_codebook_is_within_a_host(kind, shards, width, height):
    devices = tpu_slice(width, height, kind=kind)
    grid = arrange(devices, shards)
    assert grid.shape == (len(devices) // shards, shards)
    assert set(grid.flat) == set(devices)
    assert all(len(found) == 1 for found in hosts(grid))


def test_hosts_are_in_the_order_of_the_torus_where_each_is_arranged_by_itself():
    devices = tpu_slice(4, 4)
    # JAX would put the codebook axis along a side of the torus, over two hosts
    assert max(map(len, hosts(mesh_utils.create_device_mesh((4, 4), devices)))) == 2
    assert hosts(arrange(devices, 4)) == [{0}, {1}, {2}, {3}]


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_slices_are_one_after_another(shards):
    first, second = tpu_slice(2, 4), tpu_slice(2, 4, number=1, first_host=2)
    grid = arrange(first + second, shards)
    assert ids(grid) == ids(arrange(first, shards)) + ids(arrange(second, shards))
    assert all(len(found) == 1 for found in hosts(grid))
    # not what is there without JAX's knowledge
    assert [device for row in grid for device in row] != first + second


def test_nodes_of_gpus_are_slices():
    devices = [
        Device(i, i // 4, slice_index=i // 4, device_kind="NVIDIA H100 80GB HBM3", platform="gpu")
        for i in range(8)
    ]
    assert ids(arrange(devices, 2)) == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    "devices",
    [
        tpu_slice(2, 4)[:3],
        tpu_slice(2, 4) + tpu_slice(2, 2, number=1, first_host=2),
        [Device(i, 0, (i // 2, 0, 0), 0, i % 2, "TPU v4") for i in range(8)],
    ],
    ids=["part of a slice", "slices of unequal size", "cores of a v4"],
)
def test_what_jax_cannot_arrange_stays_as_it_is(devices):
    assert [device for (device,) in arrange(devices, 1)] == devices


def test_on_a_cpu_nothing_moves():
    devices = jax.devices()
    np.testing.assert_array_equal(arrange(devices, 1)[:, 0], devices)
