"""Processes of Python that import nothing from the current folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vtd_jax
from vtd_jax.cost import kernels
from vtd_jax.installed.python_processes import isolated, safe_path
from vtd_jax.scenes import sets
from vtd_jax.video.clips.processes import Processes
from vtd_jax.video.workers import process_map, starting

# what Python imports first in processes of the kinds below, and what this package does
NAMES = ("json", "multiprocessing", "signal", "pickle", "struct", "numpy", "jax", "cv2")


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Path:
    """A current folder whose modules leave a file `ran` when they are imported."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(tmp_path)
    # a user's own "." would be the folder, too
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    return tmp_path


def double(item, log):
    return 2 * item


@pytest.mark.slow
def test_no_process_imports_from_the_current_folder(hostile):
    with Processes(len, 0) as processes:
        assert processes([1, 2]) == 2
    assert [outcome.result for outcome in process_map(double, [3], 1)] == [6]
    with sets.rendering_pool(1) as pool:
        with starting():
            found = pool.submit(len, [1, 2, 3])
        assert found.result() == 3
    assert not (hostile / "ran").exists()
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.slow
def test_lengths_of_kernels_neither(hostile):
    assert kernels._lengths([b""], "v5e:1x1") == [None]
    assert not (hostile / "ran").exists()


def test_it_finds_what_this_process_does(hostile, monkeypatch):
    # as in a Python that people type into, where the empty entry is the current folder
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    code = "import json, vtd_jax; print(json.dumps([vtd_jax.__file__, *sys.argv[1:]]))"
    done = subprocess.run(isolated(code, "a", "b c"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [vtd_jax.__file__, "a", "b c"]
    assert not (hostile / "ran").exists()


def test_what_the_user_set_is_there_again(monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "yes")
    with safe_path(), safe_path():
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ["PYTHONSAFEPATH"] == "yes"
