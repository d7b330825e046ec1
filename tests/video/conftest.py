"""Small real videos and their records, made once a session."""

import shutil
from pathlib import Path

import pytest

from support.video_files import make_video, write_catalog
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A folder with good videos: three containers, sizes, lengths, and a blank in a name."""
    folder = tmp_path_factory.mktemp("clips")
    make_video(folder / "one.mp4", 40)
    make_video(folder / "two.avi", 50)
    make_video(folder / "three.webm", 45)
    make_video(folder / "a b.mp4", 5, width=48, height=64)
    make_video(folder / "wide.mp4", 20, width=96, height=32)
    return folder


@pytest.fixture
def folder(clips, tmp_path) -> Path:
    """Two good videos, to be changed."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("one.mp4", "two.avi"):
        shutil.copy(clips / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def good_lines() -> list[str]:
    """List lines for the good videos."""
    return ["one.mp4 0", "two.avi 1", "three.webm 0", "a b.mp4 1", "wide.mp4 1"]


@pytest.fixture(scope="session")
def built(clips, good_lines, tmp_path_factory) -> Path:
    """A data folder with the good videos in both storages, named `jpeg` and `video`."""
    data_dir = tmp_path_factory.mktemp("records")
    for storage in ("jpeg", "video"):
        pair = write_catalog(tmp_path_factory.mktemp("lists"), good_lines, stem=storage)
        lists = (tuple(map(str, pair)),)
        build_records(
            BuildConfig(name=storage, lists=lists, video_dir=str(clips), storage=storage), data_dir
        )
    return data_dir
