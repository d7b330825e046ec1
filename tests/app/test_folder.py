"""A large folder, and odd names in it: one looks through it at a time, and no path is told."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from app.conftest import Client

from vtd_jax.app import videos as module
from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.app.videos import NoVideo, Videos
from vtd_jax.errors import UserError

NAMES = ["a.mp4", "b.mp4", "deep/c.mp4"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in NAMES:
        (tmp_path / name).write_bytes(b"content")
    return tmp_path


def names(videos: Videos) -> list[str]:
    return [video.name for video in videos.list()[0]]


def test_one_looks_through_a_folder_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(module, "_FRESH", -1.0)
    begun, go, walks, walk = threading.Event(), threading.Event(), [], os.walk

    def slow(root):
        walks.append(root)
        begun.set()
        assert go.wait(60)
        return walk(root)

    with Videos(folder) as videos:
        assert names(videos) == NAMES
        (folder / "new.mp4").write_bytes(b"content")
        # the list is old by now
        videos._fresh_until = time.monotonic() - 1
        monkeypatch.setattr(os, "walk", slow)
        looks = threading.Thread(target=videos.list)
        looks.start()
        assert begun.wait(60)
        # the others take the list that there is
        assert names(videos) == NAMES
        with pytest.raises(NoVideo):
            videos.find("0" * 32)
        go.set()
        looks.join()
        assert len(walks) == 1
        assert "new.mp4" in names(videos)


def test_all_wait_for_the_first_list(folder, monkeypatch):
    walks, walk = [], os.walk

    def slow(root):
        walks.append(root)
        time.sleep(0.2)
        return walk(root)

    monkeypatch.setattr(os, "walk", slow)
    with Videos(folder) as videos, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: names(videos), range(8))) == [NAMES] * 8
    assert len(walks) == 1


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "two  blanks.mp4",
        "over\u202eride.mp4",
        "esc\x1b[31m.mp4",
        "line\nend.mp4",
        "quote'\".mp4",
        os.fsdecode(b"bytes\xff.mp4"),
    ],
)
def test_messages_have_names_in_place_of_paths(tmp_path, name):
    folder = tmp_path / "in  \u202eside"
    folder.mkdir()
    (folder / name).write_bytes(b"content")
    with Videos(folder) as videos:
        (video,) = videos.list()[0]
        told = video.named(str(UserError(f"{video.path}: is odd")))
        assert told == str(UserError(f"{name}: is odd"))
        # as Python says it
        told = video.named(str(UserError(f"no such file: {str(video.path)!r}")))
        assert "side" not in told
        assert str(tmp_path) not in told


@pytest.mark.parametrize("name", ["two  blanks.mp4", "over\u202eride.mp4", "line\nend.mp4"])
def test_a_broken_video_tells_strangers_no_path(predictor, tmp_path, name):
    (tmp_path / name).write_bytes(b"\0" * 100)
    with Service(predictor, tmp_path, public=True) as service:

        async def app() -> Guard:
            return guarded(Routes(service), None)

        client = Client(asyncio.run(app()))
        (video,) = client("GET", "/videos").json["videos"]
        for asked in ({}, {"window": 1}):
            event, data = client.encoded(video["id"], **asked)
            assert event == "failed"
            assert data["error"].startswith(str(UserError(name)) + ": cannot be read")
            assert str(tmp_path) not in data["error"]
