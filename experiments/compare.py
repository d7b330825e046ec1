"""Compares two evaluated runs video by video, or prints one run's table; needs no GPU.

    python -m experiments.compare runs/clip runs/hmdb51
    python -m experiments.compare runs/clip runs/hmdb51 --stem=results_zero_shot_ucf101 \\
        --out=compared.md
    python -m experiments.compare runs/mean_s1,runs/mean_s2,runs/mean_s3 \\
        runs/vtd_s1,runs/vtd_s2,runs/vtd_s3
    python -m experiments.compare runs/old/results_scores.npz runs/new/results_scores.npz --common
    python -m experiments.compare runs/hmdb51

A run is a workdir or a *_scores.npz; several with commas between are the seeds of one, whose mean
is compared. The runs must be evaluated on the same videos, and on the same copy of the data (where
the tables beside the scores say it). For every split, and for the harmonic mean of base and novel
or the mean of several splits: top-1 of A and B, what B gains with its bootstrap interval, how many
videos only one of them has right, and the p-value (McNemar's exact test; for means a paired
randomisation test). Below: how the runs were made, their settings that differ, and the classes that
gained and lost most.

With one run: its table from its scores, with intervals, calibration error, best and worst classes,
and the most confused pairs.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import cli
from vtd_jax.errors import UserError
from vtd_jax.evaluate.comparison import (
    comparison_table,
    describe_runs,
    own_table,
    preprocess_differs,
)
from vtd_jax.evaluate.facts import facts_of
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import read_table
from vtd_jax.evaluate.same_data import check_data
from vtd_jax.evaluate.scores import SUFFIX, match, read_scores
from vtd_jax.evaluate.tables import Table
from vtd_jax.files import write_text
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.outputs import check_suffix
from vtd_jax.terminal import say, warn

STEM = flags.DEFINE_string(
    "stem", "results", "which evaluation of a workdir: the files STEM_scores.npz and STEM.json"
)
COMMON = flags.DEFINE_bool(
    "common", False, "compare the splits and videos that all runs have, if they differ"
)
OTHER_DATA = flags.DEFINE_bool("other_data", False, "compare runs on different copies of the data")
OUT = flags.DEFINE_string("out", None, "also write the table to this file, .md, .csv or .json")


def scores_files(argument: str) -> list[Path]:
    """The score files of one run, or of the seeds of one."""
    paths = [Path(part) for part in argument.split(",") if part]
    if not paths or len(set(paths)) < len(paths):
        raise UserError(
            f"{argument!r}: expected a workdir or a *{SUFFIX}, or several different ones with "
            "commas"
        )
    return [path if path.suffix == ".npz" else path / f"{STEM.value}{SUFFIX}" for path in paths]


def table_file(scores: Path) -> Path:
    """The `.json` table beside a file of scores."""
    return scores.with_name(scores.name.removesuffix(SUFFIX).removesuffix(".npz") + ".json")


def read_saved(scores: Path, results: Mapping[str, SplitResult]) -> dict[str, Any]:
    """What the table beside a file of scores holds; empty where there is none."""
    path = table_file(scores)
    return dict(read_table(path, results)) if os.path.lexists(path) else {}


def compared(sides: list[list[Path]]) -> Table:
    """The table of A against B."""
    files = [file for side in sides for file in side]
    # a run may be compared with itself
    runs: dict[str, dict[str, SplitResult]] = {f"{file}": read_scores(file) for file in files}
    matched = dict(zip(runs, match(runs, COMMON.value)))
    saved = {str(file): read_saved(file, runs[str(file)]) for file in files}
    told = [{str(file): saved[str(file)].get("about", {}) for file in side} for side in sides]
    copies = {
        name: facts_of(table).get("data", {}) if table else {} for name, table in saved.items()
    }
    data = check_data(copies, matched[str(files[0])], common=COMMON.value, other=OTHER_DATA.value)
    if data.warning:
        warn(f"the runs differ in data: {data.warning}")
    if ways := preprocess_differs(told):
        warn(f"the runs differ in preprocess: {ways}")
    about = describe_runs(told) | {"data": data.line}
    return comparison_table(*([matched[str(file)] for file in side] for side in sides), about)


def _is_table(path: Path) -> bool:
    return begins(path, b"# ", b"split,", b'{\n  "title": ')


def main(*arguments: str) -> str:
    """Prints the table; returns a line that says where it was written."""
    out = Path(OUT.value) if OUT.value else None
    if out:
        check_suffix(out, ".md", ".csv", ".json", where=f"--out={out}")
    if out and not out.absolute().parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}")
    sides = [scores_files(argument) for argument in arguments]
    if out:
        read = [file for side in sides for scores in side for file in (scores, table_file(scores))]
        check_outputs([Output("--out", out, ours=_is_table)], [(str(file), file) for file in read])
    if len(sides) == 1 and len(sides[0]) > 1:
        raise UserError(
            f"{arguments[0]}: a table is of one run; give RUN_B too to compare the means of seeds"
        )
    if len(sides) == 2:
        table = compared(sides)
    else:
        [[file]] = sides
        results = read_scores(file)
        saved = read_saved(file, results)
        table = own_table(saved.get("title", f"{file}: top-1 in percent"), results, saved)
    table.show()
    for line in table.about_lines():
        say(line)
    if not out:
        return f"read {', '.join(str(file) for side in sides for file in side)}"
    texts = {".md": table.to_markdown, ".csv": table.to_csv, ".json": table.to_json}
    return f"wrote {write_text(out, texts[out.suffix]())}"


if __name__ == "__main__":
    cli.run(main, __doc__, positional=("RUN_A", "RUN_B"), needed=1, keeps_programs=False)
