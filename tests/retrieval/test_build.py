"""Making an index: resumed, grown, repaired; what changed is encoded again and nothing else."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from retrieval.conftest import predictor

from support.small_model import LABELS
from support.video_files import make_video
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.predict.job import Encoded
from vtd_jax.retrieval import build as building
from vtd_jax.retrieval import shard_files
from vtd_jax.retrieval.build import build
from vtd_jax.retrieval.index import Index


def _run(folder, given, model, **options):
    settings = dict(source="small", settings={}, frames=None, how={"workers": 0}, restart=False)
    return build(folder, list(map(str, given)), model, **(settings | options))


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _same(one, other):
    """Whether two indices hold the same clips, whatever their shards."""
    pairs = list(zip(one, other, strict=True))
    for first, second in pairs:
        assert first.clip.name == second.clip.name
        np.testing.assert_array_equal(first.clip.indices, second.clip.indices)
        # another place in a batch may round otherwise, to one unit of float16
        np.testing.assert_allclose(first.features, second.features, rtol=1e-3, atol=1e-6)
    return len(pairs)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_an_index_grows_and_full_shards_stay(clips, plain, tmp_path, seen):
    folder = tmp_path / "index"
    first = [clips / f"{number}.mp4" for number in range(4)]
    done = _run(folder, first, plain)
    assert (done.added, done.clips, done.failed, done.missing) == (4, 4, (), ())
    before = _files(folder)
    assert sorted(before) == [
        "00000.json", "00000.safetensors", "00001.json", "00001.safetensors", "index.json",
    ]  # fmt: skip
    seen.clear()
    done = _run(folder, [clips], plain)
    assert (done.added, done.unchanged, done.changed, done.clips) == (3, 4, 0, 7)
    assert sorted(seen) == ["4.mp4", "5.mp4", "6.mp4"]
    after = _files(folder)
    # the last one, of one clip, went into the next
    assert sorted(name[:5] for name in after) == ["00000"] * 2 + ["00002"] * 2 + ["00003"] * 2 + [
        "index"
    ]
    assert all(after[name] == before[name] for name in before if name.startswith("00000"))
    found = Index.open(folder, plain)
    assert found.check() == 7
    assert sorted(one.clip.name for one in found) == sorted(map(str, clips.rglob("*.mp4")))
    # nothing to do changes nothing
    seen.clear()
    assert _run(folder, [clips], plain).unchanged == 7
    assert (seen, _files(folder)) == ([], after)


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_call_resumes_after_the_last_whole_shard(clips, plain, tmp_path, seen):
    whole = Index.build(tmp_path / "whole", [clips], plain)
    folder = tmp_path / "index"

    class Stop(Exception):
        """As a process that is killed: nothing is written on the way out."""

    def stop(video, error):
        if len(seen) == 5:
            raise Stop

    seen.clear()
    with pytest.raises(Stop):
        _run(folder, [clips], plain, on_video=stop)
    assert len(Index.open(folder)) == 3
    seen.clear()
    done = _run(folder, [clips], plain)
    assert (done.added, done.unchanged, len(seen)) == (4, 3, 4)
    assert _same(Index.open(folder), whole) == 7
    assert _files(folder)["00001.json"] == _files(tmp_path / "whole")["00001.json"]


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_ctrl_c_keeps_every_encoded_video(clips, plain, tmp_path, seen):
    def stop(video, error):
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"5 videos are in .*index; the same command"):
        _run(tmp_path / "index", [clips], plain, on_video=stop)
    seen.clear()
    assert _run(tmp_path / "index", [clips], plain).unchanged == 5
    assert len(seen) == 2
    assert _same(Index.open(tmp_path / "index"), Index.build(tmp_path / "b", [clips], plain)) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_videos_that_changed_are_encoded_again(clips, plain, tmp_path, seen):
    folder = tmp_path / "index"
    _run(folder, [clips], plain)
    make_video(clips / "1.mp4", 40)
    os.utime(clips / "2.mp4", (1, 1))
    (clips / "3.mp4").write_bytes(b"not a video")
    seen.clear()
    done = _run(folder, [clips], plain)
    assert sorted(seen) == ["1.mp4", "2.mp4", "3.mp4"]
    assert (done.changed, done.unchanged, done.clips) == (2, 4, 6)
    assert [os.path.basename(video) for video, _ in done.failed] == ["3.mp4"]
    found = Index.open(folder, plain)
    names = [os.path.basename(one.clip.name) for one in found]
    assert sorted(names) == ["0.mp4", "1.mp4", "2.mp4", "4.mp4", "5.mp4", "6.mp4"]
    (one,) = [one for one in found if one.clip.name.endswith("/1.mp4")]
    assert one.clip.total == 40
    # dropped clips are not found either
    assert len(found.search("red", 99)) == len(list(found.classify(LABELS))) == 6


def test_videos_that_are_gone_stay_or_leave(clips, plain, tmp_path):
    folder = tmp_path / "index"
    _run(folder, [clips], plain)
    (clips / "1.mp4").unlink()
    shutil.rmtree(clips / "more")
    # of a folder that is not given, nothing is known
    assert _run(folder, [clips / "0.mp4"], plain).missing == ()
    assert _run(folder, [clips / "*.mp4"], plain).missing == ()
    done = _run(folder, [clips], plain)
    gone = {str(clips / "1.mp4"), str(clips / "more" / "6.mp4")}
    assert (set(done.missing), done.clips) == (gone, 7)
    done = _run(folder, [clips], plain, drop_missing=True)
    assert (set(done.missing), done.clips) == (gone, 5)
    assert _run(folder, [clips], plain).missing == ()


def test_videos_that_cannot_be_read_are_counted_and_tried_again(clips, plain, tmp_path, seen):
    (clips / "bad.mp4").write_bytes(b"no")
    for _ in range(2):
        seen.clear()
        summary = Index.build(tmp_path / "index", [clips], plain).summary
        assert (summary.clips, len(summary.failed)) == (7, 1)
        assert "cannot be read as a video" in summary.failed[0][1]
        assert "bad.mp4" in seen


def test_a_longer_video_than_any_is_kept(clips, plain, tmp_path, monkeypatch):
    encode = type(plain).encode_videos

    def odd(self, videos, **options):
        for one in encode(self, videos, **options):
            seconds = np.array([-1.0, 0.5, 2e9, 3e9])
            clip = dataclasses.replace(one.clip, seconds=seconds, duration=4e9, note="x" * 5000)
            yield Encoded(clip, one.features)

    monkeypatch.setattr(type(plain), "encode_videos", odd)
    _run(tmp_path / "index", [clips / "0.mp4"], plain)
    [one] = Index.open(tmp_path / "index")
    assert (one.clip.seconds.tolist(), one.clip.duration) == ([0, 0.5, 1e9, 1e9], 1e9)
    assert one.clip.note == "x" * 4096


@pytest.mark.slow
def test_other_settings_are_refused(clips, plain, tmp_path):
    folder = tmp_path / "index"
    _run(folder, [clips / "0.mp4"], plain, frames=2)
    before = _files(folder)
    with pytest.raises(UserError, match="has 2 frames of each video, not 3; leave out `frames=3`"):
        _run(folder, [clips], plain, frames=3)
    with pytest.raises(UserError, match="was made with small, which small cannot read: its image"):
        _run(folder, [clips], predictor(normalization="clip"))
    assert _files(folder) == before
    with pytest.raises(UserError, match="`frames=4097`: expected at most 4,096"):
        _run(folder, [clips], plain, frames=4097, restart=True)
    assert _files(folder) == before
    # its own frames are the default
    assert _run(folder, [clips / "1.mp4"], plain).added == 1
    done = _run(folder, [clips / "1.mp4"], plain, frames=3, restart=True)
    assert (done.clips, Index.open(folder).frames) == (1, 3)


def test_a_folder_of_something_else_is_left_alone(clips, plain, tmp_path):
    for restart in (False, True):
        with pytest.raises(UserError, match=r"has other files, such as 0\.mp4"):
            _run(clips, [clips], plain, restart=restart)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"):
        _run(tmp_path / "file", [clips], plain)
    with pytest.raises(UserError, match="no such file or folder"):
        _run(tmp_path / "index", [tmp_path / "none"], plain)
    assert not (tmp_path / "index").exists()


def test_restart_removes_only_what_is_ours(clips, plain, tmp_path):
    folder = tmp_path / "index"
    _run(folder, [clips], plain)
    (folder / "notes.txt").write_text("mine")
    (folder / "00000.csv").write_text("mine")
    _run(folder, [clips / "0.mp4"], plain, restart=True)
    assert sorted(os.listdir(folder)) == [
        "00000.csv", "00000.json", "00000.safetensors", "index.json", "notes.txt",
    ]  # fmt: skip
    assert len(Index.open(folder)) == 1


@pytest.mark.slow
def test_one_process_writes(clips, plain, tmp_path, seen):
    folder = tmp_path / "index"
    _run(folder, [clips / "0.mp4"], plain)
    seen.clear()
    with locked_outputs([("index", folder, True)]):
        with pytest.raises(UserError, match=f"index={folder}: process {os.getpid()} on "):
            _run(folder, [clips], plain)
        # readers do not wait
        assert len(Index.open(folder, plain).search("red")) == 1
    assert seen == []


def test_a_model_that_float16_does_not_hold(clips, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(
        building, "as_float16", lambda x, name: shard_files.as_float16(x * 1e9, name)
    )
    with pytest.raises(UserError, match=r"0\.mp4: frame features up to .*e\+.* as float16"):
        _run(tmp_path / "index", [clips], plain)


def test_names_of_all_kinds(clips, plain, tmp_path):
    strange = clips / os.fsdecode(b"caf\xe9 \x1b[31m.mp4")
    shutil.copy(clips / "0.mp4", strange)
    shutil.copy(clips / "1.mp4", clips / "日本 #%.mp4")
    folder = tmp_path / "index"
    assert _run(folder, [clips], plain).added == 9
    assert _run(folder, [clips], plain).unchanged == 9
    names = {os.path.basename(one.clip.name) for one in Index.open(folder)}
    assert "caf\\xe9 \x1b[31m.mp4" in names
    assert "日本 #%.mp4" in names
    assert json.loads((folder / "00000.json").read_text())
