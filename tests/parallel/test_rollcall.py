"""The roll call before a run: all come once with one command, or all end with one line; strangers
change nothing.
"""

import contextlib
import dataclasses
import itertools
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from support.hosts.two_processes import free_port
from vtd_jax.errors import UserError
from vtd_jax.parallel import answering, joining, rollcall
from vtd_jax.parallel.answering import answer
from vtd_jax.parallel.rollcall import RollCall
from vtd_jax.parallel.wires import LINE, Hello, Lost, Reply, Wire, new_mark

# seconds that nothing takes
LONG = 60


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(answering, "_RETRY", 0.02)
    monkeypatch.setattr(rollcall, "_CHECK", 0.1)


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


def hello(rank, count=2, **changes):
    about = dict(
        versions="1", flags={"--seed": "0"}, who=f"host, process id {rank}", mark=new_mark()
    )
    return Hello(rank=rank, count=count, **(about | changes))


class Until(float):
    """A deadline that passes with an event."""

    def __new__(cls, event):
        deadline = super().__new__(cls, "inf")
        deadline.event = event
        return deadline

    def __lt__(self, now):
        return self.event.is_set()

    def __gt__(self, now):
        return not self.event.is_set()


def gather(address, *hellos, first=None, gives_up=False, before=lambda: None):
    """What process 0 gets, and each of the others: wires, or the exception.

    The others come one after the other. Process 0 has all the time it needs, or gives up when they
    have come.
    """
    found, come = [None] * (len(hellos) + 1), threading.Event()
    known = [threading.Event() for _ in found]
    deadline = Until(come) if gives_up else time.monotonic() + LONG

    def call(rank, function):
        try:
            found[rank] = function()
        except Exception as error:
            found[rank] = error
        known[rank].set()

    def first_one():
        return RollCall(address, first or hello(0, len(hellos) + 1)).all_here(
            deadline, LONG, address
        )

    def named(wire, until, named=answering._process_0):
        if who := named(wire, until):
            known[threads.index(threading.current_thread())].set()
        return who

    threads = [threading.Thread(target=call, args=(0, first_one))]
    for rank, one in enumerate(hellos, 1):
        ask = lambda one=one: answer(address, one, time.monotonic() + LONG, LONG)  # noqa: E731
        threads.append(threading.Thread(target=call, args=(rank, ask)))
    threads[0].start()
    before()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answering, "_process_0", named)
        for thread, event in zip(threads[1:], known[1:]):
            thread.start()
            # process 0 has heard it
            assert event.wait(LONG)
        come.set()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
    return found


def close(wires, *others):
    """What the processes of a run leave to their sentinels."""
    for wire in (*wires.values(), *(wire for wire, _ in others)):
        wire.close()


def test_all_come_and_the_port_is_free_again(address):
    wires, *others = gather(address, hello(2, 3), hello(1, 3))
    assert sorted(wires) == [1, 2]
    assert [who for _, who in others] == ["host, process id 0"] * 2
    # while connections to it are open
    RollCall(address, hello(0)).close()
    close(wires, *others)


OTHER = "other, process id 9"
ONE = "process 1 (host, process id 1): "
WRONG = {
    "one id": (
        (hello(1, 3), hello(1, 3, who=OTHER)),
        (
            f"`process_id=1` was given to two processes (host, process id 1; {OTHER}); give each "
            "process an id of its own"
        ),
    ),
    "two of 0": (
        (hello(0, who=OTHER),),
        (
            f"`process_id=0` was given to two processes (host, process id 0; {OTHER}); give each "
            "process an id of its own"
        ),
    ),
    "count": (
        (hello(1, 3),),
        f"{ONE}`num_processes=3`, but process 0 has 2; give all the same number",
    ),
    "id": ((hello(5),), "process 5 (host, process id 5): `process_id=5`, expected 0 to 1"),
    "version": (
        (hello(1, versions="2"),),
        f"{ONE}has 2, but process 0 has 1; install the same on all hosts",
    ),
    "flag": (
        (hello(1, flags={"--seed": "7\x1b[31m"}),),
        f"{ONE}--seed=7\\x1b[31m, but process 0 has --seed=0; give all processes the same command",
    ),
    "no flag": (
        (hello(1, flags={}),),
        f"{ONE}no --seed, but process 0 has --seed=0; give all processes the same command",
    ),
    "failed": (
        (hello(1, 3), hello(2, 3, failed="no such file")),
        "process 2 (host, process id 2): no such file",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_one_line_for_all(address, what):
    hellos, line = WRONG[what]
    found = gather(address, *hellos, first=hello(0, len(hellos) + 1))
    assert [type(one) for one in found] == [UserError] * len(found)
    assert {str(one) for one in found} == {line}


def test_those_that_come_late_are_reported_too(address):
    found = gather(address, hello(1, 4), hello(1, 4, who="twin"), hello(3, 4))
    assert {str(one).partition(" (")[0] for one in found} == {
        "`process_id=1` was given to two processes"
    }


def test_one_that_went_again_is_reported(address):
    own = hello(1, 3)

    def come():
        wire = Wire(_connected(address))
        wire.send(own)
        assert wire.wait(LONG).kind == "here"
        return wire

    def come_and_go():
        come().close()

    found = gather(address, hello(2, 3), first=hello(0, 3), before=come_and_go)
    assert [type(one) for one in found] == [Lost, Lost]
    why = "process 1 (host, process id 1) ended before all processes had come"
    assert {str(one) for one in found} == {why}
    # when it comes again, all know, and process 0 waits for none
    with contextlib.closing(come()) as wire:
        assert wire.wait(LONG) == Reply("lost", why)


def test_some_do_not_come(address):
    none, other = gather(address, hello(3, 12), first=hello(0, 12), gives_up=True)
    assert none is None
    assert str(other) == (
        "process 0 (host, process id 0): not all 12 processes came (1, 2, 4, 5, 6, 7, 8, 9 and 2 "
        "more missing)"
    )


def _connected(address):
    host, port = address.split(":")
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, int(port)))
        time.sleep(0.01)


