"""A small process beside each process of a run. It sends and watches heartbeats, and relays JAX's
connection to process 0.

JAX may hold Python's lock for minutes, so a thread could not send heartbeats. The file is run by
its path and imports only the standard library.

Lines on stdin, from the process that it watches: first `RANK FD NAME` for every connection and an
empty line, later `bye` (ends in order), `busy` and `fail WHY`; the end of stdin means that the
process is gone. Lines on stdout: the address of the relay (or `-`) when ready, and `lost WHY` once
the run is over. Lines between sentinels: `beat`, `bye`, `lost WHY`.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time

# beats in the time after which a silent process counts as gone
_BEATS = 5
# bytes of a line, seconds to send one, and seconds between two attempts to reach JAX's service
_LINE, _SEND_TIMEOUT, _RETRY = 2**16, 5.0, 0.1
# seconds after which a process that does not end by itself is killed
_PATIENCE = 15.0
# and seconds more for one that has a checkpoint to finish
_BUSY = 120.0


class Sentinel:
    """Watches the other processes: process 0 watches all of them, the others watch process 0."""

    def __init__(self, rank: int, heartbeat: float, parent: int):
        self.rank, self.heartbeat, self.parent = rank, heartbeat, parent
        self.wires: dict[int, socket.socket] = {}
        self.names: dict[int, str] = {}
        self._unread: dict[int, bytes] = {}
        self._heard: dict[int, float] = {}
        self._ending: set[int] = set()
        self._kill_at: float | None = None
        self._why = ""

    def run(self) -> None:
        """Runs until the process is gone."""
        beat = self.heartbeat / _BEATS
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ, self.rank)
            for rank, wire in self.wires.items():
                selector.register(wire, selectors.EVENT_READ, rank)
            self._heard = dict.fromkeys(self.wires, time.monotonic())
            sent = looked = time.monotonic()
            while True:
                for key, _ in selector.select(beat / 2):
                    self._read(selector, key.data)
                if os.getppid() != self.parent:
                    self._leave()
                now = time.monotonic()
                if now - looked > self.heartbeat / 2:
                    # the whole machine was suspended: lines that arrived are not read yet
                    self._heard = dict.fromkeys(self._heard, now)
                looked = now
                if now - sent >= beat and not self._is_stopped():
                    sent = now
                    self._send_to_all("beat")
                for rank, heard in list(self._heard.items()):
                    if now - heard > self.heartbeat:
                        self._lose(
                            f"{self._name(rank)} has not been heard of for {self.heartbeat:g} s"
                        )
                if self._kill_at is not None and now > self._kill_at:
                    self._kill()

    def _read(self, selector: selectors.BaseSelector, rank: int) -> None:
        try:
            content = os.read(0, 2**16) if rank == self.rank else self.wires[rank].recv(2**16)
        except (BlockingIOError, TimeoutError):
            return
        except OSError:
            content = b""
        if rank == self.rank and not content:
            self._leave()
        *lines, rest = (self._unread.get(rank, b"") + content).split(b"\n")
        self._unread[rank] = rest[:_LINE]
        for line in lines:
            self._handle(rank, line[:_LINE].decode(errors="replace"))
        if rank != self.rank:
            self._heard[rank] = time.monotonic()
            if not content:
                selector.unregister(self.wires[rank])
                del self._heard[rank]
                if not self._all_end(rank):
                    self._lose(
                        f"{self._name(rank)} ended without a message: killed, crashed, or out of "
                        "memory"
                    )

    def _handle(self, rank: int, line: str) -> None:
        command, _, text = line.partition(" ")
        if command == "bye":
            self._ending.add(rank)
            if rank == self.rank:
                self._send_to_all("bye")
        elif command == "busy" and rank == self.rank and self._kill_at is not None:
            self._kill_at += _BUSY
        elif command == "fail" and rank == self.rank:
            self._send_to_all(f"lost {self._name(rank)}: {text}")
        elif command == "lost" and rank != self.rank:
            self._lose(text)

    def _all_end(self, rank: int) -> bool:
        """Whether a process that is gone ended in order, as all do at the same time."""
        return ({0, *self.wires} if self.rank == 0 else {rank, self.rank}) <= self._ending

    def _lose(self, why: str) -> None:
        if self._kill_at is not None:
            return
        self._kill_at = time.monotonic() + _PATIENCE
        if self.rank == 0:
            self._send_to_all(f"lost {why}")
        self._why = why
        with contextlib.suppress(OSError):
            os.write(1, f"lost {why}\n".encode())

    def _leave(self) -> None:
        """Ends this sentinel, whose process is gone."""
        for wire in self.wires.values():
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        os._exit(0)

    def _kill(self) -> None:
        """Kills a process that hangs with Python's lock held and cannot end in order."""
        if os.getppid() == self.parent:
            why = "".join(c if c.isprintable() else "?" for c in self._why)
            line = f"error: {why}; start all processes again\n"
            with contextlib.suppress(OSError):
                os.write(2, line.encode("ascii", "backslashreplace"))
            os.kill(self.parent, signal.SIGKILL)
        os._exit(0)

    def _send_to_all(self, line: str) -> None:
        for wire in self.wires.values():
            with contextlib.suppress(OSError):
                wire.sendall(f"{line}\n".encode())

    def _name(self, rank: int) -> str:
        return f"process {rank} ({self.names[rank]})"

    def _is_stopped(self) -> bool:
        """Whether the process is stopped (Ctrl-Z, a debugger): it must not seem alive then."""
        try:
            with open(f"/proc/{self.parent}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
        except OSError:
            return False


def relay(host: str, port: int, patience: float) -> str:
    """Relays connections from this machine to `host:port`; returns the relay's address.

    JAX's client ends its process with a stack trace and status 134 when its connection closes. The
    relay keeps that connection open when the service is gone.
    """
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                near = server.accept()[0]
                arguments = (near, host, port, patience)
                threading.Thread(target=_join, args=arguments, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _join(near: socket.socket, host: str, port: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            far = socket.create_connection((host, port), timeout=5)
            break
        except OSError:
            # the service starts to listen when the roll call is over
            if time.monotonic() > end:
                near.close()
                return
            time.sleep(_RETRY)
    for one in (near, far):
        one.settimeout(None)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_pump, args=(far, near), daemon=True).start()
    _pump(near, far)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(2**16):
            target.sendall(content)


def main(arguments: list[str]) -> None:
    """Takes RANK HEARTBEAT PARENT, and HOST PORT PATIENCE if there is a connection to relay."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    sentinel = Sentinel(int(arguments[0]), float(arguments[1]), int(arguments[2]))
    text = b""
    while not text.endswith(b"\n\n"):
        # byte by byte: what follows the empty line is for `run`
        if not (one := os.read(0, 1)):
            return
        text += one
    for line in text.decode(errors="replace").strip().splitlines():
        rank, number, name = line.split(" ", 2)
        sentinel.names[int(rank)] = name
        if number != "-":
            wire = sentinel.wires[int(rank)] = socket.socket(fileno=int(number))
            wire.settimeout(_SEND_TIMEOUT)
    address = "-"
    if len(arguments) > 3:
        address = relay(arguments[3], int(arguments[4]), float(arguments[5]))
    os.write(1, f"{address}\n".encode())
    sentinel.run()


if __name__ == "__main__":
    main(sys.argv[1:])
