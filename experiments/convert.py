"""Converts any CLIP checkpoint to one safetensors file that this package loads fastest.

Examples:
  python -m experiments.convert --source=ViT-B-16.pt --out=ViT-B-16.safetensors
  python -m experiments.convert --source=clip-vit-base-patch16/ --out=b16.safetensors \\
      --dtype=float16
  python -m experiments.convert --source=vit_b_16-laion400m.pt --out=laion.safetensors \\
      --activation=gelu

The source is one of OpenAI's .pt files, a Hugging Face file or folder (config.json beside the
weights), an open_clip file or folder (open_clip_config.json beside the weights), or one of Meta's
PE-Core files. PyTorch is not needed, and nothing in the source is executed. For weights without a
config give --activation, and --head_width if the sizes are not those of OpenAI's models: no tensor
shows them. OpenAI's and Meta's own files need neither. The file written holds all settings, also
how images were normalised. A tokenizer that comes with the weights (SigLIP 2) is written beside it,
as NAME.tokenizer.json: keep them together.
"""

import os
from pathlib import Path

from absl import flags

from experiments.common import cli, download_flag
from vtd_jax.clip.config import ACTIVATIONS
from vtd_jax.clip.weights.checkpoints import read_checkpoint, read_tokenizer, save_clip
from vtd_jax.clip.weights.kinds.tokenizers import own_tokenizer_file
from vtd_jax.errors import UserError
from vtd_jax.output_checks import Output, check_outputs, weights_read
from vtd_jax.outputs import check_suffix
from vtd_jax.terminal import counted

flags.adopt_module_key_flags(download_flag)
_SOURCE = flags.DEFINE_string(
    "source", None, "checkpoint: a file, a folder, or a name as ViT-B/16", required=True
)
_OUT = flags.DEFINE_string("out", None, "file to write, .safetensors", required=True)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16"], "dtype of the tensors that are written"
)
_ACTIVATION = flags.DEFINE_enum(
    "activation",
    None,
    list(ACTIVATIONS),
    "activation of both towers, for weights without a config beside them",
)
_HEAD_WIDTH = flags.DEFINE_integer(
    "head_width",
    None,
    "width of the image tower's attention heads, for weights without a config beside them",
    lower_bound=1,
)


def main() -> str:
    """Reads the source and writes it in our format."""
    source, out = Path(_SOURCE.value), Path(_OUT.value)
    check_suffix(out, ".safetensors", where=f"--out={out}")
    # where a tokenizer would be
    beside = Output("--out", own_tokenizer_file(out))
    check_outputs([Output("--out", out), beside], weights_read("--source", source))
    if source.is_dir() and Path(os.path.realpath(source)) in Path(os.path.realpath(out)).parents:
        raise UserError(
            f"--out={out}: is inside --source={source}, all of whose files are read; give another "
            "folder"
        )
    config, state = read_checkpoint(
        _SOURCE.value, activation=_ACTIVATION.value, head_width=_HEAD_WIDTH.value
    )
    tokenizer = read_tokenizer(config, _SOURCE.value)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out}: its folder cannot be made: {error}") from None
    save_clip(out, config, state, dtype=_DTYPE.value, tokenizer=tokenizer)
    size = out.stat().st_size / 1e6
    return (
        f"wrote {out}: {config.architecture}, {config.activation}, heads of "
        f"{config.vision_head_width} and {config.text_head_width}, images of "
        f"{config.preprocessing}, {counted(len(state), 'tensor')}, {_DTYPE.value}, {size:.1f} MB"
        f"{f', and its tokenizer {beside.path}' if tokenizer else ''}"
    )


if __name__ == "__main__":
    cli.run(main, __doc__)
