"""Runs a module or some code as several processes of one JAX run, on simulated CPU devices."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import warm

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    what: str,
    *arguments: str,
    processes: int = 2,
    devices: int = 4,
    by_flags: bool = False,
    variables: Callable[[int], Mapping[str, str]] | None = None,
) -> list[warm.Started]:
    """Starts the processes; they find each other by flags or by `JAX_…` variables.

    Args:
      what: a module for `python -m`, or code (anything with a line break) for `python -c`.
      *arguments: of each process; PLACE in them stands for its number.
      processes: how many.
      devices: simulated devices of each process.
      by_flags: whether `--coordinator_address=…` and so on are added to the arguments.
      variables: gives what a process is to find in its environment instead.
    """
    address, started = f"127.0.0.1:{free_port()}", []
    for place in range(processes):
        message = {"coordinator_address": address, "num_processes": processes, "process_id": place}
        flags = [f"--{name}={value}" for name, value in message.items()] if by_flags else []
        found = (
            {}
            if by_flags
            else {f"JAX_{name.upper()}": str(value) for name, value in message.items()}
        )
        call = [
            *(["-c"] if "\n" in what else ["-m"]),
            what,
            *(text.replace("PLACE", str(place)) for text in arguments),
            *flags,
        ]
        environment = dict(
            os.environ,
            JAX_PLATFORMS="cpu",
            XLA_FLAGS=warm.xla_flags(devices),
            COLUMNS="120",
            PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}",
        ) | dict(variables(place) if variables else found)
        started.append(warm.Started(call, environment))
    return started


def finish(started: list[warm.Started], timeout: float = 120) -> list[subprocess.CompletedProcess]:
    """Waits for all; if one is not done in time, kills all and reports the stderr of each."""
    late = threading.Event()

    def wait(process: warm.Started) -> subprocess.CompletedProcess:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            late.set()
            for each in started:
                each.kill()
            output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    # all at once: what is too much for one is for all
    with ThreadPoolExecutor(len(started)) as pool:
        done = list(pool.map(wait, started))
    assert not late.is_set(), f"not done within {timeout} s\n" + "\n".join(
        f"process {place}, status {one.returncode}:\n{one.stdout}\n{one.stderr}"
        for place, one in enumerate(done)
    )
    return done


def run_two(
    what: str, *arguments: str, timeout: float = 120, **how
) -> list[subprocess.CompletedProcess]:
    """Runs `what` to its end in all processes, process 0 first in the list; see `start` and
    `finish`.
    """
    return finish(start(what, *arguments, **how), timeout)
