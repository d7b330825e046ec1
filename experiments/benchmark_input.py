"""Measures on one core how fast records give clips, against other ways of reading the same files.

Examples:
  python -m experiments.benchmark_input
  python -m experiments.benchmark_input --videos=my/videos --clips=7 --rounds=5 --out=input.json
  python -m experiments.benchmark_input --frames=8

The clips of a folder (rendered ones without --videos) are re-encoded at the sizes of Kinetics,
UCF101 and Something-Something, then read in turn: T frames, short side 256, centre crop 224, uint8.
decord is measured if it is installed.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

from absl import flags

from experiments.common import cli, limit_flags
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.output_checks import Output, check_outputs, is_measurement

_VIDEOS = flags.DEFINE_string(
    "videos", None, "folder of video files; without it, clips are rendered"
)
_FRAMES = flags.DEFINE_list("frames", ["16", "32"], "frames a clip, comma-separated")
_CLIPS = flags.DEFINE_integer("clips", 8, "at most so many clips", lower_bound=1)
_SECONDS = flags.DEFINE_integer("seconds", None, "cut all clips to this length", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measured rounds", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "also write everything as JSON here")
flags.adopt_module_key_flags(limit_flags)


def main() -> str:
    """Encodes, measures, prints Markdown, writes JSON on request."""
    if not all(count.isdecimal() and int(count) for count in _FRAMES.value):
        raise UserError(
            f"--frames={','.join(_FRAMES.value)}: expected whole numbers from 1 on, such as 16,32"
        )
    if _VIDEOS.value is not None and not Path(_VIDEOS.value).is_dir():
        raise UserError(f"--videos={_VIDEOS.value}: there is no such folder")
    if _OUT.value is not None:
        check_outputs(
            [Output("--out", Path(_OUT.value), ours=is_measurement)],
            [(f"--videos={_VIDEOS.value}", _VIDEOS.value)],
        )
    # imported here: --help and bad flags need no video libraries
    from experiments.benchmark import readers as bench
    from experiments.benchmark.timing import machine

    clips = bench.sources(_VIDEOS.value and Path(_VIDEOS.value), _CLIPS.value)
    about = (
        machine()
        | bench.versions()
        | {"clips": len(clips), "rounds": _ROUNDS.value, "cores used": 1}
    )
    bench.one_core()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in bench.KINDS:
            if _SECONDS.value is not None:
                kind = dataclasses.replace(kind, seconds=min(kind.seconds, _SECONDS.value))
            files = [Path(folder) / f"{i}.{kind.ending}" for i in range(len(clips))]
            for path, (frames, rate) in zip(files, clips):
                bench.write_clip(frames, rate, kind, path)
            results += bench.measure(
                kind, files, [int(count) for count in _FRAMES.value], _ROUNDS.value
            )
    print(bench.markdown(results))
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()))
    if _OUT.value is None:
        return "measured; nothing was written (--out=FILE.json writes the numbers)"
    report = about | {"results": [dataclasses.asdict(result) for result in results]}
    write_text(Path(_OUT.value), json.dumps(report, indent=2) + "\n")
    return f"wrote {_OUT.value}"


if __name__ == "__main__":
    cli.run(main, __doc__, keeps_programs=False, device=True)
