"""Measures this package against PyTorch, against its own plain path and against the machine's own
products.

Examples:
  python -m experiments.benchmark --out=benchmark.json
  python -m experiments.benchmark --architecture=ViT-B/32 --frames=8 --rounds=3
  python -m experiments.benchmark --data_dir=records --records=base_train
  python -m experiments.benchmark --device_only --torch --batch=16     # a GPU machine with little installed
  python -m experiments.benchmark --scaling=frames,batch,classes,devices --rounds=3

All jobs run in turn in every round, so ratios hold where absolute times drift. Weights are random:
speed does not depend on them. Classes are UCF-101's. What is measured and how to read it:
docs/benchmark.md. Without --data_dir, clips of 340×256 and 300 frames are rendered and built into
records of both storages first. --device_only leaves the input pipeline out and needs nothing but
jax, flax, optax and numpy; PyTorch's side needs the `parity` extra.
"""

import datetime
import json
import shlex
import sys
from pathlib import Path

from absl import flags

from experiments.benchmark import bare  # noqa: F401
from experiments.common import cli
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.output_checks import Output, check_outputs, is_measurement

_ARCHITECTURE = flags.DEFINE_string("architecture", "ViT-B/16", "one of OpenAI's names, or tiny")
_FRAMES = flags.DEFINE_integer("frames", 16, "frames a clip", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 1, "clips a batch", lower_bound=1)
_CLASSES = flags.DEFINE_integer("classes", 101, "classes in the codebook", lower_bound=1)
_PROMPTS = flags.DEFINE_integer(
    "prompts", 10, "text and visual prompt tokens a layer", lower_bound=1
)
_DEPTH = flags.DEFINE_integer(
    "depth", 12, "layers with prompts of their own, of both towers", lower_bound=1
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measured rounds", lower_bound=1)
_DTYPE = flags.DEFINE_list("dtype", ["float32", "bfloat16"], "compute dtypes of our towers")
_PLAIN = flags.DEFINE_bool("plain", True, "measure our own plain path in float32 too")
_TORCH = flags.DEFINE_bool(
    "torch", None, "measure PyTorch too; by default where it is installed, not --device_only"
)
_START = flags.DEFINE_bool(
    "start", True, "measure time to the first step and peak memory, in processes of their own"
)
_SCALING = flags.DEFINE_list(
    "scaling", [], "instead: how our programs scale over frames, batch, classes, devices"
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "measure these records instead of rendered ones")
_RECORDS = flags.DEFINE_string("records", None, "name of the records in --data_dir")
_DEVICE_ONLY = flags.DEFINE_bool(
    "device_only", False, "leave the input pipeline out, and tokenize without a tokenizer"
)
_OUT = flags.DEFINE_string("out", None, "also write everything as JSON here")


def main() -> str:
    """Measures, prints Markdown, writes JSON on request."""
    from experiments.benchmark import run as bench
    from experiments.benchmark.setting import DTYPES, Options

    if (_DATA_DIR.value is None) != (_RECORDS.value is None):
        raise UserError(
            "--data_dir and --records go together: the folder, and the name of the records in it"
        )
    if unknown := set(_DTYPE.value) - set(DTYPES) or (not _DTYPE.value and {""}):
        raise UserError(
            f"--dtype: {', '.join(sorted(unknown))!r}, expected some of {', '.join(DTYPES)}"
        )
    if _OUT.value is not None:
        read = [(f"--data_dir={_DATA_DIR.value}", _DATA_DIR.value)]
        check_outputs([Output("--out", Path(_OUT.value), ours=is_measurement)], read)
    options = Options(
        _ARCHITECTURE.value, _FRAMES.value, _BATCH.value, _CLASSES.value,
        _PROMPTS.value, _DEPTH.value, _ROUNDS.value, _DEVICE_ONLY.value,
    )  # fmt: skip
    if _SCALING.value:
        report = bench.scaling(options, _DTYPE.value, _SCALING.value)
    else:
        report = bench.compare(
            options, _DTYPE.value, plain=_PLAIN.value, torch=_TORCH.value, start=_START.value,
            data_dir=_DATA_DIR.value, records=_RECORDS.value,
        )  # fmt: skip
    report["command"] = shlex.join(["python", "-m", "experiments.benchmark", *sys.argv[1:]])
    report["date"] = datetime.date.today().isoformat()
    print(
        f"\n`{report['command']}`, {report['date']}: "
        + ", ".join(f"{k} {v}" for k, v in report["machine"].items())
    )
    if _OUT.value is None:
        return "measured; nothing was written (--out=FILE.json writes the numbers)"
    write_text(Path(_OUT.value), json.dumps(report, indent=2) + "\n")
    return f"wrote {_OUT.value}"


if __name__ == "__main__":
    cli.run(main, __doc__, keeps_programs=False)
