"""Workdirs in use, and checkpoints that wait or act, through the commands."""

import os
import shutil

import pytest

from hostile import harness
from support import small_run
from vtd_jax.train.workdir import _FILES, WorkdirLock

pytestmark = pytest.mark.command


def _train(small, workdir, *flags):
    return [*small_run.flags(small), f"--workdir={workdir}", "--config.optimizer.epochs=1", *flags]


def test_a_second_run_is_refused_and_an_evaluation_is_not(small, trained, workdir, tmp_path):
    with WorkdirLock(workdir) as hold:
        hold.take()
        texts = [
            f"--workdir={workdir}: process {os.getpid()} on ",
            "is writing there; wait for it or stop it",
        ]
        harness.check_refused(
            "train", _train(small, workdir), folder=tmp_path, outputs=[workdir], texts=texts
        )
        harness.check_right(
            "evaluate", [f"--workdir={workdir}"], folder=tmp_path, outputs=[workdir]
        )
    for name in ("config.json", "metrics.csv", "training_list.json"):
        assert (workdir / name).read_bytes() == (trained / name).read_bytes()


def _pipe(workdir, *place):
    path = workdir.joinpath("checkpoints", "3", *place)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "command, place",
    [
        ("evaluate", ("learnable", "manifest.ocdbt")),
        ("evaluate", ("optimizer", "d")),
        ("evaluate", ("progress", "metadata")),
        ("train", ("learnable", "_METADATA")),
        ("train", ("metrics", "metrics")),
    ],
)
def test_pipes_in_a_checkpoint_are_not_waited_for(command, place, small, workdir, tmp_path):
    _pipe(workdir, *place)
    flags = _train(small, workdir) if command == "train" else [f"--workdir={workdir}"]
    done = harness.check_refused(command, flags, folder=tmp_path, outputs=[workdir])
    assert f"{place[0]} " in done.error


@pytest.mark.parametrize("kind", ["pipe", "link", "file"])
def test_old_checkpoints_leave_whatever_stands_in_their_way(kind, small, workdir, tmp_path):
    place, mine = workdir / "checkpoints" / "leaving", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    {
        "pipe": lambda: os.mkfifo(place),
        "link": lambda: place.symlink_to(mine),
        "file": lambda: place.write_text("x"),
    }[kind]()
    flags = _train(small, workdir, "--config.optimizer.epochs=2")
    harness.check_right(
        "train", flags, folder=tmp_path, outputs=[workdir], limits=harness.Limits(cpu=60)
    )
    assert (workdir / "checkpoints" / "6").is_dir()
    assert os.listdir(mine) == ["thesis.txt"]


@pytest.mark.parametrize(
    "name",
    [
        ".train.lock",
        "training_list.json",
        "results.json",
        "results_confusions.csv",
        "results_scores.npz",
    ],
)
def test_a_folder_in_the_place_of_a_file_is_reported_before_the_training(
    name, small, workdir, tmp_path
):
    (workdir / name).unlink()
    (workdir / name).mkdir()
    flags = _train(small, workdir, "--config.optimizer.epochs=2")
    done = harness.check_refused(
        "train", flags, folder=tmp_path, outputs=[workdir], texts=[str(workdir / name)]
    )
    assert "move it away" in done.error
    assert not (workdir / "checkpoints" / "6").exists()


def test_every_file_of_a_run_is_known(trained):
    assert {path.name for path in trained.iterdir() if path.is_file()} <= set(_FILES)


def test_a_link_out_of_the_workdir_is_not_followed(small, workdir, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (workdir / "damaged").symlink_to(mine)
    shutil.copytree(workdir / "checkpoints" / "3", workdir / "checkpoints" / "6")
    flags = _train(small, workdir, "--config.optimizer.epochs=2")
    harness.check_refused(
        "train", flags, folder=tmp_path, outputs=[workdir], texts=["damaged: a link"]
    )
    assert not any(mine.iterdir())
