"""Iterators: the same batches from threads and processes, exact resume, and no device touched."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from support.video_files import damage_shard, frame_number
from vtd_jax.errors import UserError
from vtd_jax.video.augment import Augment
from vtd_jax.video.pipeline import eval_batches, train_batches
from vtd_jax.video.records import Records, open_records
from vtd_jax.video.scaling.fit import Fit

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"frames": 4, "size": 16, "batch_size": 2, "seed": 3, "augment": Augment()}


@pytest.fixture(scope="module", params=["jpeg", "video"])
def records(request, built):
    return open_records(built, request.param)


@pytest.fixture(scope="module")
def jpeg(built):
    return open_records(built, "jpeg")


def collect(batches, count=None):
    """All or some batches; the iterator is closed."""
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right):
        assert a.keys() == b.keys()
        for key in a:
            assert np.array_equal(a[key], b[key]), key


def test_training_ends_after_its_epochs(records):
    batches = train_batches(records, **SETTINGS, num_epochs=2)
    assert batches.batches_per_epoch == 3
    found = collect(batches)
    assert len(found) == 6
    assert found[0]["frames"].shape == (2, 4, 16, 16, 3)
    assert sum(b["weight"].sum() for b in found) == 10
    assert_same(found, collect(train_batches(records, **SETTINGS, num_epochs=2)))


def test_endless_training_continues_like_a_longer_one(jpeg):
    assert_same(
        collect(train_batches(jpeg, **SETTINGS), 7),
        collect(train_batches(jpeg, **SETTINGS, num_epochs=9), 7),
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing_and_resume_exactly(jpeg, workers):
    expected = collect(train_batches(jpeg, **SETTINGS, num_epochs=2))
    batches = train_batches(jpeg, **SETTINGS, num_epochs=2, workers=workers)
    first = [next(batches) for _ in range(2)]
    state = json.loads(json.dumps(batches.get_state()))
    assert_same(first + collect(batches), expected)
    # the state continues in threads, which is another number of workers
    resumed = train_batches(jpeg, **SETTINGS, num_epochs=2)
    resumed.set_state(state)
    assert_same(collect(resumed), expected[2:])


def test_resume_in_the_middle_of_an_epoch_and_back(records):
    expected = collect(train_batches(records, **SETTINGS, num_epochs=2))
    batches = train_batches(records, **SETTINGS, num_epochs=2)
    states = []
    for _ in range(4):
        states.append(batches.get_state())
        next(batches)
    for position in (3, 1):
        batches.set_state(states[position])
        assert_same([next(batches)], [expected[position]])
    assert_same(collect(batches), expected[2:])


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "restored"), [(0, 2), (1, 0), (2, 1)])
def test_orbax_saves_and_restores_beside_other_items_with_any_workers(
    jpeg, tmp_path, saved, restored
):
    expected = collect(train_batches(jpeg, **SETTINGS, num_epochs=2))
    batches = train_batches(jpeg, **SETTINGS, num_epochs=2, workers=saved)
    weights = {"prompts": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with ocp.CheckpointManager(tmp_path) as manager:
        for step in range(
            1, 5
        ):  # three batches an epoch: the last save is in the middle of the second
            next(batches)
            items = {
                "weights": ocp.args.StandardSave(weights),
                "data": grain.checkpoint.CheckpointSave(batches),
            }
            manager.save(step, args=ocp.args.Composite(**items))
        manager.wait_until_finished()
        assert_same(collect(batches), expected[4:])  # saving disturbs nothing
        for step in (4, 2):
            fresh = train_batches(jpeg, **SETTINGS, num_epochs=2, workers=restored)
            data, numbers = (
                grain.checkpoint.CheckpointRestore(fresh),
                ocp.args.StandardRestore(weights),
            )
            found = manager.restore(step, args=ocp.args.Composite(data=data, weights=numbers))
            assert np.array_equal(found["weights"]["prompts"], weights["prompts"])
            assert_same(collect(found["data"]), expected[step:])


def test_orbax_refuses_the_state_of_another_seed(jpeg, tmp_path):
    with ocp.CheckpointManager(tmp_path) as manager:
        save = grain.checkpoint.CheckpointSave(train_batches(jpeg, **SETTINGS))
        manager.save(1, args=ocp.args.Composite(data=save))
        manager.wait_until_finished()
        other = grain.checkpoint.CheckpointRestore(train_batches(jpeg, **{**SETTINGS, "seed": 4}))
        with pytest.raises(UserError, match=r"seed \(was 3, is 4\)"):
            manager.restore(1, args=ocp.args.Composite(data=other))


def test_more_epochs_or_hosts_resume_from_a_state(jpeg):
    state = dict(train_batches(jpeg, **SETTINGS, num_epochs=2).get_state(), batch=5)
    longer = train_batches(jpeg, **SETTINGS, num_epochs=4, host_index=1, host_count=2)
    longer.set_state(state)
    whole = collect(train_batches(jpeg, **SETTINGS, num_epochs=4))[5]
    assert np.array_equal(next(longer)["index"], whole["index"][1:])
    longer.close()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seed": 4}, r"seed \(was 3, is 4\)"),
        ({"batch_size": 1}, r"batch_size \(was 2, is 1\)"),
        ({"augment": Augment(flip=0.0)}, "augment"),
        (
            {"frames": 8, "shuffle": False},
            r"frames \(was 4, is 8\); shuffle \(was True, is False\)",
        ),
    ],
)
def test_a_state_of_other_settings_is_refused(jpeg, fields, words):
    state = train_batches(jpeg, **SETTINGS).get_state()
    other = train_batches(jpeg, **{**SETTINGS, **fields})
    with pytest.raises(UserError, match=words):
        other.set_state(state)


def test_a_state_of_frames_scaled_otherwise_is_refused(jpeg):
    release, clip = ({**SETTINGS, **more} for more in ({}, {"fit": Fit("clip")}))
    state = train_batches(jpeg, **release).get_state()
    assert not {"fit", "preprocess", "squash"} & state["data"].keys()
    with pytest.raises(UserError, match=r"preprocess \(was None, is clip\)"):
        train_batches(jpeg, **clip).set_state(state)
    state = train_batches(jpeg, **clip).get_state()
    train_batches(jpeg, **clip).set_state(state)
    with pytest.raises(UserError, match=r"preprocess \(was clip, is None\)"):
        train_batches(jpeg, **release).set_state(state)


def test_a_state_of_other_records_is_refused(built):
    states = [train_batches(open_records(built, name), **SETTINGS) for name in ("jpeg", "video")]
    with pytest.raises(UserError, match=r"records \(was jpeg, is video\)"):
        states[1].set_state(states[0].get_state())


@pytest.mark.parametrize(("batch_size", "sizes"), [(2, [2, 2, 1]), (5, [5]), (8, [5])])
def test_evaluation_sees_every_video_once(records, batch_size, sizes):
    found = collect(eval_batches(records, frames=4, size=16, batch_size=batch_size))
    assert [int(b["weight"].sum()) for b in found] == sizes
    assert {b["frames"].shape for b in found} == {(batch_size, 4, 16, 16, 3)}
    indices = np.concatenate([b["index"][b["weight"] > 0] for b in found])
    assert indices.tolist() == list(range(5))
    labels = np.concatenate([b["label"][b["weight"] > 0] for b in found])
    assert labels.tolist() == [e.label for e in records]


def test_evaluation_views_and_hosts(jpeg):
    settings = {"frames": 4, "size": 16, "batch_size": 4, "temporal_views": 2, "spatial_views": 3}
    found = collect(eval_batches(jpeg, **settings))
    assert {b["frames"].shape for b in found} == {(4, 6, 4, 16, 16, 3)}
    assert_same(found, collect(eval_batches(jpeg, **settings)))
    half = collect(eval_batches(jpeg, **settings, host_index=0, host_count=2))
    assert np.array_equal(half[1]["frames"], found[1]["frames"][:2])


def test_a_state_of_another_kind_of_iterator_is_refused(jpeg):
    with pytest.raises(UserError, match="expected batch and data, it has next_index"):
        train_batches(jpeg, **SETTINGS).set_state({"next_index": 3})


@pytest.mark.parametrize("frames", [1, 3, 50])
def test_any_number_of_frames_of_a_clip_of_five(jpeg, frames):
    index = next(i for i, example in enumerate(jpeg) if example.num_frames == 5)
    for sample in ("segments", "centre"):
        found = collect(
            train_batches(jpeg, **{**SETTINGS, "frames": frames}, num_epochs=1, sample=sample)
        )
        assert {batch["frames"].shape for batch in found} == {(2, frames, 16, 16, 3)}
    (batch,) = collect(eval_batches(jpeg, frames=frames, size=16, batch_size=5, temporal_views=2))
    seen = [frame_number(frame) for frame in batch["frames"][index, 0]]
    expected = {1: [2], 3: [0, 2, 4], 50: [i // 10 for i in range(50)]}[frames]
    assert seen == pytest.approx(expected, abs=0.6)


def test_threads_run_ahead_but_not_far(jpeg, monkeypatch):
    reads, read = [], Records.__getitem__
    monkeypatch.setattr(
        Records, "__getitem__", lambda self, index: reads.append(index) or read(self, index)
    )
    most = min(4, os.cpu_count()) + 1
    assert most <= 5  # what `train_batches` promises
    with contextlib.closing(train_batches(jpeg, **{**SETTINGS, "batch_size": 1})) as batches:
        for taken in (1, 2, 3):
            next(batches)
            end = time.monotonic() + 60
            while len(reads) < taken + most and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(0.3)
            assert len(reads) == taken + most


def test_bad_settings_are_reported_before_the_first_batch(jpeg):
    with pytest.raises(UserError, match="batch_size=0"):
        train_batches(jpeg, **{**SETTINGS, "batch_size": 0})
    with pytest.raises(UserError, match="workers=-1"):
        eval_batches(jpeg, frames=4, size=16, batch_size=2, workers=-1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_one_line_from_any_worker(built, tmp_path, workers):
    shutil.copytree(built, tmp_path / "copy")
    damage_shard(next((tmp_path / "copy").rglob("jpeg/1.0.0/*array_record*")))
    batches = eval_batches(
        open_records(tmp_path / "copy", "jpeg"), frames=2, size=16, batch_size=5, workers=workers
    )
    with pytest.raises(UserError, match="cannot be read"):
        collect(batches)


NO_DEVICE = """
import sys
from vtd_jax.video.pipeline import eval_batches
from vtd_jax.video.records import Records, open_records
for batch in eval_batches(open_records(sys.argv[1], "video"), frames=2, size=16, batch_size=2):
    assert batch["frames"].shape == (2, 2, 16, 16, 3)
assert "tensorflow" not in sys.modules and "torch" not in sys.modules
import vtd_jax.video
ours = [name for name in sys.modules if name.startswith("vtd_jax.")]
assert not any(name.startswith(("vtd_jax.model", "vtd_jax.clip", "vtd_jax.train"))\
 for name in ours), ours
if "jax" in sys.modules:  # grain imports it
    from jax._src import xla_bridge
    assert not xla_bridge.backends_are_initialized()
print("done")
"""


def test_reading_touches_no_device_and_no_model_code(built):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", NO_DEVICE, str(built)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
