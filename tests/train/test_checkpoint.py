"""Checkpoints: what is in them, which are kept, how the wrong ones are refused."""

import os
import re
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from orbax.checkpoint._src.path import atomicity

from helpers import SMALL, random_state
from vtd_jax.clip.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.fingerprint import weights_fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.train import integrity
from vtd_jax.train.checkpoint import Checkpoints, flatten_arrays, unflatten_arrays

CONFIG = ModelConfig(text_prompts=2, text_depth=2, visual_prompts=2, visual_depth=1)


@pytest.fixture(scope="module")
def parts():
    model = VTDCLIP(clip_from_state(SMALL, random_state(SMALL)), CONFIG, rngs=nnx.Rngs(0))
    params = learnable(model)
    return params, optax.MultiSteps(optax.adamw(1e-3), 2).gradient_transformation().init(params)


def _save(checkpoints, parts, step, metric=None):
    learnt, opt_state = parts
    scaled = jax.tree.map(lambda value: value + step, learnt)
    checkpoints.save(step, scaled, opt_state, {"step": step, "batches": {"json": {"next": [step]}}}, metric)


def test_everything_comes_back(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 3)
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert again.steps == [3]
    assert again.progress(3) == {"step": 3, "batches": {"json": {"next": [3]}}}
    found, start = flatten_arrays(again.learnable(3, parts[0])), flatten_arrays(parts[0])
    assert found.keys() == start.keys()
    for name, value in start.items():
        np.testing.assert_array_equal(found[name], value + 3)
    restored = unflatten_arrays(parts[1], again.stored(3).optimizer, "optimizer")
    for ours, theirs in zip(flatten_arrays(restored).values(), flatten_arrays(parts[1]).values()):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    again.close()


def test_only_what_is_learnable_is_stored(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 1)
    checkpoints.close()
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    learnt = sum(value.nbytes for value in flatten_arrays(parts[0]).values())
    # parameters, two moments and accumulated gradients; the frozen token table alone has 12 MB
    assert learnt < stored < 6 * learnt < 49408 * 64 * 4


def test_last_and_best_are_kept(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, metric in ((1, 0.1), (2, 0.9), (3, 0.2), (4, None), (5, 0.3)):
        _save(checkpoints, parts, step, metric)
    assert checkpoints.steps == [2, 4, 5]
    assert (checkpoints.choose("last"), checkpoints.choose("best"), checkpoints.choose("4")) == (5, 2, 4)
    checkpoints.close()
    with pytest.raises(UserError, match=r"--checkpoint=3: expected last, best or one of the steps \[2, 4, 5\]"):
        Checkpoints(tmp_path).choose("3")


def test_none_there(tmp_path):
    checkpoints = Checkpoints(tmp_path / "nowhere")
    assert checkpoints.steps == []
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UserError, match="no checkpoints there"):
        checkpoints.choose("last")


def test_no_best_before_an_evaluation(tmp_path, parts):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, parts, 1)
    with pytest.raises(UserError, match="no checkpoint was evaluated yet"):
        checkpoints.choose("best")
    checkpoints.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory, parts):
    """A folder with three checkpoints."""
    folder = tmp_path_factory.mktemp("three")
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        _save(checkpoints, parts, step, metric=step / 10)
    checkpoints.close()
    return folder


def _no_item(folder):
    shutil.rmtree(folder / "optimizer")


def _no_bytes(folder):
    for path in (folder / "learnable").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _of_another_step(folder):
    shutil.rmtree(folder / "learnable")
    shutil.copytree(folder.parent / "2" / "learnable", folder / "learnable")


def _one_digit(folder):
    path = folder / "progress" / "metadata"
    path.write_text(path.read_text().replace('"next": [3]', '"next": [4]'))


def _a_step(folder):
    path = folder / "progress" / "metadata"
    path.write_text(path.read_text().replace('"step": 3', '"step": 4'))


def _copied(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "2", folder)


def _linked(folder):
    shutil.rmtree(folder)
    folder.symlink_to("2")


def _another_metric(folder):
    (folder / "metrics" / "metrics").write_text('{"metric": 0.93}')


def _metric_as_text(folder):
    (folder / "metrics" / "metrics").write_text('{"metric": "0.5"}')


