"""Who the other processes are, from arguments and made-up environments."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vtd_jax.errors import UserError
from vtd_jax.parallel import clusters
from vtd_jax.parallel.clusters import Hosts, ask_jax, is_address, plan, resolved

STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
# what sbatch and salloc leave in a shell that no srun started
SALLOC = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "node[1-2]"}
INTERACTIVE = {
    **STEP,
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "0",
}
TPU = {"TPU_ML_PLATFORM": "JAX"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
MPI4 = {**MPI, "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        SALLOC,
        {**SALLOC, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        INTERACTIVE,
        {**STEP, "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
        {
            name: value
            for name, value in {**STEP, "SLURM_NTASKS": "1"}.items()
            if name != "SLURM_STEP_NUM_TASKS"
        },
        {**MPI4, "OMPI_COMM_WORLD_SIZE": "1"},
        {**TPU, "TPU_WORKER_HOSTNAMES": "localhost"},
        {**TPU, "TPU_SKIP_MDS_QUERY": "1"},
        {**TPU, "JAX_PLATFORMS": "cpu"},
        {**TPU, **POD, "TPU_WORKER_HOSTNAMES": "one", "JOB_COMPLETION_INDEX": "0"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        POD,
        {"JAX_NUM_PROCESSES": "1"},
        {**BY_HAND, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    ],
)
def test_one_process_alone(environ):
    assert plan(None, None, None, environ) is None


@pytest.mark.parametrize(
    "environ, expected",
    [
        (STEP, Hosts("Slurm")),
        (
            {name: value for name, value in STEP.items() if name != "SLURM_STEP_NUM_TASKS"},
            Hosts("Slurm"),
        ),
        (MPI4, Hosts("Open MPI")),
        (TPU, Hosts("TPU")),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a,b"}, Hosts("TPU")),
        ({**TPU, "TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_SKIP_MDS_QUERY": "1"}, Hosts("TPU")),
        ({**TPU, "TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, Hosts("TPU")),
        ({**TPU, "JAX_PLATFORMS": "tpu,cpu"}, Hosts("TPU")),
        (BY_HAND, Hosts("", "10.0.0.1:1234", 2, 1)),
        # what is given by hand overrides the cluster, but devices are a matter of the Slurm
        # task
        ({**STEP, **BY_HAND}, Hosts("Slurm", "10.0.0.1:1234", 2, 1)),
        ({**MPI, **BY_HAND}, Hosts("", "10.0.0.1:1234", 2, 1)),
        ({**STEP, "JAX_COORDINATOR_ADDRESS": "node1:99"}, Hosts("Slurm", "node1:99")),
        ({**MPI, "JAX_COORDINATOR_ADDRESS": "node1:99"}, Hosts("Open MPI", "node1:99", 4, 2, (1,))),
    ],
)
def test_one_of_several(environ, expected):
    assert plan(None, None, None, environ) == expected


@pytest.mark.parametrize(
    "nodes, gpus, expected",
    [
        ("4", "0,1,2,3,4,5,6,7", tuple(range(8))),
        ("2", "0", (0,)),
        # as many tasks as GPUs on a node: JAX takes the one of SLURM_LOCALID
        ("2", "0,1", None),
        ("4", "", None),
    ],
)
def test_the_gpus_of_a_slurm_task(nodes, gpus, expected):
    environ = {**STEP, "SLURM_STEP_NUM_NODES": nodes, "CUDA_VISIBLE_DEVICES": gpus}
    assert plan(None, None, None, environ) == Hosts("Slurm", local_device_ids=expected)


def test_kubernetes_needs_its_package(monkeypatch):
    environ = {**POD, "JOB_COMPLETION_INDEX": "1"}
    monkeypatch.setattr(clusters, "find_spec", lambda name: object())
    assert plan(None, None, None, environ) == Hosts("Kubernetes")
    monkeypatch.setattr(clusters, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jax\[k8s\]'; or give `coordinator_address`"):
        plan(None, None, None, environ)
    assert plan(None, None, None, {**environ, **BY_HAND}) == Hosts("", "10.0.0.1:1234", 2, 1)
    assert plan(None, 1, None, environ) is None


def test_arguments_come_before_variables():
    assert plan("h:1", 3, 2, BY_HAND) == Hosts("", "h:1", 3, 2)
    assert plan("[::1]:80", 3, 0, {}) == Hosts("", "[::1]:80", 3, 0)
    assert plan(None, 1, None, STEP) is None


@pytest.mark.parametrize(
    "arguments, environ, message",
    [
        (
            ("h:1", None, None),
            {},
            "`coordinator_address` given, `num_processes`, `process_id` missing: outside Slurm",
        ),
        ((None, 2, 0), {}, "`num_processes`, `process_id` given, `coordinator_address` missing"),
        (("h:1", None, 0), SALLOC, "`num_processes` missing"),
        (
            (None, None, None),
            {"JAX_PROCESS_ID": "1"},
            "`process_id` given, `coordinator_address`, `num_proc",
        ),
        (
            (None, None, None),
            {**BY_HAND, "JAX_NUM_PROCESSES": "two"},
            "JAX_NUM_PROCESSES=two: expected a whole number",
        ),
        (("h:1", 2, 2), {}, "`process_id=2`: expected 0 to 1"),
        (("h:1", 2, -1), {}, "`process_id=-1`: expected 0 to 1"),
        (("h:1", 0, 0), {}, "`num_processes=0`: expected 1 or more"),
        (("h", 2, 0), {}, "`coordinator_address=h`: expected host:port"),
        (("h:http", 2, 0), {}, "`coordinator_address=h:http`: expected host:port"),
        (("h:70000", 2, 0), {}, "expected host:port"),
        (
            (None, None, None),
            MPI,
            "mpirun started 4 processes, but this Open MPI does not say where process 0 is",
        ),
        (
            (None, None, None),
            {**STEP, "SLURM_STEP_NUM_TASKS": "x"},
            "SLURM_STEP_NUM_TASKS=x: expected a whole number",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_reported(arguments, environ, message):
    with pytest.raises(UserError) as caught:
        plan(*arguments, environ)
    assert message in str(caught.value)


def test_what_jax_finds_out_is_known_before_it_connects(monkeypatch):
    expected_text = Hosts("", "10.0.0.1:1234", 2, 1)
    assert resolved(expected_text, 1) == expected_text
    assert resolved(Hosts("Slurm", "10.0.0.1:1234", 2, 1, (0, 1)), 1) == Hosts(
        "", "10.0.0.1:1234", 2, 1, (0, 1)
    )
    for name, value in (STEP | {"SLURM_JOB_ID": "7", "SLURM_LOCALID": "1"}).items():
        monkeypatch.setenv(name, value)
    found = resolved(Hosts("Slurm"), 1)
    assert found.cluster == ""
    assert is_address(found.coordinator_address)
    assert (found.num_processes, found.process_id) == (
        int(STEP["SLURM_NTASKS"]),
        int(STEP["SLURM_PROCID"]),
    )
    assert found.local_device_ids == (1,)
    # JAX connects by itself, and says what is wrong
    monkeypatch.setenv("SLURM_JOB_ID", "x")
    assert resolved(Hosts("Slurm"), 1) is None


# what JAX lacks, as long as it does: where one of these fails, the piece of `clusters` can go
# --------------------------------------------------------------------------------------------------


def _asked(monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return ask_jax(Hosts(""), 1)


def test_jax_waits_for_the_tasks_of_an_allocation_that_no_step_started(monkeypatch):
    assert plan(None, None, None, INTERACTIVE) is None
    assert _asked(monkeypatch, INTERACTIVE).num_processes == 4


def test_jax_does_not_know_open_mpi_5(monkeypatch):
    address = {"JAX_COORDINATOR_ADDRESS": "node1:99"}
    assert plan(None, None, None, MPI | address).num_processes == 4
    # JAX 0.12 raises: it needs mpi4py
    with contextlib.suppress(RuntimeError):
        assert _asked(monkeypatch, MPI | address) is None


def test_jax_takes_one_gpu_a_slurm_task(monkeypatch):
    environ = {**STEP, "SLURM_STEP_NUM_NODES": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    assert plan(None, None, None, environ).local_device_ids == tuple(range(8))
    assert _asked(monkeypatch, environ).local_device_ids == (1,)


# in a process of its own: where JAX has begun to compute, it refuses for that
BARE = """
import os, jax
for variables in ({}, %r):
    os.environ |= variables
    try:
        jax.distributed.initialize()
    except ValueError as error:
        print(error)
"""


def test_jax_neither_runs_alone_nor_reads_all_three_variables():
    assert plan(None, None, None, {}) is None
    assert plan(None, None, None, BY_HAND) == Hosts("", "10.0.0.1:1234", 2, 1)
    call = [sys.executable, "-c", BARE % BY_HAND]
    alone, expected_text = subprocess.run(call, capture_output=True, text=True).stdout.splitlines()
    assert "coordinator_address" in alone
    assert "Number of processes" in expected_text


def test_one_place_imports_what_jax_does_not_promise():
    root = Path(__file__).parents[2]
    files = (path for name in ("vtd_jax", "experiments") for path in (root / name).rglob("*.py"))
    private = re.compile(r"^\s*(from|import) (jax|orbax|flax)\S*\._src", re.M)
    assert [path.name for path in files if private.search(path.read_text())] == ["clusters.py"]
