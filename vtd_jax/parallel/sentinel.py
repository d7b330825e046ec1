"""A small process beside each process of a run: hears of the others' ends, and is JAX's way to
process 0.

It is a process of its own because JAX may hold Python's lock for minutes (as at a preemption, where
all wait for the slowest), and no thread of that process could say meanwhile that it is alive. Run
by its path, with nothing imported that is not Python's own.

Lines on stdin, from the process beside which it runs: first `PLACE FD NAME` of every connection,
then an empty one; later `bye`, which says that it ends in order, `busy` and `fail WHY`. At the end
of stdin it is gone. Lines on stdout: the address of the relay (or `-`) when it is ready, and `lost
WHY` once the run is over. Lines between sentinels: `beat`, `bye`, `lost WHY`.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
import time

# beats within the time after which a process without any is taken for gone
_BEATS = 5
# bytes of a line, seconds to send one, and between two tries to reach JAX's service
_LINE, _SENT, _RETRY = 2**16, 5.0, 0.1
# seconds after which a process that does not end by itself is killed
_PATIENCE = 15.0
# and seconds more for one that has a checkpoint to finish
_BUSY = 120.0


class Sentinel:
    """Beside one process; it knows the connections to all others (process 0) or to process 0 (any
    other).
    """

    def __init__(self, place: int, heartbeat: float, parent: int):
        self.place, self.heartbeat, self.parent = place, heartbeat, parent
        self.wires: dict[int, socket.socket] = {}
        self.names: dict[int, str] = {}
        self._unread: dict[int, bytes] = {}
        self._heard: dict[int, float] = {}
        self._ending: set[int] = set()
        self._kill_at: float | None = None
        self._why = ""

    def run(self) -> None:
        """Listens until the process is gone."""
        beat = self.heartbeat / _BEATS
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ, self.place)
            for place, wire in self.wires.items():
                selector.register(wire, selectors.EVENT_READ, place)
            self._heard = dict.fromkeys(self.wires, time.monotonic())
            sent = looked = time.monotonic()
            while True:
                for key, _ in selector.select(beat / 2):
                    self._hear(selector, key.data)
                if os.getppid() != self.parent:
                    self._leave()
                now = time.monotonic()
                if now - looked > self.heartbeat / 2:
                    # the whole machine stood still, and what came meanwhile is not read yet
                    self._heard = dict.fromkeys(self._heard, now)
                looked = now
                if now - sent >= beat and not self._is_stopped():
                    sent = now
                    self._say_to_all("beat")
                for place, heard in list(self._heard.items()):
                    if now - heard > self.heartbeat:
                        self._lose(
                            f"{self._name(place)} has not been heard of for {self.heartbeat:g} s"
                        )
                if self._kill_at is not None and now > self._kill_at:
                    self._kill()

    def _hear(self, selector: selectors.BaseSelector, place: int) -> None:
        try:
            content = os.read(0, 2**16) if place == self.place else self.wires[place].recv(2**16)
        except (BlockingIOError, TimeoutError):
            return
        except OSError:
            content = b""
        if place == self.place and not content:
            self._leave()
        *lines, rest = (self._unread.get(place, b"") + content).split(b"\n")
        self._unread[place] = rest[:_LINE]
        for line in lines:
            self._obey(place, line[:_LINE].decode(errors="replace"))
        if place != self.place:
            self._heard[place] = time.monotonic()
            if not content:
                selector.unregister(self.wires[place])
                del self._heard[place]
                if not self._all_end(place):
                    self._lose(
                        f"{self._name(place)} ended without a word: killed, crashed, or out of "
                        "memory"
                    )

    def _obey(self, place: int, line: str) -> None:
        word, _, text = line.partition(" ")
        if word == "bye":
            self._ending.add(place)
            if place == self.place:
                self._say_to_all("bye")
        elif word == "busy" and place == self.place and self._kill_at is not None:
            self._kill_at += _BUSY
        elif word == "fail" and place == self.place:
            self._say_to_all(f"lost {self._name(place)}: {text}")
        elif word == "lost" and place != self.place:
            self._lose(text)

    def _all_end(self, place: int) -> bool:
        """Whether one that is gone ended in order: in the end all wait for all, and then go."""
        return ({0, *self.wires} if self.place == 0 else {place, self.place}) <= self._ending

    def _lose(self, why: str) -> None:
        if self._kill_at is not None:
            return
        self._kill_at = time.monotonic() + _PATIENCE
        if self.place == 0:
            self._say_to_all(f"lost {why}")
        self._why = why
        with contextlib.suppress(OSError):
            os.write(1, f"lost {why}\n".encode())

    def _leave(self) -> None:
        """After the process, which is gone, or has told all."""
        for wire in self.wires.values():
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        os._exit(0)

    def _kill(self) -> None:
        """For a process that stands still with Python's lock held, and cannot end in order."""
        if os.getppid() == self.parent:
            told = "".join(c if c.isprintable() else "?" for c in self._why).encode(
                "ascii", "backslashreplace"
            )
            with contextlib.suppress(OSError):
                os.write(2, b"error: " + told + b"; start all processes again\n")
            os.kill(self.parent, signal.SIGKILL)
        os._exit(0)

    def _say_to_all(self, line: str) -> None:
        for wire in self.wires.values():
            with contextlib.suppress(OSError):
                wire.sendall(f"{line}\n".encode())

    def _name(self, place: int) -> str:
        return f"process {place} ({self.names[place]})"

    def _is_stopped(self) -> bool:
        """Whether the process was stopped (Ctrl-Z, a debugger): then it must not seem alive."""
        try:
            with open(f"/proc/{self.parent}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
        except OSError:
            return False


def relay(host: str, port: int, patience: float) -> str:
    """Listens on this machine alone and passes on what comes, for as long as this process runs;
    gives the address.

    JAX's client ends its process with a stack trace and status 134 once the connection to its
    service closes; this end of the relay stays open when the other is gone.
    """
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                near = server.accept()[0]
                threading.Thread(
                    target=_join, args=(near, host, port, patience), daemon=True
                ).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _join(near: socket.socket, host: str, port: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            far = socket.create_connection((host, port), timeout=5)
            break
        except OSError:
            # the service begins to listen when the roll call is over
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
    """Takes PLACE HEARTBEAT PARENT, and HOST PORT PATIENCE where there is something to relay."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    sentinel = Sentinel(int(arguments[0]), float(arguments[1]), int(arguments[2]))
    text = b""
    while not text.endswith(b"\n\n"):
        # byte by byte: what follows is not to be taken yet
        if not (one := os.read(0, 1)):
            return
        text += one
    for line in text.decode(errors="replace").strip().splitlines():
        place, number, name = line.split(" ", 2)
        sentinel.names[int(place)] = name
        if number != "-":
            wire = sentinel.wires[int(place)] = socket.socket(fileno=int(number))
            wire.settimeout(_SENT)
    address = (
        relay(arguments[3], int(arguments[4]), float(arguments[5])) if len(arguments) > 3 else "-"
    )
    os.write(1, f"{address}\n".encode())
    sentinel.run()


if __name__ == "__main__":
    main(sys.argv[1:])
