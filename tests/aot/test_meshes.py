"""Meshes over slices of TPUs as libtpu describes them (`make aot`)."""

import itertools

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from vtd_jax.cost.topology import tpu_target
from vtd_jax.parallel.arrangement import AXIS_TYPES, arrange
from vtd_jax.parallel.mesh import DeviceMesh

SLICES = (
    "v5e:2x4",
    "v5e:4x4",
    "v5e:16x16",
    "v6e:2x4",
    "v6e:4x4",
    "v5p:2x2x2",
    "v5p:4x4x4",
    "v4:2x2x2",
    "v4:2x2x4",
)


@pytest.fixture(scope="module", autouse=True)
def flags_of_libtpu():
    """libtpu ends the process at flags that are for XLA's CPU backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS", raising=False)
        yield


def described(topology):
    """The devices of a slice, host by host."""
    devices = tpu_target("v5e:2x4" if topology.startswith("v4") else topology).devices
    if topology.startswith("v4"):
        # as JAX has them where there is such a TPU: a device a chip
        found = topologies.get_topology_desc(topology, "tpu", chip_config_name="megacore").devices
        devices = tuple(sorted(found, key=lambda device: (device.process_index, device.id)))
    return devices


def steps(devices):
    """How many links apart each device is from the next one, without links around the torus."""
    return [
        sum(abs(a - b) for a, b in zip(one.coords, other.coords, strict=True))
        for one, other in itertools.pairwise(devices)
    ]


@pytest.mark.parametrize("topology", SLICES)
def test_the_order_is_that_of_make_mesh(topology):
    devices = described(topology)
    chosen = jax.make_mesh(
        (len(devices), 1), ("data", "codebook"), axis_types=AXIS_TYPES, devices=devices
    )
    mesh = DeviceMesh(devices)
    assert mesh.mesh == chosen
    assert mesh.mesh.axis_types == AXIS_TYPES
    # which is not that of hosts
    assert list(mesh.mesh.devices.flat) != list(devices)
    # but pmap's is
    hosts = [device.process_index for device in mesh.devices]
    assert hosts == sorted(hosts)


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("topology", SLICES)
def test_a_copy_of_the_codebook_is_within_a_host(topology, shards):
    devices = described(topology)
    grid = arrange(devices, shards)
    assert grid.shape == (len(devices) // shards, shards)
    assert set(grid.flat) == set(devices)
    assert all(len({device.process_index for device in row}) == 1 for row in grid)
    # two devices with one codebook have a link between them, four are a square of 2 × 2 chips
    assert all(max(steps(row), default=0) <= shards // 2 for row in grid)


@pytest.mark.parametrize("topology", ["v5e:4x4", "v6e:4x4"])
def test_small_slices_are_rings(topology):
    grid = arrange(described(topology), 1)
    assert set(steps([*grid.flat, grid[0, 0]])) == {1}


def test_large_slices_are_rows_of_the_torus():
    grid = arrange(described("v5e:16x16"), 1)
    assert all(set(steps(row)) == {1} for row in np.reshape(grid, (16, 16)))
