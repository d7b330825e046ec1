"""20 clients that come, go, cancel and break off as they like: nothing of them is left."""

import contextlib
import gc
import json
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from app.conftest import TOKEN
from app.test_command import _children
from app.test_connections import serving

from support.small_model import LABELS
from vtd_jax.app import encoding
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service

CLIENTS, TURNS, PATIENCE = 20, 8, 120.0


class Page:
    """A client by raw sockets, whose choices follow from a seed."""

    def __init__(self, port: int, number: int, content: bytes):
        self.port, self.number, self.content = port, number, content
        self.choose = random.Random(number)
        self.wrong: list[str] = []
        self.video = ""
        self.turns = {
            "whole": self.whole,
            "half an upload": self.half_an_upload,
            "no listener": self.no_listener,
            "cancelled": self.cancelled,
            "tab closed": self.tab_closed,
            "gone before the answer": self.gone_before_the_answer,
        }

    def run(self) -> None:
        """Some turns; what went wrong is kept."""
        try:
            status, body = self.ask("POST", f"/upload?name={self.number}.mp4", self.content)
            assert status == 201, body
            self.video = json.loads(body)["id"]
            for turn in range(TURNS):
                name = self.choose.choice([*self.turns])
                self.turns[name](turn)
        except Exception as error:
            self.wrong.append(f"client {self.number}: {type(error).__name__}: {error}")

    def sent(self, method: str, path: str, body: bytes = b"", length: int | None = None):
        """A connection on which a request was sent."""
        own = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-VTD-Token: {TOKEN}\r\n"
            f"Connection: close\r\nContent-Length: {length or len(body)}\r\n\r\n"
        )
        own.sendall(head.encode() + body)
        return own

    def ask(self, method: str, path: str, body: Any = b"") -> tuple[int, bytes]:
        """Status and body."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.sent(method, path, body) as own:
            found = b""
            while part := own.recv(65536):
                found += part
        head, _, rest = found.partition(b"\r\n\r\n")
        return int(head.split()[1]), rest

    def encode(self) -> tuple[str, int]:
        """A job, and its frames."""
        frames = self.choose.randint(1, 16)
        status, body = self.ask("POST", "/encode", {"video": self.video, "frames": frames})
        assert status == 202, body
        return json.loads(body)["job"], frames

    def whole(self, turn: int) -> None:
        """A job to its end, and an answer, which is its own."""
        job, frames = self.encode()
        status, events = self.ask("GET", f"/encode/{job}/events")
        assert (status, b"event: done" in events) == (200, True), events[-300:]
        labels, serial = (
            [*LABELS[:2], f"client {self.number} turn {turn}"],
            100 * self.number + turn,
        )
        asked = {"video": self.video, "labels": labels, "frames": frames, "serial": serial}
        status, body = self.ask("POST", "/answer", asked)
        told = json.loads(body)
        assert (status, told["serial"]) == (200, serial), body[:300]
        assert len(told["model"]["frames"]) == frames
        words = {word for frame in told["model"]["frames"] for word, _ in frame["words"]}
        assert words == set(labels)

    def half_an_upload(self, turn: int) -> None:
        """A connection that breaks off."""
        half = self.content[: len(self.content) // 2]
        own = self.sent("POST", "/upload?name=half.mp4", half, len(self.content))
        time.sleep(self.choose.random() / 20)
        own.close()

    def no_listener(self, turn: int) -> None:
        """A job that nobody asks about."""
        self.encode()

    def cancelled(self, turn: int) -> None:
        """A job that is cancelled, twice."""
        job, _ = self.encode()
        for _ in range(2):
            status, body = self.ask("DELETE", f"/encode/{job}")
            assert status == 204, body

    def tab_closed(self, turn: int) -> None:
        """A stream that breaks off."""
        job, _ = self.encode()
        own = self.sent("GET", f"/encode/{job}/events")
        own.recv(100)
        time.sleep(self.choose.random() / 20)
        own.close()

    def gone_before_the_answer(self, turn: int) -> None:
        """A question whose answer nobody reads."""
        labels = [f"gone {self.number} {turn} {n}" for n in range(30)]
        asked = {"video": self.video, "labels": labels, "frames": 4}
        own = self.sent("POST", "/answer", json.dumps(asked).encode())
        time.sleep(self.choose.random() / 50)
        own.close()


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processes(word: str) -> list[str]:
    """Command lines of processes that this one has started, with this word in them."""
    found = []
    for one in _children(os.getpid()):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{one}/cmdline").read_text())
    return [line for line in found if word in line]


def _until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_nothing_of_20_clients_is_left(predictor, clips, monkeypatch):
    monkeypatch.setattr(encoding, "_IDLE", 0.3)
    content = (clips / "b.mp4").read_bytes()
    with Service(predictor) as service:
        service.encoder._patience = 1.0
        with serving(guarded(Routes(service), TOKEN)) as port:
            pages = [Page(port, number, content + bytes([number])) for number in range(CLIENTS)]
            # what the first ones need stays: programs, texts of threads
            pages[0].run()
            at_first = _resident()
            threads = [threading.Thread(target=page.run) for page in pages[1:]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [line for page in pages for line in page.wrong] == []
            encoder, videos = service.encoder, service.videos
            # no job, no process, no file but the uploads, which are known
            _until(lambda: not encoder._live())
            _until(lambda: encoder._processes is None)
            assert all(one.job.is_over for one in encoder._tickets.values())
            assert not videos._used
            _until(lambda: videos._uploading == videos._coming == 0)
            _until(lambda: len([*videos.temporary.iterdir()]) == CLIENTS)
            assert {one.path for one in videos._uploads.values()} == {*videos.temporary.iterdir()}
            assert not _processes("clips.processes")
            # the one that removes the files when this process ends
            assert len(_processes(str(videos.temporary))) == 1
            _until(lambda: not service._models[0].queue._futures)
            assert not service._models[0].queue._waiting
            gc.collect()
            # 20 videos of 16 frames of 32 x 32 pixels are 1 MB
            assert _resident() - at_first < 2**28
            place = videos.temporary
    assert not place.exists()
    assert not _processes(str(place))
    names = [one.name for one in threading.enumerate()]
    assert not any(name.startswith("vtd-app") for name in names), names
