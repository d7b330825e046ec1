"""Commands as two processes: who prints, and how they end when all fail, or one does."""

import re
import signal
import subprocess
import sys
import time

import pytest

from support import warm
from support.hosts import two_processes
from support.hosts.two_processes import ROOT, run_two
from vtd_jax.parallel.watch import LOST_STATUS

pytestmark = pytest.mark.hosts

COMMAND = """
import sys
from absl import flags
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from experiments.common import hosts
from vtd_jax.errors import UserError
from vtd_jax.parallel import processes
flags.adopt_module_key_flags(hosts)
HOW = flags.DEFINE_string("how", "", "what goes wrong")

def fail(error):
    raise error

def main():
    me = processes.process_index()
    print("at work", flush=True)
    process_allgather(np.float32(1))
    if HOW.value == "first":
        processes.on_first(fail, UserError("a.txt: no such file"))
    if HOW.value == "second":
        processes.on_all(lambda: fail(UserError("b.txt: no such file")) if me else 0)
    if HOW.value == "bug":
        processes.on_all(lambda: fail(KeyError("a bug")) if me else 0)
    if HOW.value == "alone" and me:
        raise UserError("c.txt: no such file")
    if HOW.value == "alone bug" and me:
        raise KeyError("a bug")
    if HOW.value == "endless":
        while True:
            process_allgather(np.float32(1))
    if HOW.value == "stop":
        sys.exit(75)
    total = process_allgather(np.float32(me)).sum()
    return f"wrote {total:g}"

hosts.run(main, "usage")
"""


def run(how="", **kind):
    started = two_processes.start(COMMAND, f"--how={how}", **kind)
    while all(one.poll() is None for one in started):
        time.sleep(0.05)
    began = time.monotonic()
    first, second = two_processes.finish(started)
    # no process waits for one that is gone: XLA's own timeout is 100 s and more
    assert time.monotonic() - began < 60
    assert second.stdout == ""
    assert "at work" in first.stdout
    return first, second


def test_the_first_process_prints():
    first, second = run(by_flags=True)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (first.stdout, first.stderr, second.stderr) == ("at work\nwrote 1\n", "", "")


@pytest.mark.parametrize(
    "how, message, line",
    [("first", 0, "a.txt: no such file"), ("second", 1, "b.txt: no such file")],
)
def test_what_all_raise_is_reported_once(how, message, line):
    done = run(how)
    assert [one.returncode for one in done] == [2, 2]
    assert done[message].stderr == f"error: {line}\n"
    assert done[1 - message].stderr == ""


def test_a_bug_is_reported_once_with_its_traceback():
    first, second = run("bug")
    assert (first.returncode, second.returncode) == (1, 1)
    assert first.stderr == ""
    assert second.stderr.count("Traceback") == 1
    assert second.stderr.splitlines()[-1] == "KeyError: 'a bug'"


@pytest.mark.parametrize(
    # with several devices a collective waits for ever for a process that is gone, and only the
    # watch ends it
    "how, status, last, why, devices",
    [
        ("alone", 2, "error: c.txt: no such file", "c.txt: no such file", 4),
        ("alone bug", 1, "KeyError: 'a bug'", "KeyError: 'a bug'", 1),
    ],
)
def test_a_process_that_fails_alone_leaves_and_the_other_does_not_wait(
    how, status, last, why, devices
):
    first, second = run(how, devices=devices)
    assert second.returncode == status
    assert second.stderr.splitlines()[-1] == last
    assert (first.returncode, first.stdout) == (LOST_STATUS, "at work\n")
    line = re.escape(f"{why}; start all processes again")
    assert re.fullmatch(rf"error: process 1 \([^()]+, process id \d+\): {line}\n", first.stderr)


@pytest.mark.parametrize(
    "place, signal_, why",
    [
        (1, signal.SIGKILL, "ended without a message: killed, crashed, or out of memory"),
        (0, signal.SIGKILL, "ended without a message: killed, crashed, or out of memory"),
        (1, signal.SIGSTOP, "has not been heard of for 3 s"),
    ],
)
def test_a_process_that_is_gone_ends_the_others_in_one_line(place, signal_, why):
    """Two devices each: with one Gloo would say it, with several nothing does."""
    started = two_processes.start(COMMAND, "--how=endless", "--heartbeat=3", devices=2)
    started[0].wait_until_it_says("at work")
    time.sleep(0.2)
    started[place].send_signal(signal_)
    _, errors = started[1 - place].communicate(timeout=60)
    started[place].kill()
    started[place].communicate()
    assert started[1 - place].returncode == LOST_STATUS
    assert re.fullmatch(
        rf"error: process {place} \([^()]+, process id {started[place].pid}\) {why}; "
        r"start all processes again\n",
        errors,
    )


def test_different_devices_are_one_line():
    variables = [{"XLA_FLAGS": warm.xla_flags(count)} for count in (2, 4)]
    done = run_two(COMMAND, variables=lambda place: variables[place], by_flags=True)
    assert [one.returncode for one in done] == [2, 2]
    assert (
        done[0].stderr
        == "error: process 1 has 4 devices, process 0 has 2; give all processes the same number\n"
    )
    assert done[1].stderr == ""


def test_one_with_a_wrong_flag_ends_all():
    """It never gets as far as to join them; and one with another value is named with it."""
    done = run_two(COMMAND, "--how=PLACE", by_flags=True)
    assert [one.returncode for one in done] == [2, 2]
    assert done[0].stderr == done[1].stderr
    assert re.fullmatch(
        r"error: process 1 \([^()]+\): --how=1, but process 0 has --how=0; "
        r"give all processes the same command\n",
        done[0].stderr,
    )
    done = run_two(COMMAND, "--hPLACEw=", by_flags=True)
    # both are wrong here, and each says so
    assert [(one.returncode, one.stderr.count("unknown flag")) for one in done] == [(2, 1), (2, 1)]


def test_an_exit_status_of_all_is_theirs():
    assert [(one.returncode, one.stderr) for one in run("stop")] == [(75, ""), (75, "")]


def test_missing_flags_are_one_line_and_one_process_needs_none():
    def command(*flags):
        call = [sys.executable, "-c", COMMAND, *flags]
        return subprocess.run(
            call, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
        )

    alone = command()
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, "at work\nwrote 0\n", "")
    refused = command("--coordinator_address=localhost:1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "error: --coordinator_address given, --num_processes, --process_id missing: "
    )
    assert len(refused.stderr.splitlines()) == 1
    message = command("--help").stdout
    assert "--coordinator_address: host:port of process 0" in message
