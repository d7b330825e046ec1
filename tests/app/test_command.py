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

from experiments.app.examples import LABELS, SCENES
from support import small_run
from support.small_run import ROOT
from support.video_files import make_video

pytestmark = [pytest.mark.command, pytest.mark.slow]


class Running:
    """A server in a process of its own; `stop` ends it by a signal."""

    def __init__(self, *arguments: object, host: str = r"127\.0\.0\.1", **variables: str):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        environment |= variables
        call = [sys.executable, "-m", "experiments.app", *map(str, arguments)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(call, cwd=ROOT, env=environment, **pipes)
        self.address = self.process.stdout.readline().strip()
        found = re.fullmatch(rf"http://{host}:(\d+)/(?:\?token=([\w-]+))?", self.address)
        if not found:
            self.process.kill()
            raise AssertionError(self.address + self.process.stderr.read())
        self.port, self.token = int(found[1]), found[2] or ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str):
        place = self.address.removeprefix("http://").partition("/")[0].rpartition(":")[0]
        connection = http.client.HTTPConnection(place.strip("[]"), self.port, timeout=60)
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


def _until(condition, patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _children(process: int) -> list[int]:
    """Processes that a process has started, and which run."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(one) for task in tasks for one in task.read_text().split()]


def _listening_to(server: Running, job: str, event: bytes) -> socket.socket:
    """A stream of events, of which this one has come."""
    stream = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    head = f"GET /encode/{job}/events HTTP/1.1\r\nHost: localhost\r\nX-VTD-Token: {server.token}"
    stream.sendall(head.encode() + b"\r\n\r\n")
    found = b""
    while b"event: " + event not in found:
        part = stream.recv(65536)
        assert part, found
        found += part
    return stream


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path_factory, monkeypatch):
    # other servers may run on this machine
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))


def _left() -> set[str]:
    return {path.name for path in Path(os.environ["TMPDIR"]).glob("vtd_app_*")}


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


def test_without_anything_there_are_clips_to_try(tmp_path):
    server = Running(VTD_JAX_CACHE=str(tmp_path))
    videos = {one["name"]: one["id"] for one in server.json("GET", "/videos")["videos"]}
    assert [*videos] == [f"{name}.mp4" for name in (*SCENES[:2], "three scenes")]
    _, page = server.ask("GET", "/")
    assert json.dumps(LABELS, separators=(",", ":")).encode() in page
    video = videos[f"{SCENES[1]}.mp4"]
    assert server.encoded(video) == "done"
    asked = {"video": video, "labels": LABELS, "frames": 4}
    assert server.json("POST", "/answer", asked)["model"]["label"] == SCENES[1]
    assert server.stop(signal.SIGINT)[0] == 0


def test_ctrl_c_ends_streams_and_uploads(running, tmp_path):
    assert _left()
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
    assert not _left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_it_during_an_encode(tmp_path, number):
    make_video(tmp_path / "long.mp4", 60, rate=1)
    server = Running("--model=tiny", tmp_path)
    (video,) = server.json("GET", "/videos")["videos"]
    asked = {"video": video["id"], "frames": 8, "window": 0.1}
    job = server.json("POST", "/encode", asked)["job"]
    stream = _listening_to(server, job, b"progress")
    children = _children(server.process.pid)
    assert children
    code, said, errors = server.stop(number)
    assert (code, said) == (0, "the page is closed, uploads are removed\n"), errors
    assert "Traceback" not in errors
    stream.close()
    assert not _left()
    _until(lambda: not any(Path(f"/proc/{one}").exists() for one in children))


def test_a_second_server_at_its_port_is_one_line(running):
    done = small_run.command("app", f"--port={running.port}")
    assert done.returncode == 2
    assert "cannot be listened at (Address already in use" in done.stderr.splitlines()[-1]


def test_a_token_of_a_variable_is_nowhere_to_be_seen(tmp_path):
    token = "a-token-of-a-variable"
    server = Running("--model=tiny", tmp_path, VTD_JAX_APP_TOKEN=token)
    assert server.token == token
    assert token not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    assert server.ask("GET", "/videos")[0] == 200
    code, _, errors = server.stop(signal.SIGTERM)
    assert code == 0
    assert token not in errors


def test_a_browser_that_does_not_return_keeps_nobody_waiting(tmp_path):
    # as w3m, in the terminal
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\necho "$1" >{tmp_path}/seen\nuntil [ -e {tmp_path}/go ]; do sleep .1; done\n'
    )
    browser.chmod(0o755)
    server = Running("--model=tiny", "--open", BROWSER=str(browser))
    try:
        _until(lambda: (tmp_path / "seen").exists())
        assert server.ask("GET", "/")[0] == 200
    finally:
        (tmp_path / "go").touch()
        code, _, errors = server.stop(signal.SIGINT)
    assert code == 0, errors
    assert (tmp_path / "seen").read_text().strip() == server.address


def test_a_public_server_tells_strangers_apart(tmp_path):
    make_video(tmp_path / "a.mp4", 20)
    server = Running(
        "--model=tiny",
        "--host=::1",
        "--public",
        "--name=demo.example",
        "--frame_ancestors=https://huggingface.co",
        tmp_path,
        host=r"\[::1\]",
    )
    try:
        assert server.token == ""
        local = {"Host": "demo.example", "Origin": "https://demo.example"}
        content = (tmp_path / "a.mp4").read_bytes()
        uploads = [server.ask("POST", "/upload?name=b.mp4", content, **local) for _ in range(2)]
        ids = [json.loads(body)["id"] for _, body in uploads]
        assert len({*ids, server.json("GET", "/videos")["videos"][0]["id"]}) == 3
        assert server.encoded(ids[1]) == "done"
        assert server.ask("GET", f"/video/{ids[0]}")[1] == content
        status, page = server.ask("GET", "/", Host="demo.example")
        assert status == 200
        assert str(tmp_path).encode() not in page
        evil = {"Host": "demo.example", "Origin": "https://evil.example"}
        assert server.ask("POST", "/upload?name=b.mp4", content, **evil)[0] == 403
        assert server.ask("GET", "/videos", Host="evil.example")[0] == 421
    finally:
        _, _, errors = server.stop(signal.SIGTERM)
    assert errors.count("note: --public: whoever reaches this address may use the page") == 1


def test_strangers_see_no_folder_of_this_machine(tmp_path):
    make_video(tmp_path / "a.mp4", 20)
    weights = tmp_path / "models" / "own.safetensors"
    weights.parent.mkdir()
    weights.write_bytes((ROOT / "vtd_jax/clip/tiny/tiny_clip.safetensors").read_bytes())
    server = Running(f"--model={weights}", "--host=127.0.0.1", "--public", tmp_path)
    try:
        video = server.json("GET", "/videos")["videos"][0]["id"]
        assert server.encoded(video) == "done"
        asked = json.dumps({"video": video, "labels": ["red circle"], "frames": 4}).encode()
        shown = [server.ask("GET", "/")]
        shown += [server.ask("POST", path, asked) for path in ("/report", "/json", "/python")]
    finally:
        server.stop(signal.SIGTERM)
    for status, text in shown:
        assert status == 200, text
        assert b"own.safetensors" in text
        assert str(tmp_path).encode() not in text


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
        (["--host=::"], "--host=::: others reach this address; choose who may"),
        (["--public"], "--public: say with --host where others may reach the page"),
        (["--public", "--host=::1", "--token=x"], "--public: has no token; leave out --token"),
        (["--name=https://demo.example"], "--name='https://demo.example': expected a name"),
        (["--frame_ancestors=*"], "--frame_ancestors='*': expected a site as https://demo"),
        (["--host=no.such.host.invalid"], "--host=no.such.host.invalid: others reach"),
        (["--token=short"], "--token='short': expected 16 or more ASCII letters"),
        (["--token=" + "é" * 20], "expected 16 or more ASCII letters"),
        (["absent_folder"], "absent_folder: no such folder"),
        (["README.md"], "README.md: is a file; give its folder, or drop it onto the page"),
    ],
)
def test_mistakes_are_one_line(flags, said):
    done = small_run.command("app", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flags", [[], ["--public", "--host=::1"]])
def test_what_is_wrong_in_the_variable_is_in_no_log(flags, monkeypatch):
    monkeypatch.setenv("VTD_JAX_APP_TOKEN", "too-short-secret"[:12])
    done = small_run.command("app", *flags)
    assert done.returncode == 2
    assert "$VTD_JAX_APP_TOKEN" in done.stderr
    assert "too-short" not in done.stderr + done.stdout


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # before anything of the model is looked at
        done = small_run.command("app", f"--port={port}", "--model=no/such/run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: 127.0.0.1:{port}: cannot be listened at (Address ")
    assert done.stderr.endswith("; give another --port or --host\n")
