"""What is handed to a Beam runner, and what a task does with it."""

import contextlib
import json

import apache_beam as beam
import pytest

from vtd_jax.errors import UserError, names
from vtd_jax.video.ingest import run
from vtd_jax.video.ingest.shards import SETTINGS, Staging


@pytest.fixture
def staging(tmp_path) -> Staging:
    """A build of one shard that no one has made."""
    (tmp_path / run.BUILD).write_text("mine")
    stored = {"storage": "video"}
    settings = {
        "video_dir": str(tmp_path),
        "class_names": ["a"],
        "on_error": "fail",
        "stored": stored,
    }
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    video = {"file": "a.mp4", "label": 0, "size": 1, "modified": 1, "where": "list.txt:1"}
    (tmp_path / "00000.todo.json").write_text(json.dumps({"key": "k", "videos": [video]}))
    (tmp_path / "a.mp4").write_bytes(b"no video")
    return Staging(tmp_path)


def _task(folder, build):
    """One task, as a Beam worker runs it."""
    return run._beam_task(str(folder), build, names(), 0)


class Recorder:
    """A split builder that keeps the pipeline and does not run it."""

    def __init__(self):
        self.beam_pipeline = beam.Pipeline(runner="DirectRunner")

    def maybe_beam_pipeline(self):
        return contextlib.nullcontext()


def graph(folder, shards: int, monkeypatch) -> tuple[int, int]:
    """Transforms and bytes of the pipeline for so many shards."""
    for index in range(shards):
        (folder / f"{index:05d}.todo.json").write_text('{"key": "", "videos": []}')
    recorder = Recorder()
    monkeypatch.setattr(run, "LATE", 0.0)
    with pytest.raises(
        UserError,
        match=f"Beam ended without an error, but {shards} of {shards} shards are not here",
    ):
        run.run_on_beam(Staging(folder), shards, recorder)
    proto = recorder.beam_pipeline.to_runner_api()
    return len(proto.components.transforms), proto.ByteSize()


def test_the_graph_does_not_grow_with_the_shards(tmp_path, monkeypatch):
    few, small = graph(tmp_path, 3, monkeypatch)
    many, large = graph(tmp_path, 3000, monkeypatch)
    assert few == many < 40
    # nothing but the indices is added
    assert large - small < 20 * 3000


def test_a_bad_video_is_no_exception_and_stops_the_other_tasks(staging):
    assert _task(staging.folder, "mine") == 0
    message = staging.folder / "00000.bad"
    assert message.read_text().startswith("list.txt:1: ")
    message.rename(staging.folder / "00007.bad")
    _task(staging.folder, "mine")
    assert not message.exists()
    with pytest.raises(UserError, match=r"^list\.txt:1: "):
        run._require_all(staging, 1, None)


def test_a_task_of_an_earlier_build_lets_go(staging):
    assert _task(staging.folder, "an earlier one") == 0
    assert not list(staging.folder.glob("*.bad"))


def test_trouble_of_a_worker_is_an_exception_for_the_runner_and_a_line_for_the_user(staging):
    (staging.folder / SETTINGS).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        _task(staging.folder, "mine")
    with pytest.raises(UserError, match=r"^Beam: .*settings\.json: cannot be read"):
        run._require_all(staging, 1, RuntimeError("many\nlines"))


def test_a_full_disk_is_trouble_too(staging, monkeypatch):
    def write(self, index):
        raise UserError("part: cannot be written") from OSError("no space")

    monkeypatch.setattr(Staging, "write", write)
    with pytest.raises(UserError, match="part: cannot be written"):
        _task(staging.folder, "mine")
    assert not list(staging.folder.glob("*.bad"))
    with pytest.raises(UserError, match=r"^Beam: part: cannot be written$"):
        run._require_all(staging, 1, RuntimeError("wrapped"))


def test_trouble_that_left_no_file_is_reported_by_its_last_line(staging):
    with pytest.raises(UserError, match=r"^Beam: RuntimeError: no quota$"):
        run._require_all(staging, 1, RuntimeError("Traceback:\n  no quota\n>"))


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: a worker cannot read this folder"):
        _task(tmp_path / "nowhere", "mine")


def test_a_shard_that_shows_late_is_waited_for(staging, monkeypatch):
    looks = []

    def unfinished(count):
        looks.append(count)
        return [] if len(looks) > 1 else [0]

    monkeypatch.setattr(staging, "unfinished", unfinished)
    run._require_all(staging, 1, None)
    assert looks == [1, 1]


def test_nothing_is_started_where_all_is_finished(staging, monkeypatch):
    monkeypatch.setattr(staging, "unfinished", lambda count: [])
    assert run.run_on_beam(staging, 5, None) is None
