"""Ends a process of a run in order when another one is gone: with one line and its own status.

A small process beside this one (`vtd_jax.parallel.sentinel`) holds the connections of the roll
call. It ends with this process, however that dies, which closes them; where a machine or network is
gone, or a process is stopped, its heartbeats stop.
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
# seconds in which this process may report its own error, or get a signal that was sent to all
GRACE = 1.0
# seconds to finish a checkpoint that is being written
FINISHED = 60.0
# characters of an error that is sent to the others
_LONGEST = 2000
# gRPC's own variable, which takes precedence over no_proxy
_DIRECT = "no_grpc_proxy"


class Watch:
    """Watches the other processes, through its sentinel.

    Attributes:
      address: where JAX finds its service.
    """

    def __init__(
        self,
        wires: Mapping[int, Wire],
        names: Mapping[int, str],
        rank: int,
        *,
        address: str,
        heartbeat: float,
        patience: float,
    ):
        """Starts the sentinel, which takes over the connections.

        Args:
          wires: connections by rank: process 0 has one to all others, these have one to process 0.
          names: who all of them are, this process too.
          rank: of this process.
          address: of process 0.
          heartbeat: seconds after which a silent process counts as gone.
          patience: seconds for JAX's service to start.
        """
        self._known, self._reason = threading.Event(), ""
        # the thread that holds it reports to the user and ends this process
        self._last_word = threading.Lock()
        # isolated and without site-packages: it starts fast, and nothing of the user can break it
        call = [sys.executable, "-I", "-S", str(Path(__file__).with_name("sentinel.py"))]
        call += [str(rank), str(heartbeat), str(os.getpid())]
        if rank != 0:
            call += [*map(str, split(address)), str(patience)]
        numbers = {other: wire.fileno() for other, wire in wires.items()}
        self._sentinel = subprocess.Popen(
            call,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=list(numbers.values()),
            # a signal to this process group, such as Ctrl-C, must not end it
            start_new_session=True,
        )
        for other, name in names.items():
            self._say(f"{other} {numbers.get(other, '-')} {name}")
        self._say("")
        for wire in wires.values():
            wire.detach()
        relay = self._sentinel.stdout.readline().decode().strip()
        self.address = address if relay == "-" else relay
        if relay != "-":
            _go_direct()
        # it ends after this process: without this, Popen would warn that it still runs
        self._sentinel.returncode = 0
        threading.Thread(target=self._run, name="vtd-watch", daemon=True).start()

    def bye(self) -> None:
        """Announces that this process ends in order."""
        self._say("bye")

    def fail(self, text: str) -> None:
        """Announces that this process fails alone; the others end with this line.

        When it returns, this process may report its error.
        """
        self._take_last_word()
        self._say(f"fail {' '.join(text.split())[:_LONGEST]}")

    def lost(self, seconds: float) -> str:
        """Which process failed or is gone, and why, if that is known within `seconds`; else "".

        When it returns a reason, this process may report it.
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
            # the other thread is about to end this process
            threading.Event().wait()

    def _run(self) -> None:
        """Ends this process once another one is gone, unless its own error ends it first."""
        line = self._sentinel.stdout.readline().decode(errors="replace")
        if not line.startswith("lost "):
            return
        self._reason = line.removeprefix("lost ").strip()
        self._known.set()
        time.sleep(GRACE)
        self._take_last_word()
        # more time, before the sentinel kills this process
        self._say("busy")
        finish(FINISHED)
        with contextlib.suppress(Exception):
            status.clear()
            # printed, not logged: no handler of this process may be waited for
            say(f"error: {ended_by(self._reason)}", sys.stderr)
            sys.stdout.flush()
        # this is a thread; and an ordinary exit would wait in JAX for the process that is gone
        os._exit(LOST_STATUS)


def ended_by(reason: str) -> str:
    """The message of a process that ends because of another one."""
    return f"{reason}; start all processes again"


def _go_direct() -> None:
    """Keeps gRPC from using a proxy for the relay on this machine."""
    if any(name.lower() in ("http_proxy", "https_proxy", "grpc_proxy") for name in os.environ):
        known = os.environ.get(_DIRECT) or os.environ.get("no_proxy") or ""
        os.environ[_DIRECT] = f"{known},127.0.0.1".lstrip(",")
