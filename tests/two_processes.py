"""Runs a module or a piece of code as several processes of one JAX run, on simulated CPU devices."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(what: str, *arguments: str, processes: int = 2, devices: int = 4, by_flags=False) -> list[subprocess.Popen]:
    """Starts the processes; they are told of each other by flags or by the environment.

    Args:
      what: a module for `python -m`, or code (anything with a line break) for `python -c`.
      *arguments: of each process.
      processes: how many.
      devices: simulated devices of each process.
      by_flags: whether `--coordinator_address=…` and so on are added to the arguments.
    """
    address, started = f"127.0.0.1:{free_port()}", []
    for place in range(processes):
        told = {"coordinator_address": address, "num_processes": processes, "process_id": place}
        flags = [f"--{name}={value}" for name, value in told.items()] if by_flags else []
        variables = {} if by_flags else {f"JAX_{name.upper()}": str(value) for name, value in told.items()}
        call = [sys.executable, *(["-c"] if "\n" in what else ["-m"]), what, *arguments, *flags]
        environment = dict(
            os.environ,
            JAX_PLATFORMS="cpu",
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
            COLUMNS="120",
            PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
            **variables,
        )
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(call, cwd=ROOT, env=environment, **pipes))
    return started


def finish(started: list[subprocess.Popen], timeout: float = 120) -> list[subprocess.CompletedProcess]:
    """Waits for all; if one is not done in time, kills all and tells what each wrote to stderr."""
    deadline, done, late = time.monotonic() + timeout, [], False
    # what one writes cannot block it: a pipe holds far more than these print before the one before it ends
    for process in started:
        try:
            output, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
            for each in started:
                each.kill()
            output, errors = process.communicate()
        done.append(subprocess.CompletedProcess(process.args, process.returncode, output, errors))
    assert not late, f"not done within {timeout} s\n" + "\n".join(
        f"process {place}, status {one.returncode}:\n{one.stdout}\n{one.stderr}" for place, one in enumerate(done)
    )
    return done


def run_two(
    what: str, *arguments: str, processes: int = 2, devices: int = 4, timeout: float = 120, by_flags: bool = False
) -> list[subprocess.CompletedProcess]:
    """Runs `what` to its end in all processes, process 0 first in the list; see `start` and `finish`."""
    return finish(start(what, *arguments, processes=processes, devices=devices, by_flags=by_flags), timeout)
