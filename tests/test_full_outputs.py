"""A full disk, for every writer: the error names the file, what was there stays, and no half of a
file is left.
"""

import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vtd_jax.evaluate import plots
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import save_report
from vtd_jax.evaluate.scores import save_scores
from vtd_jax.evaluate.tables import split_table
from vtd_jax.locks import locked
from vtd_jax.report.clip_figure import drawing
from vtd_jax.report.pages import write_index

# Python 3.13 reports a buffer of Pillow's that is freed while the error of the full disk is raised
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*BytesIO")

ROOT = Path(__file__).resolve().parent.parent
_RNG = np.random.default_rng(0)
_SCORES = _RNG.random((300, 20), np.float32)
RESULTS = {
    "val": SplitResult(tuple("abcdefghijklmnopqrst"), _SCORES, np.arange(300, dtype=np.int32) % 20)
}
TABLE = split_table("t", "mine", RESULTS, {"frames": 8})


def _figure(path):
    with drawing(path, 3, 3, ["a"]) as figure:
        figure.add_subplot().imshow(_SCORES)


def _lines(path):
    plots.lines(path, {"a": [(1, 2, 0), (2, 3, 0)]}, title="t", x_label="x")


WRITERS = {
    "out.png": _figure,
    "out.pdf": _figure,
    "out.svg": _figure,
    "lines.png": _lines,
    "lines.pdf": _lines,
    "results_scores.npz": lambda path: save_scores(path, RESULTS),
    "results_confusions.csv": lambda path: save_report(path.parent, "results", TABLE, RESULTS),
    "index.html": lambda path: write_index(path.parent, [], [("a.mp4", "no video" * 999)], {}),
}


@pytest.fixture(autouse=True)
def _freed():
    """Frees what a test leaves before the next one, which must not get its warnings."""
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_names_the_file(name, tmp_path):
    path, before = tmp_path / name, resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("before")
    # a table fits into the larger one, what is beside it does not
    for size in (3000,) if name.endswith(".csv") else (0, 1000, 6000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                WRITERS[name](path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.filename == str(path)
        assert path.read_text() == "before"
        assert not [found for found in tmp_path.iterdir() if ".part" in found.name]


def test_a_lock_holds_on_a_full_disk(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with locked(tmp_path / "lock", "x"):
            assert (tmp_path / "lock").read_bytes() == b""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_an_output_that_is_full_is_named_once(full):
    code = "from experiments.common import cli\nimport sys\nfrom vtd_jax.terminal import say\n"
    code += "def main():\n    say('first')\n    say('note', sys.stderr)\n    return 'last'\n"
    code += "cli.run(main, 'usage', keeps_programs=False)"
    with open("/dev/full", "w") as device:
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE) | {full: device}
        done = subprocess.run([sys.executable, "-c", code], text=True, cwd=ROOT, **streams)
    if full == "stdout":
        message = (
            "error: standard output: No space left on device; make room, and give the same "
            "command again\n"
        )
        assert (done.returncode, done.stderr) == (2, message)
    else:
        assert (done.returncode, done.stdout) == (0, "first\nlast\n")
