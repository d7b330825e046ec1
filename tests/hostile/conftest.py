"""Good inputs, once a session, for tests that change copies of them."""

import shutil
from pathlib import Path

import pytest

from hostile.fuzzing import targets_videos
from support import small_run


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """`records/` and `clip.safetensors` of `small_run`."""
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def trained(small, tmp_path_factory) -> Path:
    """The workdir of a run of three steps on them, evaluated; to be copied before it is changed."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    done = small_run.command(
        "train", *small_run.flags(small), f"--workdir={workdir}", "--config.optimizer.epochs=1"
    )
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def workdir(trained, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """`records/` with four videos of two classes as the list `list`, and the videos."""
    folder = tmp_path_factory.mktemp("built")
    targets_videos.write_records(folder, "jpeg")
    return folder


@pytest.fixture(scope="session")
def built_whole(tmp_path_factory) -> Path:
    """The same with the files themselves in the records."""
    folder = tmp_path_factory.mktemp("built_whole")
    targets_videos.write_records(folder, "video")
    return folder
