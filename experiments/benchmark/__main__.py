"""Measures programs, one device, records against other readers, the search for words, `vtd app`.

Examples:
  python -m experiments.benchmark --out=benchmark.json
  python -m experiments.benchmark --architecture=ViT-B/32 --frames=8 --rounds=3
  python -m experiments.benchmark --data_dir=records --records=base_train
  python -m experiments.benchmark --what=device --out=device.json     # a bare TPU or GPU machine
  python -m experiments.benchmark --scaling=frames,batch,classes,devices --rounds=3
  python -m experiments.benchmark --what=readers --videos=my/videos --clips=7 --out=readers.json
  python -m experiments.benchmark --what=predict --architecture=ViT-B/32 --videos=my/videos
  python -m experiments.benchmark --what=vocabulary --words=100000 --frames=16 --rounds=9
  python -m experiments.benchmark --what=app --out=app.json

All jobs run in turn in every round, so ratios hold where absolute times drift. What is measured and
how to read it: the page "Benchmark" of the documentation.

--what=programs: against PyTorch, against our own plain path and against the machine's own products.
Weights are random: speed does not depend on them. Classes are UCF-101's. Without --data_dir, clips
of 340×256 and 300 frames are rendered and built into records of both storages first; --noinput
leaves them out. PyTorch's side needs the `parity` extra.

--what=device: on JAX's first device, the image tower (gradient to its prompts, and forward) and the
training step in every way of attention, recomputation and layers that the device takes, beside
plain JAX and PyTorch (compiled on a GPU), within --minutes, compiling included. Measured times
stand beside the compiler's estimate. Needs nothing but jax, flax, optax and numpy.

--what=readers: clips a second on one core. Clips (of --videos, or rendered ones) are re-encoded at
the sizes of Kinetics, UCF101 and Something-Something, then read: T frames, short side 256, centre
crop 224, uint8. decord is measured if it is installed.

--what=predict: the decoder alone, the image tower alone, and both as a stream of predictions has
them, on --clips clips (of --videos, which come again and again, or rendered ones), and on a single
clip. Every file is also read by its index and in full.

--what=vocabulary: the search against the one matrix product that it contains, on seeded random
vectors. The vocabulary is also read from a file (--words × --width × 4 bytes in --folder), as one
larger than memory would be. Before anything is timed, the words found are compared with those of
the plain computation.

--what=app: edits of labels as `vtd app` answers them, against Predictor.explain of the same video.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags

from experiments.benchmark import bare  # noqa: F401
from experiments.common import cli, limit_flags, program
from experiments.common.number_lists import whole_numbers
from vtd_jax.backend import check_backend
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.installed.extras import need
from vtd_jax.output_checks import Output, check_outputs, is_measurement
from vtd_jax.terminal import counted, log

flags.adopt_module_key_flags(limit_flags)
# what is measured -> frames of a clip, or at once, where none are given
_DEFAULT_FRAMES = {
    "programs": (16,), "device": (), "readers": (16, 32), "vocabulary": (16, 128),
    "predict": (16,), "app": (16,),
}  # fmt: skip
_WHAT = flags.DEFINE_enum("what", "programs", list(_DEFAULT_FRAMES), "what is measured")
_FRAMES = flags.DEFINE_list(
    "frames",
    [],
    "frames a clip; with --what=device frames at once (128 on a TPU, 256 on a GPU); with "
    "--what=readers or vocabulary also several: 16,32",
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measured rounds", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "also write everything as JSON here")

_ARCHITECTURE = flags.DEFINE_string(
    "architecture", "ViT-B/16", "CLIP to measure: one of OpenAI's names, or tiny"
)
_BATCH = flags.DEFINE_integer("batch", 1, "number of clips in a batch", lower_bound=1)
_CLASSES = flags.DEFINE_integer("classes", 101, "classes in the codebook", lower_bound=1)
_PROMPTS = flags.DEFINE_integer(
    "prompts", 10, "text and visual prompt tokens a layer", lower_bound=1
)
_DEPTH = flags.DEFINE_integer(
    "depth", 12, "layers with prompts of their own, of both towers", lower_bound=1
)
_DTYPE = flags.DEFINE_list(
    "dtype",
    ["float32", "bfloat16"],
    "compute dtypes of our towers; with --what=device one, default bfloat16",
)
_PLAIN = flags.DEFINE_bool("plain", True, "measure our own plain path in float32 too")
_TORCH = flags.DEFINE_bool("torch", None, "measure PyTorch too; by default where it is installed")
_START = flags.DEFINE_bool(
    "start", True, "measure time to the first step and peak memory, in processes of their own"
)
_SCALING = flags.DEFINE_list(
    "scaling", [], "measure only how our programs scale over frames, batch, classes, devices"
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "measure these records instead of rendered ones")
_RECORDS = flags.DEFINE_string("records", None, "name of the records in --data_dir")
_INPUT = flags.DEFINE_bool("input", True, "measure the input pipeline too")
_MINUTES = flags.DEFINE_float(
    "minutes",
    8.0,
    "with --what=device: time for everything, compiling too; what is left out is listed",
    lower_bound=0.01,
)
_GONE = flags.DEFINE_bool("device_only", None, "no longer exists: use --what=device")

_VIDEOS = flags.DEFINE_string(
    "videos", None, "folder of video files; without it clips are rendered"
)
_CLIPS = flags.DEFINE_integer(
    "clips",
    None,
    "with --what=readers the most clips that are read, default 8; with --what=predict clips of a "
    "run, default 64",
    lower_bound=1,
)
_ONE_BY_ONE = flags.DEFINE_bool("one_by_one", True, "measure videos that are encoded alone, too")
_SECONDS = flags.DEFINE_integer("seconds", None, "cut all clips to this length", lower_bound=1)

_WORDS = flags.DEFINE_integer("words", 1_000_000, "words in the vocabulary", lower_bound=5)
_WIDTH = flags.DEFINE_integer(
    "width", 512, "with --what=vocabulary: width of the words' features", lower_bound=1
)
_ENCODED = flags.DEFINE_integer(
    "encoded",
    4096,
    "with --what=vocabulary: words that the tiny CLIP encodes; 0 for none",
    lower_bound=0,
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "folder for the temporary file of the vocabulary; default: the system's"
)

_OWN = {
    "programs": (
        _ARCHITECTURE, _BATCH, _CLASSES, _PROMPTS, _DEPTH, _DTYPE, _PLAIN, _TORCH,
        _START, _SCALING, _DATA_DIR, _RECORDS, _INPUT,
    ),
    "device": (_ARCHITECTURE, _CLASSES, _PROMPTS, _DEPTH, _DTYPE, _TORCH, _MINUTES),
    "readers": (_VIDEOS, _CLIPS, _SECONDS),
    "predict": (_ARCHITECTURE, _CLASSES, _PROMPTS, _DEPTH, _DTYPE, _VIDEOS, _CLIPS, _ONE_BY_ONE),
    "vocabulary": (_WORDS, _WIDTH, _ENCODED, _FOLDER),
    "app": (_ARCHITECTURE,),
}  # fmt: skip


def check_flags() -> None:
    """Refuses flags that do not fit each other, before anything is read."""
    if flags.FLAGS[_GONE.name].present:
        raise UserError(
            "--device_only is gone: use --what=device, or --noinput to leave the input pipeline out"
        )
    own = {what: [flag.name for flag in taken] for what, taken in _OWN.items()}
    for name in dict.fromkeys(name for names in own.values() for name in names):
        takers = [what for what, names in own.items() if name in names]
        if _WHAT.value not in takers and flags.FLAGS[name].present:
            known = " and ".join(f"--what={what}" for what in takers)
            raise UserError(f"--{name} is for {known}, not --what={_WHAT.value}")
    for flag in (_VIDEOS, _FOLDER):
        if flag.value is not None and not Path(flag.value).is_dir():
            raise UserError(f"--{flag.name}={flag.value}: there is no such folder")
    if (_DATA_DIR.value is None) != (_RECORDS.value is None):
        raise UserError(
            "--data_dir and --records need each other: the folder, and the name of its records"
        )
    if _OUT.value is not None:
        read = [(f"--{f.name}={f.value}", f.value) for f in (_DATA_DIR, _VIDEOS, _FOLDER)]
        check_outputs([Output("--out", Path(_OUT.value), ours=is_measurement)], read)


def frames() -> Sequence[int]:
    """The value of --frames, or its default."""
    if not _FRAMES.value:
        return _DEFAULT_FRAMES[_WHAT.value]
    expected = "whole numbers from 1 on, such as 16,32"
    found = whole_numbers("frames", _FRAMES.value, expected, least=1, repeats=True)
    if _WHAT.value in ("programs", "device", "predict", "app") and len(found) > 1:
        more = "; --scaling=frames measures several" if _WHAT.value == "programs" else ""
        raise UserError(
            f"--frames={','.join(_FRAMES.value)}: expected one number for "
            f"--what={_WHAT.value}{more}"
        )
    return found


def measurement() -> Callable[[], dict[str, Any]]:
    """What measures, prints tables and returns all numbers, JSON-able; flags are checked here."""
    counts = frames()
    # imported here: --help and bad flags need no JAX, and programs no video libraries
    if _WHAT.value == "readers":
        check_backend()
        from experiments.benchmark import readers

        folder = None if _VIDEOS.value is None else Path(_VIDEOS.value)
        clips = _CLIPS.value or 8
        return partial(readers.compare, folder, clips, counts, _SECONDS.value, _ROUNDS.value)
    if _WHAT.value == "vocabulary":
        check_backend()
        from experiments.benchmark import vocabulary

        sizes = _WORDS.value, _WIDTH.value
        return partial(
            vocabulary.compare,
            *sizes, counts, _ROUNDS.value, _ENCODED.value, folder=_FOLDER.value,
        )  # fmt: skip
    from experiments.benchmark.setting import INSTALL, has_torch
    from vtd_jax.clip.config import CLIPConfig

    # refuses what is none
    CLIPConfig.named(_ARCHITECTURE.value)
    if _TORCH.value and not has_torch():
        raise UserError(f"--torch: {INSTALL}")
    if _WHAT.value == "predict":
        return of_predict(counts[0])
    if _WHAT.value == "app":
        check_backend()
        need("starlette", "--what=app")
        from experiments.benchmark.app import edits

        return partial(edits.compare, _ARCHITECTURE.value, counts[0], _ROUNDS.value)
    return (
        of_device(counts[0] if counts else None)
        if _WHAT.value == "device"
        else of_programs(counts[0])
    )


def of_programs(count: int) -> Callable[[], dict[str, Any]]:
    """`measurement` of programs, with `count` frames a clip."""
    from experiments.benchmark import run
    from experiments.benchmark.setting import Options, known_dtypes

    dtypes = known_dtypes(_DTYPE.value)
    options = Options(
        _ARCHITECTURE.value, count, _BATCH.value, _CLASSES.value,
        _PROMPTS.value, _DEPTH.value, _ROUNDS.value,
    )  # fmt: skip
    if _SCALING.value:
        run.check_scaling(_SCALING.value)
        return partial(run.scaling, options, dtypes, _SCALING.value)
    if _INPUT.value:
        # the records come last, after minutes
        for module in ("tensorflow_datasets", "array_record", "grain"):
            need(module, "the input side, which --noinput leaves out,")
    return partial(
        run.compare, options, dtypes, plain=_PLAIN.value, torch=_TORCH.value, start=_START.value,
        pipelines=_INPUT.value, data_dir=_DATA_DIR.value, records=_RECORDS.value,
    )  # fmt: skip


def of_device(images: int | None) -> Callable[[], dict[str, Any]]:
    """`measurement` of one device, `images` frames at once; None for a number that suits it."""
    from experiments.benchmark.device import run
    from experiments.benchmark.setting import Options

    dtype = _dtype("bfloat16")
    options = Options(
        _ARCHITECTURE.value, 1, 1, _CLASSES.value, _PROMPTS.value, _DEPTH.value, _ROUNDS.value,
        stand_in=True,
    )  # fmt: skip
    return partial(
        run.compare,
        options, dtype, images=images, minutes=_MINUTES.value, torch=_TORCH.value,
    )  # fmt: skip


def of_predict(count: int) -> Callable[[], dict[str, Any]]:
    """`measurement` of predicting many videos, with `count` frames a clip."""
    check_backend()
    from experiments.benchmark.predict import stream
    from experiments.benchmark.setting import Options

    dtype = _dtype("float32")
    options = Options(
        _ARCHITECTURE.value, count, 1, _CLASSES.value, _PROMPTS.value, _DEPTH.value, _ROUNDS.value
    )
    folder = None if _VIDEOS.value is None else Path(_VIDEOS.value)
    clips = _CLIPS.value or 64
    return partial(stream.compare, options, dtype, folder, clips, one_by_one=_ONE_BY_ONE.value)


def opening() -> str:
    """What is about to be measured, on what, and when it is known how long that takes."""
    model, many = _ARCHITECTURE.value, " and ".join(map(str, frames())) or "many"
    clips = f"{many} frames a clip"
    about = {
        "programs": (
            f"training and evaluation programs of {model}, {clips}, "
            f"{counted(_BATCH.value, 'clip')} a batch, "
            f"{counted(_CLASSES.value, 'class', 'classes')}"
        ),
        "device": f"programs of {model} on one device, {many} frames at once",
        "readers": f"readers of video files on one core, {clips}",
        "predict": f"predictions of {counted(_CLIPS.value or 64, 'clip')} with {model}, {clips}",
        "vocabulary": f"the search for words among {_WORDS.value:,}, {many} frames at once",
        "app": f"answers of `vtd app` with {model}, {clips}",
    }[_WHAT.value]
    if _SCALING.value:
        about = f"how programs of {model} scale with {', '.join(_SCALING.value)}"
    time = "if it is long, how long is logged after the first round"
    if _WHAT.value == "device":
        time = f"at most {_MINUTES.value:g} minutes"
    from experiments.benchmark.timing import cores

    return (
        f"measuring {about}, in {counted(_ROUNDS.value, 'round')}, on the devices that JAX finds "
        f"and {counted(len(cores()), 'core')}; {time}, and tables come at the end"
    )


def _dtype(default: str) -> str:
    from experiments.benchmark.setting import known_dtypes

    dtypes = known_dtypes(_DTYPE.value) if flags.FLAGS[_DTYPE.name].present else [default]
    if len(dtypes) > 1:
        raise UserError(f"--dtype={','.join(dtypes)}: expected one for --what={_WHAT.value}")
    return dtypes[0]


def main() -> str:
    """Measures, prints Markdown, writes JSON on request."""
    check_flags()
    measure = measurement()
    log(opening())
    report = measure()
    report["command"] = program.line()
    report["date"] = datetime.date.today().isoformat()
    # programs have their facts under "machine", the others beside their numbers
    about = report.get("machine") or {
        key: value for key, value in report.items() if not isinstance(value, (dict, list))
    }
    facts = ", ".join(f"{k} {v}" for k, v in about.items() if k not in ("command", "date"))
    print(f"\n`{report['command']}`, {report['date']}: {facts}")
    if _OUT.value is None:
        return "measured; nothing was written (--out=FILE.json writes the numbers)"
    write_text(Path(_OUT.value), json.dumps(report, indent=2) + "\n")
    return f"wrote {_OUT.value}"


if __name__ == "__main__":
    cli.run(main, __doc__, keeps_programs=False)
