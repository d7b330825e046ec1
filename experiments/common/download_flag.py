"""The flag `--download` of commands that load a CLIP; `cli.run` passes it on."""

from absl import flags

from vtd_jax.console.consent import VARIABLE

flags.DEFINE_bool(
    "download",
    None,
    f"download weights that are not on this machine; default: ${VARIABLE}, else a terminal asks",
)
