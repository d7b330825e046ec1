"""The roll call before JAX connects the processes of a run: each joins once, all run one command.

Process 0 listens on the coordinator's port until all others have said hello (`answering`), then
hands the port to JAX's service. A process with other flags or another version, a second one with
the same id, or one that cannot start ends the run with one line on every process, instead of
minutes of waiting. The connections stay open for `vtd_jax.parallel.watch`.
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
from vtd_jax.parallel.wires import Hello, Lost, Reply, Wire, listen, split
from vtd_jax.printable import listed

# seconds for which a new connection may stay silent
_SILENT = 10.0
# seconds between two checks of the address
_CHECK = 5.0
# where JAX's service listens, if not at the port by which others reach it
_BIND = "JAX_COORDINATOR_BIND_ADDRESS"


class RollCall:
    """Process 0 while it waits for the others.

    Attributes:
      wires: of the processes that have joined, by rank.
      names: who they are, for messages.
    """

    def __init__(self, address: str, own: Hello):
        """Starts to listen, on the port of `JAX_COORDINATOR_BIND_ADDRESS` or else of `address`, as
        JAX does later.

        Raises:
          UserError: the port is in use.
        """
        self._own = own
        # "failed" or "lost", for all processes, once it is known
        self._verdict: Reply | None = None
        self.wires: dict[int, Wire] = {}
        self.names: dict[int, str] = {0: own.who}
        # marks of the processes that know the verdict, and of those that have joined
        self._informed: set[str] = set()
        self._marks: dict[int, str] = {}
        bound = os.environ.get(_BIND)
        if bound and not is_address(bound):
            raise UserError(f"{_BIND}={bound}: expected host:port, as 0.0.0.0:1234")
        port = split(bound or address)[1]
        try:
            self._server = listen(port)
            self._server.setblocking(False)
        except OSError as error:
            raise UserError(
                f"{setting('coordinator_address', address)}: process 0 cannot listen on port "
                f"{port} ({os.strerror(error.errno or 0)}); give another port, the same for all "
                "processes"
            ) from None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        # connections without a hello, by their deadline; and those that are not kept
        self._pending: dict[Wire, float] = {}
        self._rejected: list[Wire] = []

    def missing(self) -> list[int]:
        """The ranks that have not joined."""
        return [rank for rank in range(1, self._own.count) if rank not in self.wires]

    def all_here(
        self, deadline: float, patience: float = 0, address: str = ""
    ) -> dict[int, Wire] | None:
        """Waits for all processes; returns their wires, or None if not all joined in time.

        Args:
          deadline: by `time.monotonic`.
          patience: seconds in which a thread reports an error to processes that come late.
          address: where others look for process 0. It connects there itself, to find out whether
            another one answers.

        Raises:
          UserError: the processes do not fit each other, or one could not start.
          Lost: one that had joined is gone.
        """
        if address:
            threading.Thread(
                target=self._check_address, args=(address, deadline), daemon=True
            ).start()
        while self._verdict is None and self.missing():
            if time.monotonic() > deadline:
                missing = f"({listed(self.missing())} missing)"
                failed = f"not all {self._own.count} processes came {missing}"
                self._own = replace(self._own, failed=failed)
                self._send_to_all(Reply("failed", f"process 0 ({self._own.who}): {failed}"))
                self.close(self.wires.values())
                return None
            self._poll()
        if (verdict := self._verdict) is not None:
            # no daemon: the process stays for the late ones, while its user reads the error
            threading.Thread(
                target=self.linger, args=(patience, verdict), name="vtd-roll-call"
            ).start()
            raise (Lost if verdict.kind == "lost" else UserError)(verdict.text)
        for wire in self.wires.values():
            wire.send(Reply("go"))
        self.close()
        return self.wires

    def linger(self, seconds: float, verdict: Reply) -> None:
        """Sends the verdict to processes that come late, until all have it or time is up."""
        self._verdict = verdict
        self._send_to_all(verdict)
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self._informed) < self._own.count - 1:
            self._poll()
        self.close(self.wires.values())

    def close(self, wires: Iterable[Wire] = ()) -> None:
        """Frees the port; connections of joined processes stay open, except `wires`."""
        for wire in (*self._pending, *self._rejected, *wires):
            wire.close()
        self._pending.clear()
        self._selector.close()
        self._server.close()

    def _poll(self) -> None:
        """Handles what has arrived, once."""
        for key, _ in self._selector.select(0.2):
            if key.fileobj is self._server:
                with contextlib.suppress(OSError):
                    wire = Wire(self._server.accept()[0])
                    self._pending[wire] = time.monotonic() + _SILENT
                    self._selector.register(wire, selectors.EVENT_READ)
            else:
                self._read(key.fileobj)
        for wire, until in list(self._pending.items()):
            if time.monotonic() > until:
                self._drop(wire)

    def _read(self, wire: Wire) -> None:
        known = wire not in self._pending
        try:
            messages = wire.received(Reply if known else Hello)
        except UserError:
            # not a process of this package, such as a port scanner
            messages = None
        if messages:
            if not known:
                del self._pending[wire]
                self._admit(wire, messages[0])
        elif messages is None:
            rank = next((rank for rank, other in self.wires.items() if other is wire), None)
            self._drop(wire)
            if rank is not None and self._verdict is None:
                del self.wires[rank]
                who = f"process {rank} ({self.names[rank]})"
                self._decide(Reply("lost", f"{who} ended before all processes had come"))

    def _drop(self, wire: Wire) -> None:
        self._pending.pop(wire, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(wire)
        wire.close()

    def _admit(self, wire: Wire, hello: Hello) -> None:
        if hello.mark and hello.mark == self._own.mark:
            self._drop(wire)
            return
        wire.send(Reply("here", self._own.who))
        mark = hello.mark or hello.who
        self._rejected.append(wire)
        if self._verdict is not None:
            wire.send(self._verdict)
            self._informed.add(mark)
        elif hello.failed and hello.rank not in self.names:
            self._reject(wire, mark, f"process {hello.rank} ({hello.who}): {hello.failed}")
        elif problem := differs(self._own, hello, self.names):
            self._reject(wire, mark, problem)
        else:
            self.wires[hello.rank], self.names[hello.rank] = wire, hello.who
            self._marks[hello.rank] = mark
            self._rejected.remove(wire)

    def _reject(self, wire: Wire, mark: str, why: str) -> None:
        self._decide(Reply("failed", why))
        wire.send(Reply("failed", why))
        self._informed.add(mark)

    def _decide(self, verdict: Reply) -> None:
        self._verdict = self._verdict or verdict

    def _send_to_all(self, verdict: Reply) -> None:
        for rank, wire in self.wires.items():
            if self._marks[rank] not in self._informed:
                wire.send(verdict)
                self._informed.add(self._marks[rank])

    def _check_address(self, address: str, deadline: float) -> None:
        """Says hello at process 0's own address: if another process answers, two have this id."""
        while self._verdict is None and self.missing() and time.monotonic() < deadline:
            with contextlib.suppress(OSError, UserError, TimeoutError):
                wire = Wire(socket.create_connection(split(address), timeout=_CHECK))
                with contextlib.closing(wire):
                    wire.send(self._own)
                    # process 0 itself closes the connection without a reply
                    while (reply := wire.wait(_CHECK)) is not None:
                        if reply.kind in ("failed", "lost"):
                            self._decide(reply)
                            return
            time.sleep(_CHECK)


def differs(first: Hello, hello: Hello, names: dict[int, str]) -> str:
    """How a process differs from process 0, in one line; "" where it does not."""
    here = f"process {hello.rank} ({hello.who})"
    if hello.rank in names:
        return (
            f"{setting('process_id', hello.rank)} was given to two processes "
            f"({names[hello.rank]}; {hello.who}); give each process an id of its own"
        )
    if hello.count != first.count:
        return (
            f"{here}: {setting('num_processes', hello.count)}, but process 0 has {first.count}; "
            "give all the same number"
        )
    if not 0 < hello.rank < first.count:
        return f"{here}: {setting('process_id', hello.rank)}, expected 0 to {first.count - 1}"
    if hello.versions != first.versions:
        return (
            f"{here}: has {hello.versions}, but process 0 has {first.versions}; install the same "
            "on all hosts"
        )
    for name in sorted({*first.flags, *hello.flags}):
        one, other = first.flags.get(name), hello.flags.get(name)
        if one != other:
            has, lacks = _flag(name, other), _flag(name, one)
            return f"{here}: {has}, but process 0 has {lacks}; give all processes the same command"
    return ""


def _flag(name: str, value: str | None) -> str:
    return f"no {name}" if value is None else f"{name}={value}"
