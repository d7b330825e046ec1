"""`vtd app` as a process: it starts, answers real connections, and ends cleanly."""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import small_run
from support.small_run import ROOT
from support.video_files import make_video

pytestmark = [pytest.mark.command, pytest.mark.slow]


class Running:
    """A server in a process of its own; `stop` ends it by a signal."""

    def __init__(self, *arguments: object):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        call = [sys.executable, "-m", "experiments.app", *map(str, arguments)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(call, cwd=ROOT, env=environment, **pipes)
        self.address = self.process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", self.address)
        assert found, self.address + self.process.stderr.read()
        self.port, self.token = int(found[1]), found[2]

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {"X-VTD-Token": self.token} | headers
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: object = None):
        status, found = self.ask(method, path, b"" if body is None else json.dumps(body).encode())
        assert status < 300, found
        return json.loads(found)

    def encoded(self, video: str) -> str:
        job = self.json("POST", "/encode", {"video": video, "frames": 4})["job"]
        _, events = self.ask("GET", f"/encode/{job}/events")
        return events.decode().rsplit("event: ", 1)[1].split("\n")[0]

    def stop(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        said, errors = self.process.communicate(timeout=60)
        return self.process.returncode, said, errors


@pytest.fixture
def running(tmp_path):
    make_video(tmp_path / "a.mp4", 20)
    server = Running("--model=tiny", tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.communicate()


def _left() -> set[str]:
    return {path.name for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("vtd_app_*")}


def test_it_answers_and_ends_with_ctrl_c(running, tmp_path):
    status, page = running.ask("GET", "/")
    assert status == 200
    assert b"<!doctype html>" in page
    assert running.ask("GET", "/", **{"X-VTD-Token": "wrong"})[0] == 403
    (video,) = running.json("GET", "/videos")["videos"]
    content = (tmp_path / "a.mp4").read_bytes()
    assert running.ask("POST", "/upload?name=b.mp4", content)[0] == 201
    assert running.encoded(video["id"]) == "done"
    asked = {"video": video["id"], "labels": ["red circle", "blue star"], "frames": 4}
    assert running.json("POST", "/answer", asked)["model"]["label"] in asked["labels"]
    code, said, errors = running.stop(signal.SIGINT)
    assert (code, said) == (0, "the page is closed, uploads are removed\n"), errors
    assert "Traceback" not in errors
    assert running.token not in errors


def test_ctrl_c_ends_streams_and_uploads(running, tmp_path):
    before = _left()
    (video,) = running.json("GET", "/videos")["videos"]
    running.encoded(video["id"])
    # a connection that says nothing, and one that begins a body
    silent = socket.create_connection(("127.0.0.1", running.port))
    half = socket.create_connection(("127.0.0.1", running.port))
    head = (
        f"POST /upload?name=x.mp4 HTTP/1.1\r\nHost: localhost\r\nX-VTD-Token: {running.token}\r\n"
    )
    half.sendall(head.encode() + b"Content-Length: 100\r\n\r\nabc")
    time.sleep(0.5)
    begun = time.monotonic()
    code, _, errors = running.stop(signal.SIGINT)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert time.monotonic() - begun < 30
    silent.close()
    half.close()
    assert len(_left() - before) == 0


def test_sigterm_ends_it_too(running):
    code, _, errors = running.stop(signal.SIGTERM)
    assert code == 0, errors
    assert "Traceback" not in errors


def test_answers_do_not_wait_for_packets(running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    spent = []
    for _ in range(20):
        begun = time.monotonic()
        connection.request("GET", "/videos", headers={"X-VTD-Token": running.token})
        connection.getresponse().read()
        spent.append(time.monotonic() - begun)
    connection.close()
    # a delayed acknowledgement takes 40 ms
    assert sorted(spent)[3] < 0.03


def test_twenty_clients_at_once(running, tmp_path):
    content = (tmp_path / "a.mp4").read_bytes()

    async def one(number: int) -> None:
        def work() -> None:
            status, body = running.ask("POST", f"/upload?name={number}.mp4", content)
            assert status == 201
            video = json.loads(body)["id"]
            assert running.encoded(video) == "done"
            for turn in range(3):
                labels = ["red circle", "blue star", f"client {number} turn {turn}"]
                serial = 10 * number + turn
                asked = {"video": video, "labels": labels, "frames": 4, "serial": serial}
                told = running.json("POST", "/answer", asked)
                assert told["serial"] == serial
                words = {word for frame in told["model"]["frames"] for word, _ in frame["words"]}
                assert words == set(labels)

        await asyncio.to_thread(work)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(20)))

    asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--host=0.0.0.0"], "--host=0.0.0.0: others reach this address; choose who may"),
        (["--token=short"], "--token='short': expected 16 or more ASCII letters"),
        (["--token=" + "é" * 20], "expected 16 or more ASCII letters"),
        (["absent_folder"], "absent_folder: no such folder"),
    ],
)
def test_mistakes_are_one_line(flags, said):
    done = small_run.command("app", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = small_run.command("app", f"--port={taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "cannot be listened at" in done.stderr.splitlines()[-1]
