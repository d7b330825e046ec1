"""Files that change, and a disk that is full, while the page uses them."""

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from app.conftest import TOKEN, Client

from support.small_model import LABELS
from support.video_files import make_video
from vtd_jax.app import service as module
from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.app.timelines import summary

CLOSE = dict(rtol=1e-5, atol=2e-5)


@contextlib.contextmanager
def served(predictor, folder) -> Iterator[tuple[Client, str]]:
    """A client, and the only video of a folder, of which 3 frames are encoded."""
    with Service(predictor, folder) as service:

        async def app() -> Guard:
            return guarded(Routes(service), TOKEN)

        client = Client(asyncio.run(app()))
        video = client("GET", "/videos").json["videos"][0]["id"]
        assert client.encoded(video, frames=3)[0] == "done"
        yield client, video


@pytest.mark.slow
def test_a_video_that_is_replaced_is_another(predictor, clips, tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes((clips / "a.mp4").read_bytes())
    with served(predictor, tmp_path) as (client, video):
        make_video(tmp_path / "new.mp4", 9, width=96)
        os.replace(tmp_path / "new.mp4", path)
        asked = {"video": video, "labels": list(LABELS), "frames": 9}
        assert client("POST", "/answer", asked | {"frames": 3}).status == 409
        assert client.encoded(video, frames=9)[0] == "done"
        told = client("POST", "/answer", asked).json["model"]
        # no frame is that of the file before
        expected = predictor.explain(path, LABELS, frames=9)
        np.testing.assert_allclose(told["scores"], expected.scores, **CLOSE)
        # frames of both are not alike
        before = predictor.explain(clips / "a.mp4", LABELS, frames=9)
        assert np.abs(before.confidence - expected.confidence).max() > 1e-3


@pytest.mark.slow
def test_a_video_that_is_removed_or_swapped_is_gone(predictor, clips, tmp_path):
    path, content = tmp_path / "x.mp4", (clips / "a.mp4").read_bytes()
    path.write_bytes(content)
    with served(predictor, tmp_path) as (client, video):
        asked = {"video": video, "labels": list(LABELS), "frames": 3}
        for swap in (
            lambda: None,
            lambda: os.mkfifo(path),
            lambda: path.symlink_to("/etc/hostname"),
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.mkdir(),
        ):
            path.unlink()
            swap()
            answers = [
                client("POST", "/answer", asked),
                client("POST", "/encode", {"video": video, "frames": 5}),
                client("GET", f"/video/{video}"),
            ]
            assert [one.status for one in answers] == [404] * 3
            if not path.exists() and not path.is_symlink():
                path.touch()
            elif path.is_dir():
                path.rmdir()
                path.touch()
        path.write_bytes(content)
        assert client.encoded(video, frames=3)[0] == "done"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_without_a_path(client, ids, service, monkeypatch, capsys, number):
    def full(*given):
        raise OSError(number, os.strerror(number), "/tmp/vtd_app_secret/x")

    client.encoded(ids["a.mp4"])
    monkeypatch.setattr(service, "report", full)
    asked = {"video": ids["a.mp4"], "labels": ["a"], "frames": 4, "serial": 5}
    answer = client("POST", "/report", asked)
    assert answer.status == 507
    assert answer.json == {
        "error": "the server has no room left on its disk; try again later",
        "serial": 5,
    }
    assert "/report: " in capsys.readouterr().err
    monkeypatch.setattr(service, "report", lambda *given: os.stat("/no/such/file"))
    assert client("POST", "/report", asked).json["error"].startswith("the server failed")


def test_a_page_that_is_being_made_goes_with_the_uploads(client, ids, service, monkeypatch):
    client.encoded(ids["a.mp4"])
    folders, write = [], module.write_page
    monkeypatch.setattr(
        module, "write_page", lambda folder, *given: folders.append(folder) or write(folder, *given)
    )
    asked = {"video": ids["a.mp4"], "labels": list(LABELS), "frames": 4}
    assert client("POST", "/report", asked).status == 200
    assert [folder.parent for folder in folders] == [service.videos.temporary]
    assert not folders[0].exists()


def test_one_long_timeline_at_a_time_and_edits_beside_it(predictor, clips, monkeypatch):
    monkeypatch.setattr(summary, "_LONG", 0)
    go, running, most, made = threading.Event(), [], [], module.timeline

    def slow(*given):
        running.append(given)
        most.append(len(running))
        assert go.wait(60)
        try:
            return made(*given)
        finally:
            running.pop()

    monkeypatch.setattr(module, "timeline", slow)
    with Service(predictor, clips) as service:

        async def app() -> Guard:
            return guarded(Routes(service), TOKEN)

        client = Client(asyncio.run(app()))
        (video, *_) = client("GET", "/videos?search=b.mp4").json["videos"]
        asked = {"video": video["id"], "labels": list(LABELS), "frames": 4}
        client.encoded(video["id"])
        client.encoded(video["id"], window=0.4)

        async def all_of_them():
            long = asked | {"window": 0.4}
            waiting = [asyncio.ensure_future(client.ask("POST", "/timeline", long)) for _ in "abcd"]
            while not running:
                await asyncio.sleep(0.001)
            for _ in range(3):
                assert (await client.ask("POST", "/answer", asked)).status == 200
            # nobody waits for one that has not begun
            waiting.pop().cancel()
            go.set()
            return await asyncio.gather(*waiting)

        assert [one.status for one in asyncio.run(all_of_them())] == [200] * 3
    assert most == [1, 1, 1]
