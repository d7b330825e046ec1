"""A command in a new interpreter."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Cold:
    """As `warm.Started`, for a new interpreter."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], out: Path):
        self.out, self.cpu, self.peak = out, 0.0, 0
        with (out / "stdout").open("wb") as stdout, (out / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, *args],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while True:
            self._look()
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu = usage.ru_utime + usage.ru_stime
                return self._process.returncode
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self._process.args, timeout)
            time.sleep(0.02)

    def _look(self) -> None:
        """Notes the most memory so far; what `wait4` says counts this process, too, which was
        copied for a moment.
        """
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return
        found = [line for line in status.splitlines() if line.startswith("VmHWM")]
        self.peak = max([self.peak, *(int(line.split()[1]) * 1024 for line in found)])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
