"""The small process beside each of a run: it notices who is gone, and not who ends in order."""

import mmap
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

pytestmark = pytest.mark.hosts

FILE = Path(sentinel.__file__)
# seconds of the tests' clock, and of the true one, which nothing takes
HEARTBEAT, STEP, LONG = 0.6, 0.6 / 32, 60
# a sentinel whose clock the tests set; it notes what it saw of it
TIMED = """
import mmap, runpy, sys, time
shared = memoryview(mmap.mmap(int(sys.argv.pop(1)), 0)).cast("d")

def monotonic():
    shared[1] = now = shared[0]
    return now

time.monotonic = monotonic
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


class Beside:
    """A sentinel beside this process, which stands for process `place` of a run."""

    def __init__(self, place, wires, *relayed):
        clock = os.memfd_create("clock")
        os.truncate(clock, 16)
        self.clock = memoryview(mmap.mmap(clock, 0)).cast("d")
        call = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            TIMED,
            str(clock),
            str(FILE),
            str(place),
            str(HEARTBEAT),
        ]
        numbers = [clock, *(wire.fileno() for wire in wires.values())]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=numbers)
        self.process = subprocess.Popen([*call, str(os.getpid()), *relayed], **pipes)
        os.close(clock)
        names = {place: "-", **{other: wire.fileno() for other, wire in wires.items()}}
        for other, number in names.items():
            self.say(f"{other} {number} host {other}")
        self.say("")
        for wire in wires.values():
            wire.close()
        self.address = self.heard()

    def say(self, line):
        os.write(self.process.stdin.fileno(), f"{line}\n".encode())

    def heard(self, seconds=LONG):
        """The next line, "" if none comes in time."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.process.stdout.readline().decode().strip() if ready else ""

    def end(self):
        """What happens when the process beside it is gone."""
        self.process.stdin.close()
        assert self.process.wait(LONG) == 0

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


def pass_time(run, seconds):
    """Advances the clocks a little, and again once all have seen it."""
    for _ in range(round(seconds / STEP)):
        for one in run:
            one.clock[0] += STEP
        while any(one.clock[1] < one.clock[0] for one in run):
            assert all(one.process.poll() is None for one in run)
            time.sleep(0.001)


def test_all_are_there_and_end_in_order(three):
    assert [one.address for one in three] == ["-"] * 3
    pass_time(three, 1.5 * HEARTBEAT)
    assert [one.heard(0) for one in three] == [""] * 3
    for one in three:
        one.say("bye")
    # each knows of the others when their beats come
    pass_time(three, HEARTBEAT / 4)
    for one in three:
        one.end()
    assert [one.process.stdout.read() for one in three] == [b""] * 3


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("word", ["", "bye"])
def test_one_that_is_gone_is_reported_at_once(three, gone, word):
    """Also one that wanted to end in order: it would have waited for the others."""
    if word:
        three[gone].say(word)
    three[gone].end()
    reason = "ended without a message: killed, crashed, or out of memory"
    line = f"lost process {gone} (host {gone}) {reason}"
    # no time passes
    assert {one.heard() for place, one in enumerate(three) if place != gone} == {line}


def test_a_reason_reaches_all(three):
    three[2].say("fail no such file")
    three[2].end()
    assert [one.heard() for one in three[:2]] == ["lost process 2 (host 2): no such file"] * 2


def test_one_that_stands_still_is_reported_after_a_heartbeat(three):
    pass_time(three, HEARTBEAT / 4)
    three[1].process.send_signal(signal.SIGSTOP)
    others = [three[0], three[2]]
    pass_time(others, HEARTBEAT / 2)
    assert three[2].heard(0) == ""
    pass_time(others, HEARTBEAT)
    assert three[2].heard() == f"lost process 1 (host 1) has not been heard of for {HEARTBEAT} s"


def test_a_signal_to_all_does_not_end_it(three):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        three[1].process.send_signal(number)
    pass_time(three, HEARTBEAT / 4)
    assert three[0].heard(0) == ""
    # it is still there
    three[1].say("fail no such file")
    assert three[0].heard() == "lost process 1 (host 1): no such file"


def test_the_relay_stays_open_when_the_other_end_is_gone():
    ours, theirs = socket.socketpair()
    with ours, socket.create_server(("127.0.0.1", 0)) as service:
        one = Beside(1, {0: theirs}, "127.0.0.1", str(service.getsockname()[1]), "5")
        host, _, port = one.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=LONG) as near:
            far, _ = service.accept()
            near.sendall(b"question")
            assert far.recv(99) == b"question"
            far.sendall(b"answer")
            assert near.recv(99) == b"answer"
            far.close()
            near.settimeout(0.3)
            with pytest.raises(TimeoutError):
                near.recv(99)
        one.clean()


def test_a_process_that_has_something_to_finish_is_given_time(monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: None)
    watching = sentinel.Sentinel(1, 1.0, os.getppid())
    watching._handle(1, "busy")
    assert watching._kill_at is None
    watching._lose("process 0 ended")
    patience = watching._kill_at
    watching._handle(0, "busy")
    assert watching._kill_at == patience
    watching._handle(1, "busy")
    assert watching._kill_at > patience + 60


def test_a_process_that_cannot_end_is_killed(monkeypatch, capfd):
    """Its own thread never got Python's lock: the sentinel informs the user."""
    killed = []
    monkeypatch.setattr(os, "kill", lambda *message: killed.append(message))
    monkeypatch.setattr(os, "_exit", lambda status: killed.append(status))
    watching = sentinel.Sentinel(1, 1.0, os.getppid())
    watching._why = "process 0 (h\x1b[31m) ended"
    watching._kill()
    assert killed == [(os.getppid(), signal.SIGKILL), 0]
    assert capfd.readouterr().err == "error: process 0 (h?[31m) ended; start all processes again\n"
