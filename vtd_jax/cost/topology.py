"""Devices that are not present: TPU topologies described by libtpu, and stand-ins for GPUs."""

import contextlib
import functools
import importlib.util
import os
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from vtd_jax.errors import UserError, setting
from vtd_jax.installed.extras import install

GIB = 2**30
# libtpu reads these when it is loaded: no metadata server, no logs, and other processes may compile
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# side of a matrix of bfloat16 that no chip holds
_TOO_LARGE = 300_000


# the smallest topology of each kind of TPU that libtpu knows
SMALLEST = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:1x1",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:1x1",
    "TPU7x": "tpu7x:2x2x1",
}


class Target(NamedTuple):
    """Devices to compile programs for.

    Attributes:
      name: in tables, "v5e:2x4" or "8 × cuda".
      platform: "tpu" or "cuda".
      devices: grouped by host.
      memory: bytes that a program may use on a device; None if unknown.
    """

    name: str
    platform: str
    devices: tuple[jax.Device, ...]
    memory: int | None


def tpu_target(topology: str) -> Target:
    """A TPU topology, "GENERATION:SHAPE"; needs libtpu, but no TPU.

    Raises:
      UserError: libtpu is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"{setting('topology', topology)}: libtpu is not installed; `make aot` makes an "
            f"environment with it, or run {install(['aot'])} in a separate one"
        )
    devices = tpu_devices(topology)
    return Target(topology, "tpu", devices, _usable_memory(devices[0].device_kind, devices[0]))


def tpu_devices(topology: str) -> tuple[jax.Device, ...]:
    """The devices of a topology, grouped by host; libtpu must be installed.

    Raises:
      UserError: libtpu knows no such topology.
    """
    os.environ.update(_LIBTPU)
    on_cpu()
    try:
        devices = topologies.get_topology_desc(topology, "tpu").devices
    except Exception as error:
        raise UserError(
            f"{setting('topology', topology)}: {first_line(error)}; expected GENERATION:SHAPE, as "
            "v5e:2x4, v6e:4x4 or v5p:2x2x2"
        ) from None
    return tuple(sorted(devices, key=lambda device: (device.process_index, device.id)))


def one_tpu(kind: str) -> Target | None:
    """One device of a kind of TPU, as `peaks.DEVICES` names it; None without libtpu or for others.

    Of a v4, libtpu makes two devices, its cores; this is one of them.
    """
    if kind not in SMALLEST or importlib.util.find_spec("libtpu") is None:
        return None
    target = tpu_target(SMALLEST[kind])
    return target._replace(name=kind, devices=target.devices[:1])


def cuda_target(count: int) -> Target:
    """`count` simulated devices, to lower programs for as many GPUs.

    Raises:
      UserError: the first call in this process had a smaller count.
    """
    on_cpu()
    # raises if devices are initialized; their number is checked below
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
    devices = tuple(jax.devices("cpu"))
    if len(devices) < count:
        raise UserError(
            f"{setting('devices', count)}: this process simulates {len(devices)} only; start it "
            f"again with {count}"
        )
    return Target(f"{count} × cuda", "cuda", devices[:count], None)


def on_cpu() -> None:
    """Uses no accelerators, and does not cache programs, which could not be loaded again."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    # JAX looks at the setting once, and may have compiled something before
    compilation_cache.reset_cache()


def refused(error: Exception) -> tuple[int, int] | None:
    """(bytes needed, bytes available) from XLA's error that a program is too large; else None."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        return None
    found = re.search(r"\(([\d.]+[KMGT])\) exceeds available HBM \(([\d.]+[KMGT])\)", text)
    found = found or re.search(r"Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm", text)
    return None if found is None else (_bytes(found[1]), _bytes(found[2]))


def first_line(error: Exception) -> str:
    """An error's first line, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")


def _bytes(text: str) -> int:
    return round(float(text[:-1]) * 1024 ** (1 + "KMGT".index(text[-1])))


@functools.lru_cache(maxsize=16)
def _usable_memory(kind: str, device: jax.Device) -> int:
    """Memory of a chip, from XLA's error for a program that is too large for any."""
    matrix = jax.ShapeDtypeStruct(
        (_TOO_LARGE, _TOO_LARGE), jnp.bfloat16, sharding=SingleDeviceSharding(device)
    )
    try:
        jax.jit(lambda x: jnp.sin(x @ x) @ x).lower(matrix).compile()
    except jax.errors.JaxRuntimeError as error:
        found = refused(error)
        if found is not None:
            return found[1]
        raise UserError(f"{kind}: memory unknown to libtpu: {first_line(error)}") from None
    raise UserError(
        f"{kind}: memory unknown to libtpu: it accepts a program of {_TOO_LARGE}² numbers"
    )
