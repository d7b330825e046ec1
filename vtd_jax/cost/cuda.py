"""GPUs that are not present: XLA compiles for them from a description, with NVIDIA's compiler."""

import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from jax.experimental import topologies

from vtd_jax.cost.gpus import GPUS
from vtd_jax.cost.topology import Target, first_line, on_cpu
from vtd_jax.errors import UserError, setting

# without a GPU nothing can be tuned by running it, and products in Triton need tuned tile sizes
OPTIONS: Mapping[str, bool | int] = {
    "xla_gpu_autotune_level": 0,
    "xla_gpu_enable_triton_gemm": False,
}
# GPUs of a host: those of NVIDIA's HGX and DGX boards
_HOST = 8
# share of a GPU's memory that JAX allocates (docs.jax.dev, "GPU memory allocation"), and variables
# of the environment for another one, the older name last
_FRACTION = 0.75
# the largest share that leaves CUDA and its libraries enough
MOST = 0.95
FRACTIONS = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


def missing() -> str | None:
    """The first piece of the CUDA compiler that is not installed; None if all are."""
    if not _locations("jax_plugins.xla_cuda13"):
        return "JAX's CUDA plugin"
    toolkits = [Path(folder) / "bin" / "ptxas" for folder in _locations("nvidia.cu13")]
    if not any(file.exists() for file in toolkits) and shutil.which("ptxas") is None:
        return "ptxas"
    return None


def _locations(module: str) -> list[str]:
    """Folders of an installed package; it is not imported."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return []
    return list(spec.submodule_search_locations or ()) if spec else []


def gpu_target(topology: str) -> Target:
    """GPUs of one kind, "KIND:COUNT", as many as 8 on a host; needs the compiler, but no GPU.

    `memory` of a device is what JAX would allocate, see `allocated`.

    Raises:
      UserError: an unknown kind or a wrong count, or the compiler is not installed.
    """
    where = setting("topology", topology)
    found = re.fullmatch(r"([A-Z]\d+):(\d{1,4})", topology, re.ASCII)
    kind, count = (found[1], int(found[2])) if found else ("", 0)
    if kind not in GPUS or not count or (count > _HOST and count % _HOST):
        raise UserError(
            f"{where}: expected KIND:COUNT, as H100:1 or H100:8, of {', '.join(GPUS)}, and above "
            f"{_HOST} GPUs whole hosts of {_HOST}"
        )
    if piece := missing():
        raise UserError(
            f"{where}: {piece} is not installed; `make aot-cuda` makes an environment with the "
            "CUDA compiler"
        )
    on_cpu()
    shape = f"1x{max(count // _HOST, 1)}x{min(count, _HOST)}"
    try:
        described = topologies.get_topology_desc(
            platform="cuda", topology=shape, target_config=GPUS[kind].target_config()
        )
    except Exception as error:
        raise UserError(
            f"{where}: {first_line(error)}; JAX and its CUDA plugin must have one version, as in "
            "the environment of `make aot-cuda`"
        ) from None
    return Target(topology, "cuda", tuple(described.devices), allocated(kind))


def one_gpu(kind: str) -> Target | None:
    """One GPU of a kind, a key of `GPUS`; None without the compiler or for others."""
    if kind not in GPUS or missing():
        return None
    return gpu_target(f"{kind}:1")._replace(name=kind)


def allocated(kind: str) -> int:
    """Bytes that JAX allocates on a GPU, all that its programs may use: 75 % of the memory, or the
    share in the environment variable XLA_CLIENT_MEM_FRACTION.

    Raises:
      UserError: the environment variable for the share of its memory has no such number.
    """
    share = _FRACTION
    for name in FRACTIONS:
        if text := os.environ.get(name):
            try:
                share = float(text)
            except ValueError:
                share = 0.0
            if not 0 < share <= 1:
                raise UserError(f"{name}={text}: expected a share of the memory, above 0, up to 1")
            break
    return int(share * GPUS[kind].memory_bytes)
