"""The small process beside each of a run: it notices who is gone, and not who ends in order."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtd_jax.parallel import sentinel

FILE = Path(sentinel.__file__)
HEARTBEAT = 0.6


class Beside:
    """A sentinel beside this process, which stands for process `place` of a run."""

    def __init__(self, place, wires, *relayed):
        call = [
            sys.executable,
            "-I",
            "-S",
            str(FILE),
            str(place),
            str(HEARTBEAT),
            str(os.getpid()),
            *relayed,
        ]
        numbers = [wire.fileno() for wire in wires.values()]
        self.process = subprocess.Popen(
            call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=numbers
        )
        names = {place: "-", **{other: wire.fileno() for other, wire in wires.items()}}
        for other, number in names.items():
            self.say(f"{other} {number} host {other}")
        self.say("")
        for wire in wires.values():
            wire.close()
        self.address = self.heard(5)

    def say(self, line):
        os.write(self.process.stdin.fileno(), f"{line}\n".encode())

    def heard(self, seconds):
        """The next line, "" if none comes in time."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode().strip() if ready else ""

    def end(self):
        """What happens when the process beside it is gone."""
        self.process.stdin.close()
        assert self.process.wait(5) == 0

    def clean(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


@pytest.fixture
def three():
    """The sentinels of a run of three processes."""
    pairs = [socket.socketpair() for _ in range(2)]
    run = [
        Beside(0, {1: pairs[0][0], 2: pairs[1][0]}),
        *(Beside(i + 1, {0: pairs[i][1]}) for i in range(2)),
    ]
    yield run
    for one in run:
        one.clean()


def test_all_are_there_and_end_in_order(three):
    assert [one.address for one in three] == ["-"] * 3
    assert [one.heard(1.5 * HEARTBEAT) for one in three] == [""] * 3
    for one in three:
        one.say("bye")
    time.sleep(0.1)
    for one in three:
        one.end()
    assert [one.process.stdout.read() for one in three] == [b""] * 3


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("word", ["", "bye"])
def test_one_that_is_gone_is_told_at_once(three, gone, word):
    """Also one that wanted to end in order: it would have waited for the others."""
    if word:
        three[gone].say(word)
        time.sleep(0.1)
    began = time.monotonic()
    three[gone].end()
    line = (
        f"lost process {gone} (host {gone}) ended without a word: killed, crashed, or out of memory"
    )
    assert {one.heard(2) for place, one in enumerate(three) if place != gone} == {line}
    assert time.monotonic() - began < HEARTBEAT


def test_a_reason_reaches_all(three):
    three[2].say("fail no such file")
    three[2].end()
    assert [one.heard(2) for one in three[:2]] == ["lost process 2 (host 2): no such file"] * 2


def test_one_that_stands_still_is_told_after_a_heartbeat(three):
    began = time.monotonic()
    three[1].process.send_signal(signal.SIGSTOP)
    assert (
        three[2].heard(4 * HEARTBEAT)
        == f"lost process 1 (host 1) has not been heard of for {HEARTBEAT} s"
    )
    assert time.monotonic() - began > HEARTBEAT / 2


def test_a_signal_to_all_does_not_end_it(three):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        three[1].process.send_signal(number)
    assert three[0].heard(0.3) == ""
    assert three[1].process.poll() is None


def test_the_relay_stays_open_when_the_other_end_is_gone():
    ours, theirs = socket.socketpair()
    with ours, socket.create_server(("127.0.0.1", 0)) as service:
        one = Beside(1, {0: theirs}, "127.0.0.1", str(service.getsockname()[1]), "5")
        host, _, port = one.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=0.3) as near:
            far, _ = service.accept()
            near.sendall(b"question")
            assert far.recv(99) == b"question"
            far.sendall(b"answer")
            assert near.recv(99) == b"answer"
            far.close()
            with pytest.raises(TimeoutError):
                near.recv(99)
        one.clean()


def test_a_process_that_has_something_to_finish_is_given_time(monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: None)
    watching = sentinel.Sentinel(1, 1.0, os.getppid())
    watching._obey(1, "busy")
    assert watching._kill_at is None
    watching._lose("process 0 ended")
    patience = watching._kill_at
    watching._obey(0, "busy")
    assert watching._kill_at == patience
    watching._obey(1, "busy")
    assert watching._kill_at > patience + 60


def test_a_process_that_cannot_end_is_killed(monkeypatch, capfd):
    """Its own thread never got Python's lock: the sentinel tells the user."""
    killed = []
    monkeypatch.setattr(os, "kill", lambda *told: killed.append(told))
    monkeypatch.setattr(os, "_exit", lambda status: killed.append(status))
    watching = sentinel.Sentinel(1, 1.0, os.getppid())
    watching._why = "process 0 (h\x1b[31m) ended"
    watching._kill()
    assert killed == [(os.getppid(), signal.SIGKILL), 0]
    assert capfd.readouterr().err == "error: process 0 (h?[31m) ended; start all processes again\n"