def test_strangers_change_nothing(address):
    strangers = []

    def come():
        for content in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"[" * 100_000 + b"\n",
            b'{"rank": 1}\n',
            b"\xff\n",
            b"x" * (LINE + 2**17),
            b"",
        ):
            strangers.append(_connected(address))
            with contextlib.suppress(OSError):
                strangers[-1].sendall(content)
        strangers.pop().close()

    wires, other = gather(address, hello(1), before=come)
    assert list(wires) == [1]
    assert other[1] == "host, process id 0"
    close(wires, other)
    for one in strangers:
        one.close()


def test_another_program_at_the_port_is_reported_after_a_while(address):
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as one:
                        one.sendall(b"SSH-2.0\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(UserError, match="another program answers there, not process 0"):
            answer(address, hello(1), time.monotonic() + LONG, 0.2)
        server.shutdown(socket.SHUT_RDWR)


def test_another_port_to_listen_at(address, monkeypatch):
    """Behind a gateway others reach process 0 at another port than that at which it listens."""
    inside = free_port()
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", f"0.0.0.0:{inside}")
    call = RollCall(address, hello(0))
    _connected(f"127.0.0.1:{inside}").close()
    call.close()
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "1234")
    with pytest.raises(UserError, match="JAX_COORDINATOR_BIND_ADDRESS=1234: expected host:port"):
        RollCall(address, hello(0))


def test_a_long_wait_for_process_0_is_reported_once(address, monkeypatch):
    clock, slept, flags = itertools.count(), [], []
    monkeypatch.setattr(
        answering, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=slept.append)
    )
    with pytest.raises(TimeoutError, match=r"^cannot be reached \(Connection refused\)$"):
        answer(address, hello(1), 100, 1, flags.append)
    assert len(slept) > 10
    # the eleventh second of a clock that advances with every look
    why = "cannot be reached (Connection refused)"
    assert flags == [f"waiting for process 0 at {address}, for 88 s more: {why}; is it started?"]


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_cannot_join_says_so(address, rank):
    def announce():
        joining.announce(address, rank, 2, "--workdir is missing", 2 * LONG)

    if rank == 1:
        threading.Thread(target=announce).start()
        with pytest.raises(
            UserError, match=r"^process 1 \(.*, process id \d+\): --workdir is missing$"
        ):
            RollCall(address, hello(0)).all_here(time.monotonic() + LONG, 0)
        return
    thread = threading.Thread(target=announce)
    thread.start()
    with pytest.raises(
        UserError, match=r"^process 0 \(.*, process id \d+\): --workdir is missing$"
    ):
        answer(address, hello(1), time.monotonic() + LONG, 1)
    # all know: it does not wait for its time to end
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_wire_takes_lines_in_any_pieces():
    ours, theirs = (Wire(one) for one in socket.socketpair(socket.AF_UNIX))
    assert ours.send(dataclasses.replace(hello(1), flags={"a": "ü" * 1000}))
    assert theirs.wait(LONG, Hello).flags == {"a": "ü" * 1000}
    ours._socket.sendall(b'{"kind": "go"}\n{"kind": ')
    assert theirs.wait(LONG) == Reply("go")
    with pytest.raises(TimeoutError):
        theirs.wait(0.05)
    ours._socket.sendall(b'"failed", "text": "x"}\n')
    assert theirs.received() == [Reply("failed", "x")]
    ours.close()
    assert theirs.wait(LONG) is None
    assert theirs.received() is None
    theirs.close()
