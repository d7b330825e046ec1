"""Two real processes of four simulated devices each: what they share, and how they fail and stop
as one.
"""

import os
import signal
import socket
import threading

import jax
import numpy as np
import pytest

from support.hosts import two_processes
from support.hosts.two_processes import run_two
from vtd_jax.errors import UserError
from vtd_jax.parallel import joining, processes

pytestmark = pytest.mark.hosts


def test_two_processes_share_devices_results_failures_and_arrays():
    first, second = run_two("support.hosts.checks")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    # one that is quiet, and nothing of the libraries' on stdout
    assert (first.stdout, second.stdout) == ("process 0 is done\n", "")
    assert (first.stderr, second.stderr) == ("", "")


def slurm(place: int) -> dict[str, str]:
    # JAX makes the port from the number of the job
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(place),
        "SLURM_LOCALID": str(place),
    }


def open_mpi(place: int) -> dict[str, str]:
    return {
        "OMPI_MCA_orte_hnp_uri": f"{(os.getpid() + 2000) * 2**12}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(place),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(place),
    }


JOINED = """
import jax
from vtd_jax.parallel import joining, processes
joining.initialize()
said = processes.on_first(lambda: "hello")
print(processes.process_index(), "of", processes.process_count(), said)
"""


@pytest.mark.parametrize("variables", [slurm, open_mpi])
def test_processes_of_a_cluster_find_each_other(variables):
    done = run_two(JOINED, variables=variables, timeout=60)
    for place, one in enumerate(done):
        assert one.returncode == 0, one.stderr
        assert one.stdout.splitlines()[-1] == f"{place} of 2 hello"


def test_a_cluster_that_cannot_be_asked(monkeypatch):
    """A notebook with a TPU has no metadata server, and needs none; others may not run alone
    unasked.
    """

    def refuse(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    joining.initialize(environ={"TPU_ML_PLATFORM": "JAX"})
    with pytest.raises(
        UserError, match=r"Slurm: the processes could not be joined: coord.*`num_processes=1` for"
    ):
        joining.initialize(environ=slurm(0))


def test_a_single_process_only_calls():
    with pytest.raises(KeyError) as caught:
        processes.on_first(lambda: {}["x"])
    assert not processes.raised_everywhere(caught.value)
    assert not processes.reported_elsewhere(caught.value)
    unpicklable = object()
    assert processes.on_first(lambda x: x, unpicklable) is unpicklable
    assert processes.on_all(lambda x: x, unpicklable) is unpicklable
    rows = np.arange(3)
    assert processes.gather_rows(rows) is rows
    processes.check_same(config="1")
    assert processes.is_first()
    assert (processes.process_count(), processes.process_index()) == (1, 0)
    joining.quiet_unless_first()
    joining.initialize(environ={})
    assert not jax.distributed.is_initialized()


def test_what_is_being_written_is_finished_before_the_end(monkeypatch):
    monkeypatch.setattr(processes, "_before_end", None)
    processes.finish(1)
    called = []
    processes.before_end(lambda: called.append(threading.current_thread().name))
    processes.finish(5)
    assert called == ["vtd-finish"]
    processes.before_end(lambda: {}["damaged"])
    processes.finish(5)
    # it is not waited for when that takes longer
    released, waited = threading.Event(), []
    processes.before_end(lambda: waited.append(released.wait(60)))
    processes.finish(0.05)
    assert waited == []
    released.set()


LATE = """
import sys
from experiments.common import hosts
from vtd_jax.parallel import joining
address, place = sys.argv[1:]
del sys.argv[1:]
hosts.start = lambda catch_sigterm: joining.initialize(address, 2, int(place), timeout=1.5)
hosts.run(lambda: "never", "usage")
"""


@pytest.mark.parametrize(
    "place, why",
    [
        (
            "0",
            (
                "not all 2 processes came (1 missing); does each run this command, with its own "
                "--process_id? Waited 1.5 s"
            ),
        ),
        (
            "1",
            (
                "cannot be reached (Connection refused); is process 0 running there, is the port "
                "open? Waited 1.5 s"
            ),
        ),
    ],
)
def test_others_that_do_not_come_are_one_line_after_a_while(place, why):
    address = f"127.0.0.1:{two_processes.free_port()}"
    (done,) = run_two(LATE, address, place, processes=1, timeout=40)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --coordinator_address={address}: {why}\n"


def test_a_port_in_use_is_one_line_at_once():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"process 0 cannot listen on port {port} \\(Address already in use\\)"
        ):
            joining.initialize(f"localhost:{port}", 2, 0, environ={})
    assert not jax.distributed.is_initialized()


PREEMPTED = """
import itertools, time
import numpy as np
from jax.experimental.multihost_utils import process_allgather, reached_preemption_sync_point
from vtd_jax.parallel import joining, processes
joining.initialize()
me = processes.process_index()
for step in itertools.count():
    if step == 3:
        print("started", flush=True)
    time.sleep(0.05)
    process_allgather(np.float32(step))
    if reached_preemption_sync_point(step):
        print("stopped at", step, flush=True)
        break
"""


def test_sigterm_to_one_process_stops_both_at_the_same_step():
    started = two_processes.start(PREEMPTED)
    started[1].wait_until_it_says("started")
    started[1].send_signal(signal.SIGTERM)
    first, second = two_processes.finish(started, timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    stopped = [line for line in first.stdout.splitlines() if line.startswith("stopped")]
    assert len(stopped) == 1
    assert stopped[0] in second.stdout.splitlines()
    assert "SIGTERM caught" in second.stderr


UNPREPARED = """
import time
from vtd_jax.parallel import joining
joining.initialize(catch_sigterm=False)
print("started", flush=True)
time.sleep(600)
"""


def test_sigterm_ends_a_command_that_does_not_ask_for_it():
    started = two_processes.start(UNPREPARED)
    for process in started:
        process.wait_until_it_says("started")
    # both have it before one of them can hear of the other's end
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
        for process in started:
            process.send_signal(number)
    assert [one.returncode for one in two_processes.finish(started, timeout=30)] == [
        -signal.SIGTERM
    ] * 2


def test_processes_that_hang_are_ended_and_both_reported():
    stuck = "import sys, time\nprint(f'{1}-stuck', file=sys.stderr, flush=True)\n"
    started = two_processes.start(stuck + "print('there', flush=True)\ntime.sleep(600)\n")
    for process in started:
        process.wait_until_it_says("there")
    with pytest.raises(AssertionError, match=r"not done within 0.1 s\n(?s:.*1-stuck.*1-stuck)"):
        two_processes.finish(started, timeout=0.1)
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2
