"""Which way of attention a tower takes."""

import re

import jax
import jax.numpy as jnp

from vtd_jax.clip.attention import cudnn
from vtd_jax.errors import UserError, setting

# of a platform, beside "xla"
_OWN = {"tpu": "pallas", "gpu": "cudnn"}
# below so many tokens a row XLA's attention is as fast
_FEW_TOKENS = 64
# what cuDNN's attention needs of a GPU: Ampere
_CAPABILITY = 8.0


def chosen(
    asked: str,
    device: str,
    *,
    tokens: int,
    width: int,
    head_width: int,
    dtype: jnp.dtype,
    context: bool = False,
    interpret: bool = False,
) -> str:
    """ "xla", "pallas" or "cudnn" for rows of a tower.

    Args:
      asked: one of `vtd_jax.clip.config.WAYS`; "auto" takes the device's own kernels where they
        accept the tower.
      device: "cpu", "gpu" or "tpu".
      tokens: of a row.
      width: W, channels of a token.
      head_width: c, channels of a head.
      dtype: of the computation.
      context: whether there are keys and values that all rows share. cuDNN takes none, and only
        rows of an even length: others are computed by XLA, whatever is asked for.
      interpret: whether the kernels' operations run without their device.

    Raises:
      UserError: the device or the kernels do not take what was asked for.
    """
    if asked == "xla":
        return asked
    own = _OWN.get(device)
    if asked == "auto":
        if own is None or tokens < _FEW_TOKENS:
            return "xla"
        if _problem(own, tokens, width, head_width, dtype):
            return "xla"
        if own == "cudnn" and (context or tokens % 2 or _missing()):
            return "xla"
        return own
    name = setting("memory.attention", asked)
    works = f"use {setting('memory.attention', 'auto')}"
    if asked != own and not interpret:
        needs = "a TPU" if asked == "pallas" else "an NVIDIA GPU"
        raise UserError(f"{name}: needs {needs}, this is a {device}; {works}")
    if asked == "cudnn" and not interpret and (missing := _missing()):
        raise UserError(f"{name}: needs {missing}; {works}")
    # without its device, any dtype shows that the way is right
    taken = jnp.dtype(jnp.bfloat16) if interpret else dtype
    if problem := _problem(asked, tokens, width, head_width, taken):
        more = ""
        if asked == "cudnn" and taken != jnp.bfloat16:
            more = f", or set {setting('clip.dtype', 'bfloat16')}"
        raise UserError(f"{name}: does not take {problem}; {works}{more}")
    return "xla" if asked == "cudnn" and (context or tokens % 2) else asked


def _problem(way: str, tokens: int, width: int, head_width: int, dtype: jnp.dtype) -> str:
    if way == "cudnn":
        return cudnn.problem(dtype, head_width)
    from vtd_jax.clip.attention import pallas

    return pallas.problem(tokens, width, head_width, dtype.itemsize)


def _missing() -> str:
    """What cuDNN's attention lacks here, for a message; "" if nothing."""
    if not cudnn.is_installed():
        return "cuDNN, which JAX does not find here (pip install 'jax[cuda13]')"
    # a program may also be for a GPU that is not there
    if jax.default_backend() == "gpu":
        capability = getattr(jax.local_devices()[0], "compute_capability", "")
        if not re.fullmatch(r"[\d.]+", capability) or float(capability) < _CAPABILITY:
            return f"an NVIDIA GPU of compute capability {_CAPABILITY} or more"
    return ""
