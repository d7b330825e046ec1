"""The roll call, before JAX connects the processes of a run: all come, once each, with the same
command.

Process 0 listens on the coordinator's port until all have said who they are, and gives the port to
JAX's service then. The connections stay: by them processes hear of each other's end
(`vtd_jax.parallel.watch`). Who is here twice, has other flags or another version, or cannot start
at all, is one line on every process instead of minutes of waiting. The side of the other processes
is `answering`.
"""

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

from vtd_jax.errors import UserError, setting
from vtd_jax.parallel.clusters import is_address
from vtd_jax.parallel.wires import Hello, Lost, Wire, Word, listen, split
from vtd_jax.printable import listed

# seconds for which a connection may say nothing
_SILENT = 10.0
# seconds between two tries of process 0 to reach itself
_MIRROR = 5.0
# where JAX's service listens, if not at the port by which others reach it
_BIND = "JAX_COORDINATOR_BIND_ADDRESS"


class RollCall:
    """Process 0 as it waits for the others.

    Attributes:
      wires: by place, of those that have come.
      names: who they are, for messages.
    """

    def __init__(self, address: str, own: Hello):
        """Listens from here on: at the address's port, or at that of
          `JAX_COORDINATOR_BIND_ADDRESS`, as JAX does later.

        Raises:
          UserError: the port is taken.
        """
        self._own, self._verdict = own, None
        self.wires: dict[int, Wire] = {}
        self.names: dict[int, str] = {0: own.who}
        # marks of those that know how it ended, and of those that have come
        self._told: set[str] = set()
        self._marks: dict[int, str] = {}
        bound = os.environ.get(_BIND)
        if bound and not is_address(bound):
            raise UserError(f"{_BIND}={bound}: expected host:port, as 0.0.0.0:1234")
        port = split(bound or address)[1]
        try:
            self._server = listen(port)
            self._server.setblocking(False)
        except OSError as error:
            why = os.strerror(error.errno)
            raise UserError(
                f"{setting('coordinator_address', address)}: process 0 cannot listen on port "
                f"{port} "
                f"({why}); give another port, the same for all processes"
            ) from None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        # connections that have said nothing yet, until when they may, and those that are not kept
        self._pending: dict[Wire, float] = {}
        self._turned_away: list[Wire] = []

    def missing(self) -> list[int]:
        """The places that have not come."""
        return [place for place in range(1, self._own.count) if place not in self.wires]

    def all_here(
        self, deadline: float, patience: float = 0, address: str = ""
    ) -> dict[int, Wire] | None:
        """Waits for all; gives their wires, or None where not all came in time.

        Args:
          deadline: by `time.monotonic`.
          patience: seconds in which those that come late are told of an error, by a thread.
          address: at which others look for process 0; it looks there too: the one that answers may
            be another.

        Raises:
          UserError: the processes do not fit each other, or one could not start; all that have come
            are told.
          Lost: one that had come is gone.
        """
        if address:
            threading.Thread(
                target=self._look_into_mirror, args=(address, deadline), daemon=True
            ).start()
        while self._verdict is None and self.missing():
            if time.monotonic() > deadline:
                missing = f"({self.missing_told()} missing)"
                failed = f"not all {self._own.count} processes came {missing}"
                self._own = replace(self._own, failed=failed)
                self._tell_all("failed", f"process 0 ({self._own.who}): {self._own.failed}")
                self.close(self.wires.values())
                return None
            self._turn()
        if self._verdict is not None:
            kind, text = self._verdict
            # keeps this process for a while, but not its user
            threading.Thread(
                target=self.linger, args=(patience, kind, text), name="vtd-roll-call"
            ).start()
            raise (Lost if kind == "lost" else UserError)(text)
        for wire in self.wires.values():
            wire.say(Word("go"))
        self.close()
        return self.wires

    def linger(self, seconds: float, kind: str, text: str) -> None:
        """Tells those that come late why there is nothing to come to, until all know or this time
        is over.
        """
        self._verdict = (kind, text)
        self._tell_all(kind, text)
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self._told) < self._own.count - 1:
            self._turn()
        self.close(self.wires.values())

    def close(self, wires: Iterable[Wire] = ()) -> None:
        """Gives the port back; connections of those that have come stay, except those given."""
        for wire in (*self._pending, *self._turned_away, *wires):
            wire.close()
        self._pending.clear()
        self._selector.close()
        self._server.close()

    def missing_told(self) -> str:
        """The same for people."""
        return listed(self.missing())

    def _turn(self) -> None:
        """Looks once at what has come."""
        for key, _ in self._selector.select(0.2):
            if key.fileobj is self._server:
                with contextlib.suppress(OSError):
                    wire = Wire(self._server.accept()[0])
                    self._pending[wire] = time.monotonic() + _SILENT
                    self._selector.register(wire, selectors.EVENT_READ)
            else:
                self._hear(key.fileobj)
        for wire, until in list(self._pending.items()):
            if time.monotonic() > until:
                self._drop(wire)

    def _hear(self, wire: Wire) -> None:
        known = wire not in self._pending
        try:
            messages = wire.heard(Word if known else Hello)
        except UserError:
            # a stranger, or a stray request
            messages = None
        if messages:
            if not known:
                del self._pending[wire]
                self._welcome(wire, messages[0])
        elif messages is None:
            place = next((place for place, one in self.wires.items() if one is wire), None)
            self._drop(wire)
            if place is not None and self._verdict is None:
                del self.wires[place]
                self._judge(
                    "lost",
                    f"process {place} ({self.names[place]}) ended before all processes had come",
                )

    def _drop(self, wire: Wire) -> None:
        self._pending.pop(wire, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(wire)
        wire.close()

    def _welcome(self, wire: Wire, hello: Hello) -> None:
        if hello.mark and hello.mark == self._own.mark:
            self._drop(wire)
            return
        wire.say(Word("here", self._own.who))
        mark = hello.mark or hello.who
        self._turned_away.append(wire)
        if self._verdict is not None:
            wire.say(Word(*self._verdict))
            self._told.add(mark)
        elif hello.failed and hello.place not in self.names:
            self._turn_away(wire, mark, f"process {hello.place} ({hello.who}): {hello.failed}")
        elif problem := differs(self._own, hello, self.names):
            self._turn_away(wire, mark, problem)
        else:
            self.wires[hello.place], self.names[hello.place] = wire, hello.who
            self._marks[hello.place] = mark
            self._turned_away.remove(wire)

    def _turn_away(self, wire: Wire, mark: str, why: str) -> None:
        self._judge("failed", why)
        wire.say(Word("failed", why))
        self._told.add(mark)

    def _judge(self, kind: str, text: str) -> None:
        self._verdict = self._verdict or (kind, text)

    def _tell_all(self, kind: str, text: str) -> None:
        for place, wire in self.wires.items():
            if self._marks[place] not in self._told:
                wire.say(Word(kind, text))
                self._told.add(self._marks[place])

    def _look_into_mirror(self, address: str, deadline: float) -> None:
        """Says hello to whoever answers at process 0's address: another one there, and there are
        two with this id.
        """
        while self._verdict is None and self.missing() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, UserError, TimeoutError):
                wire = Wire(socket.create_connection(split(address), timeout=_MIRROR))
                with contextlib.closing(wire):
                    wire.say(self._own)
                    # this one closes without a word
                    while (word := wire.wait(_MIRROR)) is not None:
                        if word.kind in ("failed", "lost"):
                            self._judge(word.kind, word.text)
                            return
            time.sleep(_MIRROR)


def differs(first: Hello, hello: Hello, names: dict[int, str]) -> str:
    """What of a process does not fit process 0, in one line; "" where all does."""
    here = f"process {hello.place} ({hello.who})"
    if hello.place in names:
        return (
            f"{setting('process_id', hello.place)} was given to two processes "
            f"({names[hello.place]}; {hello.who}); give each process an id of its own"
        )
    if hello.count != first.count:
        return (
            f"{here}: {setting('num_processes', hello.count)}, but process 0 has {first.count}; "
            "give all "
            "the same number"
        )
    if not 0 < hello.place < first.count:
        return f"{here}: {setting('process_id', hello.place)}, expected 0 to {first.count - 1}"
    if hello.versions != first.versions:
        return (
            f"{here}: has {hello.versions}, but process 0 has {first.versions}; install the same "
            "on all hosts"
        )
    for name in sorted({*first.told, *hello.told}):
        one, other = first.told.get(name), hello.told.get(name)
        if one != other:
            has, lacks = _flag(name, other), _flag(name, one)
            return f"{here}: {has}, but process 0 has {lacks}; give all processes the same command"
    return ""


def _flag(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name}={value}"
