"""The whole method on rendered videos: records, training, a base-to-novel table, in minutes.

Examples:
  python -m experiments.demo
  python -m experiments.demo --out=demo_output --seeds=100,101,102
  python -m experiments.demo --out=/tmp/other --seeds=7 --irrelevant=0.75

Renders clips of coloured, textured shapes of which a share of frames is irrelevant or corrupted,
writes them as mp4 files, builds records, and for every seed compares zero-shot CLIP, prompts and
VTD-CLIP on base and on novel classes. A seed fixes the classes, the clips and the training. Nothing
is downloaded: the small CLIP is part of the repository.
"""

import re
import time
from pathlib import Path

from absl import flags

from experiments.common import cli
from experiments.common.number_lists import whole_numbers
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line, within
from vtd_jax.errors import UserError
from vtd_jax.files import remove_tree
from vtd_jax.locks import locked_outputs
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.outputs import check_output
from vtd_jax.printable import listed
from vtd_jax.scenes.sets import SceneSet, write_scene_sets
from vtd_jax.untrusted.regular_files import is_regular

_DEFAULT = SceneSet(seed=0)
_OUT = flags.DEFINE_string("out", "demo_output", "folder to write; an earlier demo's is replaced")
_SEEDS = flags.DEFINE_list(
    "seeds",
    ["100", "101", "102"],
    "seeds; each makes a data set, and a training of every row of the table",
)
_CLASSES = flags.DEFINE_integer(
    "classes", _DEFAULT.classes, "number of classes, half base, half novel"
)
_TRAIN = flags.DEFINE_integer("train", _DEFAULT.train, "number of training clips of a base class")
_VAL = flags.DEFINE_integer("val", _DEFAULT.val, "number of validation clips of a class")
_IRRELEVANT = flags.DEFINE_float(
    "irrelevant", _DEFAULT.irrelevant, "share of irrelevant frames", 0.0, 0.95
)
_EPOCHS = flags.DEFINE_integer(
    "epochs", 0, "epochs of every training; 0 keeps the config's", lower_bound=0
)
_MARKER, _LOCK, _DEMO = ".vtd_jax_demo", ".vtd_jax.lock", "demo"
# files of a demo, also of one that was killed
_OWN = re.compile(r"seed\d+|results\.(md|csv|json)|clip\.png|\.vtd_jax_demo|\..*\.part(\.\w+)?")


def main() -> str:
    """Renders the data, runs every row, writes table and picture."""
    start, out = time.perf_counter(), Path(_OUT.value)
    expected = "different whole numbers, e.g. 100,101,102"
    seeds = whole_numbers("seeds", _SEEDS.value, expected)
    sets = {
        seed: SceneSet(seed, _CLASSES.value, _TRAIN.value, _VAL.value, irrelevant=_IRRELEVANT.value)
        for seed in seeds
    }
    _check_folder(out)
    with locked_outputs([("--out", out, True)]):
        _fresh_folder(out)
        return _make(out, sets, start)


def _make(out: Path, sets: dict[int, SceneSet], start: float) -> str:
    """The demo in an empty folder."""
    seeds = list(sets)
    folders = {seed: out / f"seed{seed}" for seed in seeds}
    with Progress("rendering and encoding clips", noun="clip") as progress:
        jobs = [(sets[seed], folders[seed]) for seed in seeds]
        write_scene_sets(jobs, progress=progress.update)
    print(
        f"rendered and encoded {sum(len(s.clips()) for s in sets.values())} clips "
        f"({time.perf_counter() - start:.0f} s)"
    )
    # imported here: the processes that render import this file, and do not need these
    from experiments.demo import rows
    from experiments.demo.picture import draw
    from experiments.reproduce.sources import build_scenes

    found: dict[str, list] = {row.name: [] for row in rows.ROWS}
    changes = {"optimizer.epochs": _EPOCHS.value} if _EPOCHS.value else {}
    for seed in seeds:
        with Line(f"seed {seed}: building records"):
            build_scenes(sets[seed], folders[seed])
        for number, row in enumerate(rows.ROWS):
            config = rows.run_config(row, seed, folders[seed] / "records", changes)
            with Line(row.name), within(f"seed {seed}, {number + 1} of {len(rows.ROWS)}"):
                model, scores, seconds = rows.run_row(row, config, folders[seed] / f"run{number}")
            found[row.name].append(scores)
            accuracy = ", ".join(f"{name} {100 * top1:.1f} %" for name, top1 in scores.items())
            print(f"seed {seed}: {row.name}: {accuracy} ({seconds:.0f} s)", flush=True)
        if seed == seeds[0]:
            with Line("drawing what a clip became"):
                draw(out / "clip.png", model, config, sets[seed])
    about = rows.describe(sets[seeds[0]], config, seeds, time.perf_counter() - start)
    table = rows.demo_table(found, about)
    table.show()
    table.save(out)
    Manifest(_DEMO, {}, whole=True).write(out / _MARKER)
    return (
        f"wrote {out}/results.md, .csv, .json and {out}/clip.png in "
        f"{time.perf_counter() - start:.0f} s"
    )


def _check_folder(out: Path) -> None:
    """Refuses an existing folder with anything that is not of an earlier demo."""
    check_output("--out", str(out), folder=True)
    if not out.exists():
        return
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith(_LOCK))
    others = [name for name in names if not _OWN.fullmatch(name)]
    if names and not _is_demo(out):
        raise UserError(
            f"--out={out}: exists and is not an earlier demo's folder; name another one"
        )
    if others:
        raise UserError(
            f"--out={out}: holds other files too ({listed(others, 3)}), which would be lost: "
            "move them"
        )


def _is_demo(out: Path) -> bool:
    """Whether the folder is an earlier demo's; the marker of the first versions is empty."""
    try:
        return read_manifest(out / _MARKER, _DEMO) is not None
    except UserError:
        return is_regular(out / _MARKER) and not (out / _MARKER).stat().st_size


def _fresh_folder(out: Path) -> None:
    """Empties the folder except for its lock and marker."""
    Manifest(_DEMO, {}).write(out / _MARKER)
    for path in out.iterdir():
        if path.name != _MARKER and not path.name.startswith(_LOCK):
            remove_tree(path)


if __name__ == "__main__":
    cli.run(main, __doc__, device=True, resumes="the same command starts again")
