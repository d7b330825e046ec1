"""Each process of a run hears when another one is gone, and ends in order: one line, and a status
of its own.

The connections of the roll call stay open, held by a small process beside this one
(`vtd_jax.parallel.sentinel`), which ends with it, however it dies; where a machine or a network is
gone, or a process is stopped, beats stay away. Process 0 hears all others, and they hear it.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from vtd_jax.console import status
from vtd_jax.parallel.processes import finish
from vtd_jax.parallel.wires import Wire, split
from vtd_jax.terminal import say

# EX_UNAVAILABLE: another process of the run failed or is gone
LOST_STATUS = 69
# seconds in which what failed here says so itself, and in which a signal to all reaches this
# process too
GRACE = 1.0
# and in which a checkpoint that is being written is to be whole
FINISHED = 60.0
# characters of what one process says to the others of its error
_LONGEST = 2000
# gRPC's own variable, which goes before no_proxy
_DIRECT = "no_grpc_proxy"


class Watch:
    """What a process knows of the others, from its sentinel.

    Attributes:
      address: at which JAX finds its service.
    """

    def __init__(
        self,
        wires: Mapping[int, Wire],
        names: Mapping[int, str],
        place: int,
        *,
        address: str,
        heartbeat: float,
        patience: float,
    ):
        """Starts the sentinel, which takes the connections.

        Args:
          wires: by place: of process 0 to all others, of any other to process 0.
          names: who they are, and who this one is.
          place: of this process.
          address: of process 0.
          heartbeat: seconds after which one that says nothing is taken for gone.
          patience: seconds for JAX's service to begin.
        """
        self._known, self._reason = threading.Event(), ""
        # whoever has it reports to the user, and ends this process
        self._last_word = threading.Lock()
        call = [sys.executable, "-I", "-S", str(Path(__file__).with_name("sentinel.py"))]
        call += [str(place), str(heartbeat), str(os.getpid())]
        if place != 0:
            call += [*map(str, split(address)), str(patience)]
        numbers = {other: wire.fileno() for other, wire in wires.items()}
        self._sentinel = subprocess.Popen(
            call,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=list(numbers.values()),
            start_new_session=True,
        )
        for other, name in names.items():
            self._say(f"{other} {numbers.get(other, '-')} {name}")
        self._say("")
        for wire in wires.values():
            wire.leave()
        relay = self._sentinel.stdout.readline().decode().strip()
        self.address = address if relay == "-" else relay
        if relay != "-":
            _go_direct()
        # it ends after this process, and nobody waits for it
        self._sentinel.returncode = 0
        threading.Thread(target=self._run, name="vtd-watch", daemon=True).start()

    def bye(self) -> None:
        """Says that this process ends in order; the sentinel listens until all have said so."""
        self._say("bye")

    def fail(self, text: str) -> None:
        """Says that this process fails alone; the others end with this line. Then this one may tell
        the user.
        """
        self._take_last_word()
        self._say(f"fail {' '.join(text.split())[:_LONGEST]}")

    def lost(self, seconds: float) -> str:
        """Which process is gone, or failed, and why: known by now or within so many seconds; "" if
        none.

        Returns when this process may tell the user.
        """
        if not self._known.wait(seconds):
            return ""
        self._take_last_word()
        self._say("busy")
        return self._reason

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._sentinel.stdin.fileno(), f"{line}\n".encode(errors="replace"))

    def _take_last_word(self) -> None:
        if not self._last_word.acquire(blocking=False):
            # the thread is about to end this process
            threading.Event().wait()

    def _run(self) -> None:
        """Ends this process once the run is over, but for the one whose own error ends it."""
        line = self._sentinel.stdout.readline().decode(errors="replace")
        if not line.startswith("lost "):
            return
        self._reason = line.removeprefix("lost ").strip()
        self._known.set()
        time.sleep(GRACE)
        self._take_last_word()
        # the sentinel has no patience with a process that says nothing
        self._say("busy")
        finish(FINISHED)
        with contextlib.suppress(Exception):
            status.clear()
            say(f"error: {ended_by(self._reason)}", sys.stderr)
            sys.stdout.flush()
        os._exit(LOST_STATUS)


def ended_by(reason: str) -> str:
    """The line of a process that ends because of another one."""
    return f"{reason}; start all processes again"


def _go_direct() -> None:
    """Keeps gRPC from asking a proxy for this machine, where the relay is."""
    if any(name.lower() in ("http_proxy", "https_proxy", "grpc_proxy") for name in os.environ):
        known = os.environ.get(_DIRECT) or os.environ.get("no_proxy") or ""
        os.environ[_DIRECT] = f"{known},127.0.0.1".lstrip(",")
