"""Flags of commands that load a model which `--model` names."""

from absl import flags

CLIP = flags.DEFINE_string("clip", None, "CLIP of a tuned file or run, where it has moved")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "checkpoint of a run that --model names: last, best or a step"
)
