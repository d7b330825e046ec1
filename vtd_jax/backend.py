"""A platform that JAX was asked for and that is not there, told in one line."""

import os

from vtd_jax.errors import UserError


def check_backend() -> None:
    """Starts JAX's devices; several processes must have been joined before.

    Raises:
      UserError: a platform that `JAX_PLATFORMS` names is not there; says what to install.
    """
    import jax  # commands parse their flags without it

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        if (told := no_backend(error)) is None:
            raise
        raise told from None


def no_backend(error: Exception) -> UserError | None:
    """The line for what JAX raised as it started its devices; None for any other error."""
    import jax

    asked = str(jax.config.jax_platforms or os.environ.get("JAX_PLATFORMS") or "").lower()
    text = " ".join(str(error).split())
    if not asked or not ("Unable to initialize backend" in text or _asserted(error)):
        return None
    why = text.split(" (you may need to")[0].split(" (set JAX_PLATFORMS")[0].rstrip(".")
    why = why or f"Unable to initialize backend '{asked}': no such device, or no JAX plugin for it"
    return UserError(
        f"JAX_PLATFORMS={asked}: {why[:300]}. {_remedy(asked.split(','), jax.__version__)}"
    )


def _asserted(error: Exception) -> bool:
    """Whether it is JAX's assertion that there is some platform, all that it says of a GPU that is
    not there.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, AssertionError) and where == "jax._src.xla_bridge"


def _remedy(asked: list[str], version: str) -> str:
    """What to install, or what to write."""
    kind = "cuda13" if {"cuda", "gpu"} & set(asked) else "tpu" if "tpu" in asked else ""
    if kind:
        machine = "a TPU" if kind == "tpu" else "an NVIDIA GPU"
        return (
            f"On a machine with {machine}: pip install 'jax[{kind}]=={version}'; elsewhere: "
            "JAX_PLATFORMS=cpu"
        )
    return "Expected cpu, cuda or tpu, or a platform whose JAX plugin is installed"
