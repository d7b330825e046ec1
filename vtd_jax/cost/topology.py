"""Devices that need not be there: TPU topologies that libtpu describes, and stand-ins to lower for
GPUs with.
"""

import contextlib
import functools
import importlib.util
import os
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from vtd_jax.errors import UserError, setting

GIB = 2**30
# libtpu reads these when it is loaded: ask no metadata server, write no logs, let other processes
# compile as well
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# side of a matrix of bfloat16 that no chip holds
_TOO_LARGE = 300_000


class Target(NamedTuple):
    """What programs are made for.

    Attributes:
      name: in tables, "v5e:2x4" or "8 × cuda".
      platform: "tpu" or "cuda".
      devices: hosts in their order, those of a host together.
      memory: bytes a device has for a program; None where that is not known.
    """

    name: str
    platform: str
    devices: tuple[jax.Device, ...]
    memory: int | None


def tpu_target(topology: str) -> Target:
    """A TPU that is only described, "GENERATION:SHAPE"; needs libtpu, and no TPU.

    Raises:
      UserError: libtpu is not installed, or knows no such topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"{setting('topology', topology)}: libtpu is not installed; `make aot` makes an "
            "environment "
            "that has it, or run pip install -e '.[aot]' in one of its own"
        )
    os.environ.update(_LIBTPU)
    on_cpu()
    try:
        devices = topologies.get_topology_desc(topology, "tpu").devices
    except Exception as error:
        raise UserError(
            f"{setting('topology', topology)}: {first_line(error)}; expected GENERATION:SHAPE, as "
            "v5e:2x4, "
            "v6e:4x4 or v5p:2x2x2"
        ) from None
    devices = tuple(sorted(devices, key=lambda device: (device.process_index, device.id)))
    return Target(topology, "tpu", devices, _usable_memory(devices[0].device_kind, devices[0]))


def cuda_target(count: int) -> Target:
    """`count` simulated devices, to lower for as many GPUs; the largest count must come first in a
    process.

    Raises:
      UserError: this process has started with fewer.
    """
    on_cpu()
    # refused where devices are there already; whether they are enough is seen below
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)
    devices = tuple(jax.devices("cpu"))
    if len(devices) < count:
        raise UserError(
            f"{setting('devices', count)}: this process simulates {len(devices)} only; start it "
            "again with "
            f"{count}"
        )
    return Target(f"{count} × cuda", "cuda", devices[:count], None)


def on_cpu() -> None:
    """Keeps JAX from looking for accelerators, and from storing programs that it could not load
    again.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


def refused(error: Exception) -> tuple[int, int] | None:
    """(bytes a program needs, bytes there are), read off XLA's refusal to compile it; None for any
    other error.
    """
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
    """What XLA says a chip has, when it is asked for a program that is too large for any."""
    matrix = jax.ShapeDtypeStruct(
        (_TOO_LARGE, _TOO_LARGE), jnp.bfloat16, sharding=SingleDeviceSharding(device)
    )
    try:
        jax.jit(lambda x: jnp.sin(x @ x) @ x).lower(matrix).compile()
    except jax.errors.JaxRuntimeError as error:
        found = refused(error)
        if found is not None:
            return found[1]
        raise UserError(f"{kind}: libtpu does not tell its memory: {first_line(error)}") from None
    raise UserError(
        f"{kind}: libtpu does not tell its memory: a program of {_TOO_LARGE}² numbers was accepted"
    )
