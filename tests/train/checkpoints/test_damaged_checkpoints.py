"""Checkpoints that are damaged, changed, copied or another run's: reported by readers, moved out
of the way of a run.
"""

import json
import os
import re
import shutil

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.train.checkpoints import integrity
from vtd_jax.train.checkpoints.checkpoint import Checkpoints

ARRAYS = {
    "a": np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32),
    "b": np.zeros(3, np.float32),
}


def _save(checkpoints, step, metric=None, **progress):
    arrays = {name: value + step for name, value in ARRAYS.items()}
    checkpoints.save(
        step,
        arrays,
        {"count": np.int32(step)},
        {"batches": {"json": {"next": [step]}}, **progress},
        metric,
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder with three checkpoints."""
    folder = tmp_path_factory.mktemp("three")
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        _save(checkpoints, step, metric=step / 10)
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
    _a_step: "it is the checkpoint of step 4",
    _copied: "it is the checkpoint of step 2",
    _linked: "it is the checkpoint of step 2",
    _no_digest: "progress has no digest",
    _metrics: "metrics cannot be read",
    _another_metric: "metrics says 0.93, and 0.3 was written",
    _metric_as_text: r"metrics cannot be read .*metrics: metric: expected float, got str",
    _sealed_metric: "its contents are not those that were written",
    _nothing: "learnable is missing",
}


def _listing(folder):
    return sorted(
        (str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*")
    )


@pytest.mark.parametrize("damage, message", DAMAGES.items())
def test_a_damaged_checkpoint_is_reported_and_left_by_readers(three, tmp_path, damage, message):
    shutil.copytree(three, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "3")
    before, checkpoints = _listing(tmp_path), Checkpoints(tmp_path / "run")
    with pytest.raises(
        UserError, match=rf"checkpoints/3: damaged, {message}.*; .* `checkpoint=STEP`: 1, 2$"
    ):
        checkpoints.stored(3)
    assert checkpoints.choose("last") == 3
    # arrays are not read for this: of these it is seen
    assert checkpoints.choose("best") == (
        3 if damage in (_no_item, _no_bytes, _of_another_step, _one_digit, _sealed_metric) else 2
    )
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_makes_way_for_the_one_before(three, tmp_path, damage, capsys):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "3")
    (tmp_path / "damaged" / "3").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, keep=3)
    last, wrong = checkpoints.last_intact()
    assert (last, list(wrong)) == (2, [3])
    checkpoints.set_aside(wrong, last)
    message = capsys.readouterr().err
    assert re.match(rf"warning: {tmp_path}/checkpoints/3: damaged, {DAMAGES[damage]}", message)
    assert f"moved to {tmp_path}/damaged/3_2; resuming from step 2" in message
    assert (os.path.lexists(tmp_path / "damaged" / "3_2"), checkpoints.steps) == (True, [1, 2])
    # orbax takes the folder as it is now, and the step again
    _save(checkpoints, 3, metric=0.05)
    assert (checkpoints.steps, checkpoints.choose("best")) == ([1, 2, 3], 2)
    checkpoints.close()


def test_every_byte_counts(three, tmp_path):
    start = integrity.read(three / "checkpoints" / "3")
    files = [
        path.relative_to(three)
        for path in (three / "checkpoints" / "3").rglob("*")
        if path.is_file()
    ]
    found = set()
    for name in [
        name for name in files if name.name not in ("commit_success.txt", "_CHECKPOINT_METADATA")
    ]:
        shutil.copytree(three, tmp_path, dirs_exist_ok=True)
        data = bytearray((three / name).read_bytes())
        data[int(0.7 * len(data))] ^= 0x10
        (tmp_path / name).write_bytes(data)
        try:
            # tensorstore leaves files behind that nothing refers to
            assert integrity.digest(
                integrity.read(tmp_path / "checkpoints" / "3")
            ) == integrity.digest(start)
        except integrity.Damaged:
            found.add(name.parts[2])
    assert {"learnable", "optimizer", "progress", "metrics"} == found


def test_none_whole(three, tmp_path):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    for step in (1, 2, 3):
        _no_item(tmp_path / "checkpoints" / str(step))
    before = _listing(tmp_path)
    with pytest.raises(
        UserError,
        match=r"none .*is intact \(1: optimizer is missing; 2: .*another `workdir",
    ):
        Checkpoints(tmp_path).last_intact()
    assert _listing(tmp_path) == before


def test_checkpoints_of_before_the_metric_was_sealed(three, tmp_path):
    folder = shutil.copytree(three / "checkpoints" / "3", tmp_path / "checkpoints" / "3")
    stored = integrity.read(folder)
    old = integrity.sealed(stored._replace(noted={})).progress
    assert old.keys() == {"step", "batches", "digest"}
    (folder / "progress" / "metadata").write_text(json.dumps(old))
    checkpoints = Checkpoints(tmp_path)
    assert (checkpoints.last_intact(), checkpoints.metric(3), checkpoints.rows(3)) == (
        (3, {}),
        0.3,
        0,
    )
    assert checkpoints.progress(3) == stored.progress
    assert integrity.digest(checkpoints.stored(3)) == integrity.digest(stored)
    shutil.rmtree(folder / "metrics")
    assert Checkpoints(tmp_path).metric(3) is None


def test_another_runs_make_way_for_this_ones(three, tmp_path, capsys):
    shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    checkpoints = Checkpoints(tmp_path, keep=9)
    _save(checkpoints, 4, settings="other")
    checkpoints.close()

    def other(stored):
        return "another run's checkpoint" if "settings" in stored.progress else ""

    checkpoints = Checkpoints(tmp_path)
    last, wrong = checkpoints.last_intact(other)
    assert (last, wrong) == (3, {4: "another run's checkpoint"})
    checkpoints.set_aside(wrong, last)
    message = capsys.readouterr().err
    assert message.startswith(
        f"warning: {tmp_path}/checkpoints/4: another run's checkpoint; moved to "
    )
    assert (tmp_path / "damaged" / "4").is_dir()
    assert message.endswith("from step 3\n")
    with pytest.raises(UserError, match=r"checkpoints/3: not mine$"):
        checkpoints.last_intact(lambda stored: "not mine")


@pytest.mark.parametrize(
    "progress",
    [
        b"[" * 100_000,
        b'{"step": ' + b"9" * 5000 + b"}",
        b"3",
        b"\xff",
        b'{"step": "3", "digest": ""}',
        b'{"digest": 3}',
        None,
    ],
    ids=ascii,
)
def test_progress_of_other_types(three, tmp_path, progress):
    folder = shutil.copytree(three / "checkpoints" / "3", tmp_path / "3")
    file = folder / "progress" / "metadata"
    file.unlink()
    os.mkfifo(file) if progress is None else file.write_bytes(progress)
    with pytest.raises(integrity.Damaged, match=r"^progress cannot be read"):
        integrity.read(folder)
    assert Checkpoints(tmp_path).metric(3) is None


def test_a_metric_that_is_no_file(three, tmp_path):
    folder = shutil.copytree(three / "checkpoints" / "3", tmp_path / "3")
    (folder / "metrics" / "metrics").unlink()
    os.mkfifo(folder / "metrics" / "metrics")
    with pytest.raises(integrity.Damaged, match=r"^metrics cannot be read"):
        integrity.read(folder)
