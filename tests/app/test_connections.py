"""Connections of clients that are slow, idle or too many, by raw sockets."""

import asyncio
import contextlib
import functools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from vtd_jax.app.connections import Patient
from vtd_jax.app.guard import SAFETY
from vtd_jax.app.server import _listening, check_address
from vtd_jax.errors import UserError

# seconds, of a machine that does other work, too
LATE = 20.0


async def hello(scope, receive, send):
    """Answers what it is asked; `/wait` after a while."""
    if scope["path"] == "/wait":
        await asyncio.sleep(0.5)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.contextmanager
def serving(app: Any = hello, idle: float = 60, **limits: Any) -> Iterator[int]:
    """A server in a thread; its port."""
    config = uvicorn.Config(
        app,
        port=0,
        loop="asyncio",
        http=functools.partial(Patient, **limits),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        timeout_keep_alive=idle,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LATE)


def seconds_until_closed(own: socket.socket, drops: Iterator[bytes]) -> float:
    """Sends a few bytes now and then until the other side ends it."""
    begun = time.monotonic()
    own.settimeout(0.05)
    while time.monotonic() - begun < LATE:
        try:
            own.sendall(next(drops, b""))
            if own.recv(100) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


def asked(own: socket.socket, path: str = "/") -> bytes:
    own.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return answer(own)


def answer(own: socket.socket) -> bytes:
    own.settimeout(LATE)
    found = b""
    while b"hello" not in found and (part := own.recv(1000)):
        found += part
    return found


def drops_of(head: bytes) -> Iterator[bytes]:
    yield from (head[i : i + 1] for i in range(len(head)))
    while True:
        yield b"x"


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nx: "])
def test_a_head_comes_in_time_however_many_bytes(head):
    with serving(patience=0.5) as port, connected(port) as own:
        drops = drops_of(head) if head else iter(())
        assert 0.3 < seconds_until_closed(own, drops) < LATE / 2


def test_the_next_head_comes_in_time_too():
    with serving(patience=0.5) as port, connected(port) as own:
        assert b"200 OK" in asked(own)
        # between requests it may think
        time.sleep(0.7)
        assert b"200 OK" in asked(own)
        assert seconds_until_closed(own, drops_of(b"GET / HTTP/1.1\r\nx: ")) < LATE / 2


def test_an_answer_may_take_longer_than_a_head():
    with serving(patience=0.2) as port, connected(port) as own:
        assert b"hello" in asked(own, "/wait")
        assert b"hello" in asked(own, "/wait")


def test_bytes_that_nobody_reads_are_no_head():
    with serving(patience=0.5) as port, connected(port) as own:
        own.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n")
        assert b"200 OK" in answer(own)
        assert seconds_until_closed(own, drops_of(b"")) < LATE / 2


def test_an_idle_connection_ends():
    with serving(idle=1) as port, connected(port) as own:
        assert b"200 OK" in asked(own)
        assert 0.5 < seconds_until_closed(own, iter(())) < LATE / 2


@pytest.mark.parametrize("limits", [{"most": 3}, {"each": 3}])
def test_connections_are_bounded(limits):
    with serving(**limits) as port, contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(connected(port)) for _ in range(3)]
        assert all(b"200 OK" in asked(one) for one in open_ones)
        one_more = stack.enter_context(connected(port))
        assert b"503 Service Unavailable" in answer(one_more)
        # the others do not notice, and a place that is free again is given away
        assert b"200 OK" in asked(open_ones[0])
        open_ones[1].close()
        end = time.monotonic() + LATE
        while True:
            with connected(port) as own:
                if b"200 OK" in asked(own):
                    break
            assert time.monotonic() < end


def test_what_no_application_sees_has_the_headers_of_safety():
    with serving(most=1) as port, connected(port) as first, connected(port) as second:
        first.sendall(b"\0\r\n\r\n")
        for own, status in ((first, b"400 "), (second, b"503 ")):
            found = b""
            while part := own.recv(4096):
                found += part
            head, _, text = found.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert f"content-length: {len(text)}".encode() in head
            for name, value in SAFETY:
                assert name + b": " + value in head


def test_no_refusal_is_in_the_middle_of_an_answer():
    begun = threading.Event()

    async def streams(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        begun.set()
        await asyncio.sleep(60)

    with serving(streams) as port, connected(port) as own:
        head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        own.sendall(head)
        assert begun.wait(LATE)
        own.sendall(b"no size\r\n")
        found = b""
        while part := own.recv(4096):
            found += part
        assert b"part" in found
        assert found.count(b"HTTP/1.1") == 1


def test_clients_are_told_apart_by_their_addresses():
    with serving(each=1) as port, connected(port) as own:
        assert b"200 OK" in asked(own)
        with socket.create_connection(
            ("127.0.0.1", port), timeout=LATE, source_address=("127.0.0.2", 0)
        ) as other:
            assert b"200 OK" in asked(other)


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.name.invalid", "a" * 300, "\0", "1::2::3"])
def test_an_address_that_is_none_is_one_line(host):
    with pytest.raises(UserError, match=":0: cannot be listened at") as error:
        _listening(host, 0)
    assert "\n" not in str(error.value)


def test_two_servers_at_one_port():
    with _listening("127.0.0.1", 0) as one:
        port = one.getsockname()[1]
        with pytest.raises(UserError, match=f"^127.0.0.1:{port}: cannot be listened at"):
            check_address("127.0.0.1", port)


def test_an_address_that_was_checked_is_free():
    with _listening("::1", 0) as one:
        port = one.getsockname()[1]
        with pytest.raises(UserError, match=rf"^\[::1\]:{port}: cannot be listened at"):
            check_address("::1", port)
    check_address("::1", port)
    _listening("::1", port).close()


@pytest.mark.parametrize("host", ["::1", "localhost", "0.0.0.0", "::"])
def test_every_kind_of_address(host):
    with _listening(host, 0) as listening:
        port = listening.getsockname()[1]
        names = {"::": ("::1", "127.0.0.1"), "0.0.0.0": ("127.0.0.1",)}.get(host, (host,))
        for name in names:
            socket.create_connection((name, port), timeout=LATE).close()
