"""The flag `--download` of commands that load a CLIP or read videos; `cli.run` passes it on."""

from absl import flags

from vtd_jax.console.consent import VARIABLE

flags.DEFINE_bool(
    "download",
    None,
    "download weights, videos at addresses and data sets that are not on this machine; default: "
    f"${VARIABLE}, else a terminal asks",
)
