"""JAX's devices: a clear error for a missing platform, and names of devices."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vtd_jax.errors import UserError


def check_backend() -> None:
    """Initializes JAX's devices; call it after joining several processes.

    Raises:
      UserError: a platform of `JAX_PLATFORMS` is missing; says what to install.
    """
    import jax  # imported here: commands parse their flags without it

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        if (missing := no_backend(error)) is None:
            raise
        raise missing from None


def no_backend(error: Exception) -> UserError | None:
    """The error for a missing platform from what JAX raised; None for any other error."""
    import jax

    asked = str(
        getattr(jax.config, "jax_platforms", None) or os.environ.get("JAX_PLATFORMS") or ""
    ).lower()
    text = " ".join(str(error).split())
    if not asked or not ("Unable to initialize backend" in text or _asserted(error)):
        return None
    why = text.split(" (you may need to")[0].split(" (set JAX_PLATFORMS")[0].rstrip(".")
    why = why or f"Unable to initialize backend '{asked}': no such device, or no JAX plugin for it"
    return UserError(
        f"JAX_PLATFORMS={asked}: {why[:300]}. {_remedy(asked.split(','), jax.__version__)}"
    )


def _asserted(error: Exception) -> bool:
    """Whether it is JAX's assertion of some platform, its only error for a missing GPU."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, AssertionError) and where == "jax._src.xla_bridge"


def _remedy(asked: list[str], version: str) -> str:
    """What to install, or to set."""
    kind = "cuda13" if {"cuda", "gpu"} & set(asked) else "tpu" if "tpu" in asked else ""
    if kind:
        machine = "a TPU" if kind == "tpu" else "an NVIDIA GPU"
        return (
            f"On a machine with {machine}: pip install 'jax[{kind}]=={version}'; elsewhere: "
            "JAX_PLATFORMS=cpu"
        )
    return "Expected cpu, cuda or tpu, or a platform whose JAX plugin is installed"


def describe_devices(devices: Sequence[Any] | None = None) -> str:
    """`cpu`, `gpu NVIDIA H100 80GB HBM3`, `8 × tpu TPU v5 lite`.

    Args:
      devices: JAX devices; all local ones by default.
    """
    import jax

    kinds = Counter(map(_kind, jax.local_devices() if devices is None else devices))
    return ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in kinds.items())


def _kind(device: Any) -> str:
    # the kind of a CPU is "cpu", too
    same = device.device_kind.lower() == device.platform
    return device.platform if same else f"{device.platform} {device.device_kind}"