def _sealed_metric(folder):
    path = folder / "progress" / "metadata"
    path.write_text(path.read_text().replace('"metric": 0.3', '"metric": 0.93'))
    _another_metric(folder)


def _no_digest(folder):
    (folder / "progress" / "metadata").write_text('{"step": 3}')


def _metrics(folder):
    (folder / "metrics" / "metrics").write_text("{")


def _nothing(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    _no_item: "optimizer is missing",
    _no_bytes: "learnable cannot be read",
    _of_another_step: "its contents are not those that were written",
    _one_digit: "its contents are not those that were written",
    _a_step: "it is the checkpoint of step 4, under another number",
    _copied: "it is the checkpoint of step 2, under another number",
    _linked: "it is the checkpoint of step 2, under another number",
    _no_digest: "progress has no digest",
    _metrics: "metrics cannot be read",
    _another_metric: "metrics says 0.93, and 0.3 was written",
    _metric_as_text: r"metrics cannot be read .*metrics: metric: expected float, got str",
    _sealed_metric: "its contents are not those that were written",
    _nothing: "learnable is missing",
}


def _listing(folder):
    return sorted((str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.mark.parametrize("damage, told", DAMAGES.items())
def test_a_damaged_checkpoint_is_told_and_left_by_readers(three, tmp_path, parts, damage, told):
    shutil.copytree(three, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "3")
    before, checkpoints = _listing(tmp_path), Checkpoints(tmp_path / "run")
    with pytest.raises(UserError, match=rf"checkpoints/3: damaged, {told}.*; whole .* --checkpoint=STEP: 1, 2$"):
        checkpoints.learnable(3, parts[0])
    assert checkpoints.choose("last") == 3
    # arrays are not read for this: of these it is seen
    assert checkpoints.choose("best") == (
        3 if damage in (_no_item, _no_bytes, _of_another_step, _one_digit, _sealed_metric) else 2
    )
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_makes_way_for_the_one_before(three, tmp_path, parts, damage, capsys):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "3")
    (tmp_path / "damaged" / "3").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, keep=3)
    last, wrong = checkpoints.last_whole()
    assert (last, list(wrong)) == (2, [3])
    checkpoints.set_aside(wrong, last)
    told = capsys.readouterr().err
    assert re.match(rf"warning: {tmp_path}/checkpoints/3: damaged, {DAMAGES[damage]}", told)
    assert told.endswith(f"moved to {tmp_path}/damaged/3_2; going on from the checkpoint of step 2\n")
    assert (os.path.lexists(tmp_path / "damaged" / "3_2"), checkpoints.steps) == (True, [1, 2])
    # orbax takes the folder as it is now, and the step again
    _save(checkpoints, parts, 3, metric=0.05)
    assert (checkpoints.steps, checkpoints.choose("best")) == ([1, 2, 3], 2)
    checkpoints.close()


def test_every_byte_counts(three, tmp_path):
    start = integrity.read(three / "checkpoints" / "3")
    files = [path.relative_to(three) for path in (three / "checkpoints" / "3").rglob("*") if path.is_file()]
    found = set()
    for name in [name for name in files if name.name not in ("commit_success.txt", "_CHECKPOINT_METADATA")]:
        shutil.copytree(three, tmp_path, dirs_exist_ok=True)
        data = bytearray((three / name).read_bytes())
        data[int(0.7 * len(data))] ^= 0x10
        (tmp_path / name).write_bytes(data)
        try:
            # tensorstore leaves files behind that nothing refers to
            assert integrity.digest(integrity.read(tmp_path / "checkpoints" / "3")) == integrity.digest(start)
        except integrity.Damaged:
            found.add(name.parts[2])
    assert {"learnable", "optimizer", "progress", "metrics"} == found


def test_none_whole(three, tmp_path):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    for step in (1, 2, 3):
        _no_item(tmp_path / "checkpoints" / str(step))
    before = _listing(tmp_path)
    with pytest.raises(
        UserError, match=r"none of its checkpoints is whole \(1: optimizer is missing; 2: .*another --wo"
    ):
        Checkpoints(tmp_path).last_whole()
    assert _listing(tmp_path) == before


