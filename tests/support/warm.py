"""Python commands in processes of their own that need not import JAX and so on first: seconds for
each of them.

What starts from here is a fork of `warm_server`, of which each test process has one. Tests of how a
command starts, or that kill it without notice, and one test of every command's help use
`subprocess`.
"""

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNOPTIMIZED = "--xla_backend_optimization_level=0"


def xla_flags(devices: int = 1) -> str:
    """XLA's flags of this session, for a process with a number of simulated devices.

    With several devices LLVM optimizes: without it, sums over devices differ by more than their
    tests allow.
    """
    count = "--xla_force_host_platform_device_count"
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if count not in flag]
    if devices > 1:
        others = [flag for flag in others if flag != UNOPTIMIZED]
    return " ".join([*others, f"{count}={devices}"])


@functools.cache
def _server() -> Path:
    """The folder of outputs and of the socket at which the server forks; both end with this
    process.
    """
    folder = Path(tempfile.mkdtemp(prefix="vtd_jax_warm_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    call = [sys.executable, str(Path(__file__).with_name("warm_server.py")), str(folder / "socket")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server = subprocess.Popen(call, env=environment, cwd=folder, **pipes)
    atexit.register(_end, server)
    assert server.stdout.readline() == "ready\n"
    return folder


def _end(server: subprocess.Popen) -> None:
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


def address() -> Path:
    """The socket of the server, for a client that is no Python of this process."""
    return _server() / "socket"


class Started:
    """A command that was started; the part of `subprocess.Popen` that tests use.

    Attributes:
      out: the folder with the files `stdout` and `stderr`.
      cpu, peak: seconds of CPU time, and bytes of memory beyond what every command has from its
        start; at its end.
    """

    def __init__(self, args: list[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT):
        """Starts `python ARGS…`, where ARGS begin with -m MODULE, -c CODE or a file."""
        self.args, self.returncode, self.cpu, self.peak = args, None, 0.0, 0
        self.out = Path(tempfile.mkdtemp(dir=_server()))
        kind = {"-m": "module", "-c": "code"}.get(args[0], "file")
        what, arguments = (args[0], args[1:]) if kind == "file" else (args[1], args[2:])
        asked = dict(
            kind=kind,
            what=what,
            arguments=arguments,
            cwd=str(cwd),
            env=dict(os.environ if env is None else env),
        )
        for name in ("stdout", "stderr"):
            asked[name] = str(self.out / name)
            (self.out / name).touch()
        self._told = socket.socket(socket.AF_UNIX)
        self._told.connect(str(_server() / "socket"))
        self._told.sendall(f"{json.dumps(asked)}\n".encode())
        self._unread = b""
        self.pid = self._number()

    def _number(self) -> int:
        """The next line that the server says of this command."""
        while b"\n" not in self._unread:
            some = self._told.recv(64)
            assert some, f"the server of warm starts is gone, and {self.args} with it"
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        return int(line)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; returns its exit status, or minus the signal that ended it."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                status = self._number()
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            self.cpu, self.peak, self.returncode = self._number() / 1000, self._number(), status
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        try:
            return self.wait(0.001)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; returns what it wrote to stdout and stderr."""
        self.wait(timeout)
        return (self.out / "stdout").read_text(), (self.out / "stderr").read_text()

    def wait_until_it_says(self, line: str) -> None:
        """Waits for a line on stdout."""
        while f"{line}\n" not in (said := (self.out / "stdout").read_text()):
            assert self.poll() is None, said + (self.out / "stderr").read_text()
            time.sleep(0.01)

    def send_signal(self, number: int) -> None:
        """Sends a signal to it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def run(
    args: list[str], env: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess:
    """`subprocess.run([sys.executable, *args], capture_output=True, text=True)` from the root of
    the repository.
    """
    started = Started(args, env)
    try:
        output, errors = started.communicate(timeout)
    except subprocess.TimeoutExpired:
        started.kill()
        raise
    return subprocess.CompletedProcess(args, started.returncode, output, errors)
