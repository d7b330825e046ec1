"""Measures how fast frames find their words in a large vocabulary, against the one matrix product
that it contains.

Examples:
  python -m experiments.benchmark_vocabulary
  python -m experiments.benchmark_vocabulary --words=100000 --frames=16 --rounds=9 --json=vocabulary.json

Features and words are seeded random vectors. All ways run in turn in every round, so ratios hold
where seconds drift. The vocabulary is also read from a file (--words × --width × 4 bytes in
--folder), as one larger than memory would be. Before anything is timed, the words found are
compared with those of the plain computation.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

from absl import flags

from experiments.common import cli
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.output_checks import Output, check_outputs, is_measurement

_WORDS = flags.DEFINE_integer("words", 1_000_000, "words in the vocabulary", lower_bound=5)
_WIDTH = flags.DEFINE_integer("width", 512, "width of features", lower_bound=1)
_FRAMES = flags.DEFINE_list("frames", ["16", "128"], "frames at once, comma-separated")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "measured rounds", lower_bound=1)
_ENCODED = flags.DEFINE_integer(
    "encoded", 4096, "words that the tiny CLIP encodes; 0 for none", lower_bound=0
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "where the vocabulary's file is for a while; the system's default else"
)
_JSON = flags.DEFINE_string("json", None, "also write everything as JSON here")


def main() -> str:
    """Compares, measures, prints Markdown, writes JSON on request."""
    if not all(count.isdecimal() and int(count) for count in _FRAMES.value):
        raise UserError(
            f"--frames={','.join(_FRAMES.value)}: expected whole numbers from 1 on, such as 16,128"
        )
    if _FOLDER.value is not None and not Path(_FOLDER.value).is_dir():
        raise UserError(f"--folder={_FOLDER.value}: there is no such folder")
    if _JSON.value is not None:
        check_outputs(
            [Output("--json", Path(_JSON.value), ours=is_measurement)],
            [(f"--folder={_FOLDER.value}", _FOLDER.value)],
        )
    # imported here: --help and bad flags need no JAX
    import jax

    from experiments.benchmark import vocabulary as bench
    from experiments.benchmark.timing import machine

    results, wrong = [], {}
    with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
        mapped = bench.write_words(Path(folder) / "words.npy", _WORDS.value, _WIDTH.value)
        rows = jax.numpy.array(mapped)
        for frames in map(int, _FRAMES.value):
            x = (
                jax.random.normal(jax.random.key(frames), (frames, _WIDTH.value))
                / _WIDTH.value**0.5
            )
            timed, others = bench.measure(bench.ways(x, rows, mapped), frames, _ROUNDS.value)
            print(f"{bench.markdown(timed)}\n", flush=True)
            results += timed
            wrong |= {f"{frames} frames, {way}": count for way, count in others.items()}
    told = [f"{way}: {count}" for way, count in wrong.items() if count]
    print(f"Frames with other words than the plain computation: {'; '.join(told) or 'none'}.")
    about = machine() | {"words": _WORDS.value, "width": _WIDTH.value, "rounds": _ROUNDS.value}
    if _ENCODED.value:
        about["words/s encoded"], about["words/s read again"] = map(
            round, bench.encoding_rate(_ENCODED.value)
        )
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()))
    if _JSON.value is None:
        return "measured; nothing was written (--json=FILE.json writes the numbers)"
    report = about | {
        "other words": wrong,
        "results": [dataclasses.asdict(result) for result in results],
    }
    write_text(Path(_JSON.value), json.dumps(report, indent=2) + "\n")
    return f"wrote {_JSON.value}"


if __name__ == "__main__":
    cli.run(main, __doc__, device=True)