def test_writing_goes_on_in_the_background_with_the_values_of_then(tmp_path, monkeypatch):
    commit, released = atomicity.on_commit_callback, threading.Event()

    def slow(*args, **kwargs):
        assert released.wait(30)
        return commit(*args, **kwargs)

    monkeypatch.setattr(atomicity, "on_commit_callback", slow)
    handed = []
    monkeypatch.setattr(
        integrity, "sealed", lambda stored, seal=integrity.sealed: handed.append(stored) or seal(stored)
    )
    checkpoints, arrays = Checkpoints(tmp_path), {"a": np.arange(6.0)}
    device = {"a": jnp.arange(6.0)}
    checkpoints.save(1, arrays, device, {"step": 1})
    # what orbax holds on to is nobody else's: a device's buffers are written over by the next step
    assert not np.shares_memory(handed[0].learnable["a"], arrays["a"])
    assert not np.shares_memory(handed[0].optimizer["a"], np.asarray(device["a"]))
    arrays["a"] += 1
    assert not (tmp_path / "checkpoints" / "1").exists()
    released.set()
    assert checkpoints.steps == [1]
    np.testing.assert_array_equal(checkpoints.learnable(1, arrays)["a"], np.arange(6.0))
    checkpoints.close()


@pytest.mark.parametrize("end", ["save", "close", "steps"])
def test_a_write_that_fails_is_one_line_and_never_silent(tmp_path, monkeypatch, end, caplog):
    checkpoints, arrays = Checkpoints(tmp_path), {"a": np.arange(6.0)}
    checkpoints.save(1, arrays, arrays, {"step": 1})
    checkpoints.wait()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomicity, "on_commit_callback", full)
    checkpoints.save(2, arrays, arrays, {"step": 2})
    ends = {
        "save": lambda: checkpoints.save(3, arrays, arrays, {"step": 3}),
        "close": checkpoints.close,
        "steps": lambda: checkpoints.steps,
    }
    told = r"checkpoints/2: this .* could not be written \(OSError.*No space left.*last one is of step 1"
    with pytest.raises(UserError, match=told):
        ends[end]()
    assert not [record for record in caplog.records if record.exc_info]
    monkeypatch.undo()
    assert Checkpoints(tmp_path).steps == [1]
    # and the step can be written by a later run
    again = Checkpoints(tmp_path)
    again.save(2, arrays, arrays, {"step": 2})
    assert again.steps == [1, 2]
    again.close()
    checkpoints.close()


def test_what_a_killed_run_left_is_no_checkpoint_and_goes(tmp_path, parts):
    folder = tmp_path / "checkpoints"
    for name in ("3.orbax-checkpoint-tmp", "leaving/1"):
        (folder / name / "learnable").mkdir(parents=True)
        (folder / name / "learnable" / "file").write_text("half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.steps == []
    _save(checkpoints, parts, 3)
    checkpoints.close()
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_a_metric_that_comes_later_is_the_one_that_counts(three, tmp_path, parts):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    checkpoints = Checkpoints(tmp_path, keep=4)
    _save(checkpoints, parts, 4)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.metric(4) is None
    checkpoints.add_metric(4, 0.9, rows=7)
    again = Checkpoints(tmp_path)
    assert (again.choose("best"), again.rows(4), again.progress(4)) == (4, 7, checkpoints.progress(4))
    _save(checkpoints, parts, 5, metric=0.3)
    # orbax goes by it as well
    assert checkpoints.steps == [4, 5]
    checkpoints.close()


def test_other_settings_are_refused_by_name():
    here = {"prompts": jnp.zeros((2, 3)), "scale": jnp.zeros(())}
    there = {"prompts": np.zeros((4, 3), np.float32), "fusion": np.zeros(1)}
    with pytest.raises(UserError, match=r"where: another run's .* fusion, scale, prompts \(4, 3\) instead of \(2, 3\)"):
        unflatten_arrays(here, there, "where")


def test_clips_of_one_architecture_have_fingerprints_of_their_own():
    first, second = (nnx.state(clip_from_state(SMALL, random_state(SMALL, seed))) for seed in (0, 1))
    assert weights_fingerprint(first) == weights_fingerprint(first) != weights_fingerprint(second)
