"""How many processes a run has and how they find each other, from arguments or the environment.

`jax.distributed.initialize()` detects Slurm, Open MPI, TPU slices and Kubernetes (`ask_jax`). This
file adds only what JAX does not do, as `test_clusters` shows:

- A process that runs alone. JAX raises where it finds no cluster, and in a shell of a Slurm
  allocation it waits for tasks that were never started.
- `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`: of the three variables JAX reads the address only.
- Open MPI 5, whose `mpirun` no longer sets the variable by which JAX detects it.
- A Slurm task with several GPUs: JAX uses one per task and leaves the others idle.
- The CPU on a TPU's host, where JAX contacts the metadata server anyway.
- A pod of no indexed job, where JAX raises.
- One line on what is missing or wrong, before any process waits for another.

TPU hosts and pods cannot be tested here; what JAX does there is read from its source.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from vtd_jax.errors import UserError, setting

FLAGS = ("coordinator_address", "num_processes", "process_id")
# the variables by which JAX detects a Slurm step; salloc and sbatch set only some of them
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Hosts(NamedTuple):
    """The arguments of `jax.distributed.initialize`; JAX finds those that are None.

    `cluster` is "Slurm", "Open MPI", "TPU" or "Kubernetes", or "" if all arguments were given.
    """

    cluster: str
    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None


def plan(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    environ: Mapping[str, str],
) -> Hosts | None:
    """How this process joins the others; None for a process that runs alone.

    Arguments take precedence over `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, and these over the cluster. A shell inside a Slurm allocation, a single task
    and a single TPU host of GKE run alone.

    Raises:
      UserError: an argument is missing and no cluster supplies it, or it is no address or number.
    """
    address = coordinator_address or environ.get("JAX_COORDINATOR_ADDRESS") or None
    count = _number(num_processes, "num_processes", environ)
    rank = _number(process_id, "process_id", environ)
    if count == 1 and not rank:
        return None
    found = _cluster(environ, address is not None)
    if found is None and (address, count, rank) == (None, None, None):
        return None
    hosts = _filled(found or Hosts(""), address, count, rank)
    _check(hosts)
    return None if hosts.num_processes == 1 else hosts


def resolved(planned: Hosts, timeout: float) -> Hosts | None:
    """A plan with all arguments, from the cluster; None where JAX cannot find them in advance.

    Args:
      planned: by `plan`.
      timeout: seconds for JAX to query the cluster.
    """
    known = planned[1:4]
    if None not in known and (not planned.cluster or planned.local_device_ids is not None):
        return planned._replace(cluster="")
    try:
        return ask_jax(planned, timeout)
    except Exception:
        # another version of JAX, or no answer: `initialize` tries again and reports the error
        return None


def ask_jax(known: Hosts, timeout: float) -> Hosts | None:
    """What JAX's own detection finds in the environment; None where it finds no cluster.

    This is the only import from `jax._src`: the public `initialize` connects at once, and the roll
    call needs the address before that.

    Args:
      known: the arguments that are not None stay.
      timeout: seconds for JAX to query the cluster.

    Raises:
      Exception: any that JAX raises; this is no public interface.
    """
    from jax._src.clusters import ClusterEnv

    address, count, rank, devices = ClusterEnv.auto_detect_unset_distributed_params(
        *known[1:], None, round(timeout)
    )
    if not address or count is None or rank is None:
        return None
    return Hosts("", address, int(count), int(rank), None if devices is None else tuple(devices))


def _filled(found: Hosts, address: str | None, count: int | None, rank: int | None) -> Hosts:
    """The given arguments, and for the others what the cluster supplies."""
    given = {"coordinator_address": address, "num_processes": count, "process_id": rank}
    given = {name: value for name, value in given.items() if value is not None}
    if not found.cluster and len(given) < len(FLAGS):
        missing = ", ".join(setting(name) for name in FLAGS if name not in given)
        raise UserError(
            f"{', '.join(map(setting, given))} given, {missing} missing: outside Slurm, Open MPI, "
            "TPU slices and Kubernetes jobs each process needs all three (or "
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID); none for a single process"
        )
    if len(given) == len(FLAGS):
        # the cluster only decides which devices a task takes
        return found._replace(**given) if found.cluster == "Slurm" else Hosts("", **given)
    return found._replace(**given)


def _check(hosts: Hosts) -> None:
    address, count, rank = hosts.coordinator_address, hosts.num_processes, hosts.process_id
    if count is not None and count < 1:
        raise UserError(f"{setting('num_processes', count)}: expected 1 or more")
    if rank is not None and (rank < 0 or (count is not None and rank >= count)):
        raise UserError(
            f"{setting('process_id', rank)}: expected 0 to "
            f"{count - 1 if count else 'the number of processes - 1'}"
        )
    if address is not None and not is_address(address):
        raise UserError(
            f"{setting('coordinator_address', address)}: expected host:port of process 0, the same "
            "for all processes, e.g. 10.0.0.1:1234"
        )


def is_address(text: str) -> bool:
    """Whether a text is `host:port`."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _number(value: int | None, name: str, environ: Mapping[str, str]) -> int | None:
    """An argument, or else its environment variable."""
    variable = f"JAX_{name.upper()}"
    if value is not None or not environ.get(variable):
        return value
    return _integer(environ, variable)


def _integer(environ: Mapping[str, str], variable: str) -> int:
    text = environ[variable]
    if not text.isdecimal():
        raise UserError(f"{variable}={text}: expected a whole number, 0 or more")
    return int(text)


def _cluster(environ: Mapping[str, str], addressed: bool) -> Hosts | None:
    """The cluster in which this is one of several processes, detected in JAX's order."""
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return _open_mpi(environ, addressed)
    if all(variable in environ for variable in SLURM):
        return _slurm(environ)
    # JAX sets the first one where it finds TPU chips and libtpu, and would contact the metadata
    # server even if the second one excludes the TPU
    platforms = environ.get("JAX_PLATFORMS") or "tpu"
    if "TPU_ML_PLATFORM" in environ and "tpu" in platforms.split(","):
        return _tpu(environ)
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return _kubernetes(addressed)
    return None


def _open_mpi(environ: Mapping[str, str], addressed: bool) -> Hosts | None:
    count = _integer(environ, "OMPI_COMM_WORLD_SIZE")
    if count == 1:
        return None
    # JAX finds process 0 by this variable, which mpirun sets up to version 4
    if "OMPI_MCA_orte_hnp_uri" not in environ and not addressed:
        raise UserError(
            f"mpirun started {count} processes, but this Open MPI does not say where process 0 is: "
            f"add {setting('coordinator_address', 'HOST:PORT')}, the host of rank 0 and a free "
            "port of it"
        )
    if "OMPI_MCA_orte_hnp_uri" in environ:
        return Hosts("Open MPI")
    # one device per process, as JAX does it for older versions
    local = (_integer(environ, "OMPI_COMM_WORLD_LOCAL_RANK"),)
    return Hosts("Open MPI", None, count, _integer(environ, "OMPI_COMM_WORLD_RANK"), local)


def _slurm(environ: Mapping[str, str]) -> Hosts | None:
    """None in the shell that salloc opens, whose step has one task of the allocation's many."""
    step = "SLURM_STEP_NUM_TASKS"
    tasks = _integer(environ, step if step in environ else "SLURM_NTASKS")
    return Hosts("Slurm", local_device_ids=_slurm_devices(environ, tasks)) if tasks > 1 else None


def _slurm_devices(environ: Mapping[str, str], tasks: int) -> tuple[int, ...] | None:
    """The GPUs of this task; None where JAX's choice is right, the one of its SLURM_LOCALID.

    In a task with a node to itself JAX would leave 7 of 8 idle. Where a task sees a single GPU, its
    number 0, JAX would look for number SLURM_LOCALID.
    """
    visible = len([name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    alone_on_node = environ.get("SLURM_STEP_NUM_NODES") == str(tasks)
    return tuple(range(visible)) if visible and (alone_on_node or visible == 1) else None


def _tpu(environ: Mapping[str, str]) -> Hosts | None:
    """On GKE the environment names the hosts, on a TPU VM the metadata server, which JAX contacts.

    None for a single host of GKE, where JAX would wait for the host's name to be resolved.
    """
    names = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    slices = environ.get("MEGASCALE_NUM_SLICES") or "1"
    if names is not None:
        return Hosts("TPU") if "," in names or slices != "1" else None
    return None if "TPU_SKIP_MDS_QUERY" in environ else Hosts("TPU")


def _kubernetes(addressed: bool) -> Hosts:
    if find_spec("kubernetes") is None and not addressed:
        raise UserError(
            "this is a pod of an indexed Kubernetes job, and JAX needs the package kubernetes to "
            "find the others: pip install 'jax[k8s]'; or give "
            f"{setting('coordinator_address')}, {setting('num_processes')} and "
            f"{setting('process_id')}; {setting('num_processes', 1)} for a pod that runs alone"
        )
    return Hosts("Kubernetes" if find_spec("kubernetes") else "")
