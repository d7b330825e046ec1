"""The folder of a run: any name, one run at a time, and noticed when it goes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.learnt import load_learnt
from vtd_jax.train.loop import train
from vtd_jax.train.workdir import (
    WorkdirHandle,
    WorkdirLock,
    prepare_workdir,
    read_training_list,
    save_training_list,
)
from vtd_jax.video.stored_lists import StoredList

NAMES = [
    "per%cent", "per%20cent", "hash#tag", "br[ack]et", "back\\slash", "que?ry", "star*",
    "two words", "gs:", "file:", "ünï", "e\u0301", "new\nline", "esc\x1b[31m", "'\"", "{a}",
    b"\xff\xfe".decode(errors="surrogateescape"),
]  # fmt: skip


LEARNT_FROM = StoredList(
    Path("base_val.json"), "base_val", "official", "x", ("a",), np.arange(3), np.arange(3), (), ""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_checkpoints_in_a_folder_of_any_name(tmp_path, name):
    workdir, arrays = tmp_path / name, {"a": np.arange(3.0)}
    # what a pattern of that name would find as well
    (tmp_path / "bra" / "checkpoints" / "9").mkdir(parents=True)
    checkpoints = Checkpoints(workdir, keep=1)
    for step in (1, 2):
        checkpoints.save(step, arrays, arrays, {}, metric=0.5)
    checkpoints.close()
    again = Checkpoints(workdir)
    assert (again.steps, again.last_intact()) == ([2], (2, {}))
    np.testing.assert_array_equal(again.stored(2).learnable["a"], arrays["a"])
    assert [path.name for path in workdir.iterdir()] == ["checkpoints"]


@pytest.mark.slow
def test_a_whole_run_in_a_folder_of_any_name(folder, tmp_path):
    workdir = tmp_path / "".join(NAMES).replace("/", "")
    config = small_run.run_config(folder, optimizer__epochs=1)
    small_run.train(config, workdir)
    longer = small_run.run_config(folder)
    assert small_run.train(longer, workdir, resume=True).steps_now == 3
    assert load_learnt(from_config.build_model(longer), workdir) == 6
    assert [row["step"] for row in small_run.rows(workdir)] == list("123456")


def test_two_runs_are_not_in_one_folder(tmp_path):
    with WorkdirLock(tmp_path / "run") as first:
        first.take()
        with WorkdirLock(tmp_path / "run") as second, pytest.raises(UserError) as refused:
            second.take()
        assert f"`workdir={tmp_path}/run`: process {os.getpid()} on " in str(refused.value)
    with WorkdirLock(tmp_path / "run") as after:
        after.take()


@pytest.mark.parametrize("content", ['{"model_type": "clip"}', "[1]", "{"])
def test_a_config_of_another_user_is_not_written_over(folder, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(
        UserError, match=r"config\.json: .*give another `workdir`, or move that file away"
    ):
        prepare_workdir(tmp_path, small_run.run_config(folder), resume=True)
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.slow
def test_an_owner_that_was_killed_is_none(tmp_path):
    made = (
        "from vtd_jax.train.workdir import WorkdirLock; "
        "hold = WorkdirLock(sys.argv[1]); hold.take()"
    )
    code = f"import os, sys; {made}; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=small_run.ROOT, check=False)
    assert b"pid" in (tmp_path / ".train.lock").read_bytes()
    with WorkdirLock(tmp_path) as hold:
        hold.take()


def test_a_folder_that_goes_is_noticed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    place = WorkdirHandle(tmp_path / "run")
    place.check(["file"])
    (tmp_path / "run" / "file").unlink()
    with pytest.raises(UserError, match="run/file: was removed while the run was writing"):
        place.check(["file"])
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(
        UserError, match=r"run`: was removed or moved while the run was writing into it"
    ):
        place.check()
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"run`: was removed or moved, .*another folder"):
        place.check()


def _remove(workdir):
    shutil.rmtree(workdir)


def _replace(workdir):
    shutil.move(workdir, workdir.with_name("elsewhere"))
    shutil.copytree(workdir.with_name("elsewhere"), workdir)


def _metrics(workdir):
    (workdir / "metrics.csv").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 6])
@pytest.mark.parametrize("change", [_remove, _replace, _metrics])
def test_a_run_whose_folder_goes_ends_with_an_error(folder, tmp_path, monkeypatch, change, step):
    config, workdir = small_run.run_config(folder), tmp_path / "run"
    made = Checkpoints.save

    def save(self, at, *args):
        made(self, at, *args)
        self.wait()
        if at == 3 * (step > 3) + 3:
            change(workdir)

    monkeypatch.setattr(Checkpoints, "save", save)
    workdir.mkdir()
    with pytest.raises(UserError, match="was removed"):
        train(config, from_config.build_model(config), from_config.open_training(config), workdir)
    # nothing was made again
    assert workdir.exists() == (change is not _remove)


@pytest.mark.parametrize("left", [True, False])
def test_a_write_that_fails_in_a_folder_that_went_says_so(tmp_path, monkeypatch, left):
    workdir, arrays = tmp_path / "run", {"a": np.zeros(1)}
    checkpoints = Checkpoints(workdir)
    checkpoints.save(1, arrays, arrays, {})
    (workdir / "metrics.csv").touch()
    checkpoints.save(2, arrays, arrays, {})
    wait = checkpoints._manager.wait_until_finished

    def fail():
        wait()
        shutil.rmtree(workdir)
        # as orbax makes folders again
        (workdir / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
        if left:
            (workdir / "mine").touch()
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fail)
    with pytest.raises(UserError, match="run`: was removed or moved") as message:
        checkpoints.wait()
    assert "space" not in str(message.value)
    assert (workdir.exists(), workdir.exists() and (workdir / "mine").exists()) == (left, left)
    with pytest.raises(UserError, match="run`: was removed or moved"):
        checkpoints.save(3, arrays, arrays, {})
    assert workdir.exists() == left


@pytest.mark.parametrize("name", ["²", "٣", "007", "+7", " 7", "1e3", "7.orbax", "notes.txt"])
def test_other_names_among_checkpoints_are_left_alone(tmp_path, name):
    other, arrays = tmp_path / "checkpoints" / name, {"a": np.zeros(1)}
    (other / "learnable").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert (checkpoints.steps, Checkpoints(tmp_path / "none").steps) == ([], [])
    for step in (7, 8):
        checkpoints.save(step, arrays, arrays, {}, metric=0.1)
    checkpoints.close()
    assert Checkpoints(tmp_path).steps == [8]
    assert (other / "learnable").is_dir()
    with pytest.raises(UserError, match="expected last, best or one of"):
        Checkpoints(tmp_path).choose(name)


@pytest.mark.parametrize("make", ["touch", "mkfifo", "symlink_to"])
def test_what_is_no_folder_makes_way_for_a_checkpoint(tmp_path, make, capsys):
    (tmp_path / "checkpoints").mkdir()
    place, arrays = tmp_path / "checkpoints" / "7", {"a": np.zeros(1)}
    os.mkfifo(place) if make == "mkfifo" else getattr(place, make)(
        *(["nowhere"] if make == "symlink_to" else [])
    )
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == []
    checkpoints.save(7, arrays, arrays, {})
    checkpoints.close()
    assert Checkpoints(tmp_path).last_intact() == (7, {})
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {place}: not a folder")
    assert message.endswith(f"moved to {tmp_path}/damaged/7\n")
    assert os.path.lexists(tmp_path / "damaged" / "7")


def test_links_in_the_place_of_our_folders_are_not_followed(tmp_path):
    mine, arrays = tmp_path / "mine", {"a": np.zeros(1)}
    mine.mkdir()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "leaving").symlink_to(mine)
    (run / "damaged").symlink_to(mine)
    checkpoints = Checkpoints(run, keep=1)
    for step in (1, 2, 3):
        checkpoints.save(step, arrays, arrays, {})
    checkpoints.close()
    shutil.rmtree(run / "checkpoints" / "3" / "learnable")
    with pytest.raises(UserError, match="damaged: a link, expected a folder"):
        Checkpoints(run).set_aside({3: "damaged"}, 2)
    assert list(mine.iterdir()) == []


@pytest.mark.parametrize("text", ['{"origin": "own split", "told": "x"}', "{"])
def test_a_training_list_that_was_edited_is_written_again(tmp_path, text, capsys):
    noted = save_training_list(tmp_path, LEARNT_FROM)
    save_training_list(tmp_path, LEARNT_FROM)
    assert capsys.readouterr().err == ""
    (tmp_path / "training_list.json").write_text(text)
    save_training_list(tmp_path, LEARNT_FROM)
    assert read_training_list(tmp_path) == noted
    message = "written again: base_val (official list; 3 videos)"
    warned = capsys.readouterr().err
    assert warned.startswith(f"warning: {tmp_path}/training_list.json: ")
    assert message in warned


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"origin": 3}', '{"told": NaN}', "\0", "null", '{"a": []}']
)
def test_a_damaged_training_list_is_one_line(tmp_path, text):
    (tmp_path / "training_list.json").write_text(text)
    with pytest.raises(
        UserError, match=r"training_list\.json: .*; remove the file: tables will then not name"
    ):
        read_training_list(tmp_path)
    (tmp_path / "training_list.json").unlink()
    os.mkfifo(tmp_path / "training_list.json")
    with pytest.raises(UserError, match="a pipe, expected a JSON file; remove the file"):
        read_training_list(tmp_path)
