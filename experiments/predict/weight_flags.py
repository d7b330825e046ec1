"""Flags of commands that take any weights: what a config beside these would say."""

from absl import flags

ACTIVATION = flags.DEFINE_enum(
    "activation",
    None,
    ["quick_gelu", "gelu", "gelu_tanh"],
    "activation of a CLIP whose weights have no config beside them",
)
HEAD_WIDTH = flags.DEFINE_integer(
    "head_width",
    None,
    "width of the image tower's attention heads, for weights without a config beside them",
    lower_bound=1,
)
