"""What a clip is called, however its path is spelled; and which clips are gone."""

import os
import shutil

import pytest

from vtd_jax.errors import UserError
from vtd_jax.retrieval import Index, sources


@pytest.fixture
def clips(made, tmp_path):
    """A folder of three videos."""
    (tmp_path / "clips" / "more").mkdir(parents=True)
    for name in ("0.mp4", "1.mp4", "more/6.mp4"):
        shutil.copy2(made / name, tmp_path / "clips" / name)
    return tmp_path / "clips"


@pytest.fixture
def build(tmp_path, plain):
    """Adds videos to the index; returns what that did."""

    def call(*given, **options):
        index = Index.build(
            tmp_path / "index", given, plain, frames=2, how={"workers": 0}, **options
        )
        return index.summary

    return call


def _names(tmp_path):
    return sorted(one.clip.name for one in Index.open(tmp_path / "index"))


def test_roots_of_folders_files_and_globs(clips, monkeypatch):
    monkeypatch.chdir(clips.parent)
    for given, root, path in (
        ("clips", clips, "more/6.mp4"),
        ("clips/more/6.mp4", clips / "more", "6.mp4"),
        ("clips/**/6.mp4", clips, "more/6.mp4"),
        ("*/more/*.mp4", clips.parent, "clips/more/6.mp4"),
        ("clips/more/../more/./6.mp4", clips / "more", "6.mp4"),
        ("clips/more/..", clips, "more/6.mp4"),
    ):
        found = sources.find_sources([given], "videos")[-1]
        assert (found.root, found.path) == (str(root), path)
        assert found.name == str(clips / "more" / "6.mp4")
    twice = sources.find_sources(["clips/more", str(clips)], "videos")
    assert len(twice) == 3
    assert twice[0].root == str(clips / "more")
    monkeypatch.chdir(clips)
    [here] = sources.find_sources(["0.mp4"], "videos")
    assert (here.root, here.path) == (str(clips), "0.mp4")


def test_a_folder_is_walked_once(clips, monkeypatch):
    walked, walk = [], os.walk

    def noted(top, **options):
        walked.append(str(top))
        return walk(top, **options)

    monkeypatch.setattr(os, "walk", noted)
    for may_be_empty in (False, True):
        walked.clear()
        assert len(sources.find_sources([str(clips)], "videos", may_be_empty=may_be_empty)) == 3
        assert walked == [str(clips)]


def test_one_video_by_two_spellings_is_one_clip(clips, tmp_path, build, monkeypatch):
    (tmp_path / "link").symlink_to("clips")
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "in").symlink_to(clips / "more")
    monkeypatch.chdir(tmp_path)
    assert build("clips").added == 3
    before = _names(tmp_path)
    for given in (
        ["clips/../clips"],
        [str(clips)],
        ["./clips/more/.."],
        ["link"],
        ["link/*.mp4", "clips/more/6.mp4"],
        # beside the folder that the link points to
        ["away/in/../0.mp4", "away/in/.."],
        ["link", "clips"],
    ):
        done = build(*given, drop_missing=True)
        assert (done.added, done.changed, done.missing, done.clips) == (0, 0, (), 3)
    assert _names(tmp_path) == before == sorted(map(str, clips.rglob("*.mp4")))


def test_a_name_keeps_its_links_wherever_they_point(clips, tmp_path, build):
    (tmp_path / "link").symlink_to("clips")
    build(tmp_path / "link")
    names = _names(tmp_path)
    assert names[0] == str(tmp_path / "link" / "0.mp4")
    # the disk behind the link has another name
    clips.rename(tmp_path / "disk")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("disk")
    done = build(tmp_path / "link", drop_missing=True)
    assert (done.added, done.unchanged, done.missing) == (0, 3, ())
    assert _names(tmp_path) == names


@pytest.mark.slow
def test_what_changed_is_replaced_by_either_spelling(clips, tmp_path, build):
    (tmp_path / "link").symlink_to("clips")
    build(clips)
    os.utime(clips / "1.mp4", (1, 1))
    done = build(tmp_path / "link")
    assert (done.added, done.changed, done.clips) == (0, 1, 3)
    assert _names(tmp_path) == [
        str(clips / "0.mp4"), str(clips / "more" / "6.mp4"), str(tmp_path / "link" / "1.mp4"),
    ]  # fmt: skip


def test_the_last_videos_of_a_folder_leave(clips, tmp_path, build):
    build(clips)
    for video in clips.rglob("*.mp4"):
        video.unlink()
    # a slip: nothing is lost, and nothing is made
    with pytest.raises(UserError, match="no videos in this folder"):
        build(clips)
    with pytest.raises(UserError, match="no videos in this folder"):
        build(clips, drop_missing=True, restart=True)
    (tmp_path / "empty").mkdir()
    done = build(tmp_path / "empty", drop_missing=True)
    assert (done.missing, done.clips) == ((), 3)
    done = build(clips / "more", drop_missing=True)
    assert (done.missing, done.clips) == ((str(clips / "more" / "6.mp4"),), 2)
    done = build(clips, drop_missing=True)
    assert (len(done.missing), done.clips) == (2, 0)
    assert os.listdir(tmp_path / "index") == ["index.json"]
    # every night
    assert build(clips, drop_missing=True).clips == 0


def test_a_folder_that_is_not_there_loses_nothing(clips, tmp_path, build):
    build(clips)
    shutil.rmtree(clips / "more")
    for given in ([clips / "more"], [clips, clips / "more"], [tmp_path / "clip"], [], [""]):
        with pytest.raises(UserError, match=r"no such file or folder|none given|is empty"):
            build(*given, drop_missing=True)
    with pytest.raises(UserError, match="no video matches"):
        build(clips / "*.avi", drop_missing=True)
    assert len(_names(tmp_path)) == 3


def test_an_empty_folder_makes_no_index(tmp_path, build):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no videos in this folder"):
        build(tmp_path / "empty", drop_missing=True)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(5, "I/O error")])
def test_what_cannot_be_looked_at_is_not_gone(clips, tmp_path, build, monkeypatch, error):
    build(clips)
    (clips / "0.mp4").unlink()
    (clips / "more").rename(tmp_path / "hidden")
    whole = os.lstat

    def lstat(path, **options):
        if str(path).startswith(str(clips / "more")):
            raise error
        return whole(path, **options)

    monkeypatch.setattr(sources.os, "lstat", lstat)
    done = build(clips, drop_missing=True)
    assert (done.missing, done.clips) == ((str(clips / "0.mp4"),), 2)


@pytest.mark.slow
def test_what_a_walk_does_not_find_is_not_gone(clips, tmp_path, build):
    # given by its name: a folder's videos are found by their endings; and behind a link
    (clips / "1.mp4").rename(clips / "1.bin")
    (tmp_path / "clips" / "link").symlink_to(tmp_path / "away")
    (clips / "more").rename(tmp_path / "away")
    assert build(clips / "0.mp4", clips / "1.bin", clips / "link" / "6.mp4").added == 3
    done = build(clips, drop_missing=True)
    assert (done.missing, done.clips) == ((), 3)
    (clips / "link").unlink()
    assert build(clips, drop_missing=True).missing == (str(clips / "link" / "6.mp4"),)
