"""How many processes a run has and how they find each other, told by arguments or the environment."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from vtd_jax.errors import UserError

FLAGS = ("coordinator_address", "num_processes", "process_id")
# what `jax.distributed.initialize` finds a Slurm step by
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Hosts(NamedTuple):
    """The arguments of `jax.distributed.initialize`; what is None is found out by JAX from the
    cluster.

    `cluster` names what was recognised: "" (told by hand), "Slurm", "Open MPI", "TPU" or
    "Kubernetes".
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

    Arguments come first, then `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`,
    then what the cluster tells. A shell inside a Slurm allocation, one task, one TPU host of GKE:
    all of these run alone.

    Raises:
      UserError: an argument is missing and no cluster tells it, or is no valid address or number.
    """
    address = coordinator_address or environ.get("JAX_COORDINATOR_ADDRESS") or None
    count = _number(num_processes, "num_processes", environ)
    place = _number(process_id, "process_id", environ)
    if count == 1 and not place:
        return None
    found = _cluster(environ, address is not None)
    if found is None and (address, count, place) == (None, None, None):
        return None
    hosts = _filled(found or Hosts(""), address, count, place)
    _check(hosts)
    return None if hosts.num_processes == 1 else hosts


def resolved(planned: Hosts, timeout: float) -> Hosts | None:
    """A plan with all that JAX finds out from the cluster; None where it cannot, and connects in
    its own way.

    Args:
      planned: by `plan`.
      timeout: seconds for JAX to ask.
    """
    told = (planned.coordinator_address, planned.num_processes, planned.process_id)
    if None not in told and (not planned.cluster or planned.local_device_ids is not None):
        return planned._replace(cluster="")
    try:
        from jax._src.clusters import ClusterEnv

        found = ClusterEnv.auto_detect_unset_distributed_params(
            *told, planned.local_device_ids, None, round(timeout)
        )
        address, count, place, devices = found
        devices = None if devices is None else tuple(devices)
        return Hosts("", address, int(count), int(place), devices) if address else None
    except Exception:
        # not there in this JAX, or no answer: JAX is asked once more, and its error told
        return None


def _filled(found: Hosts, address: str | None, count: int | None, place: int | None) -> Hosts:
    """What was told by hand over what the cluster tells."""
    told = {"coordinator_address": address, "num_processes": count, "process_id": place}
    told = {name: value for name, value in told.items() if value is not None}
    if not found.cluster and len(told) < len(FLAGS):
        missing = ", ".join(f"--{name}" for name in FLAGS if name not in told)
        raise UserError(
            f"--{', --'.join(told)} given, {missing} missing: outside Slurm, Open MPI, TPU slices "
            "and Kubernetes jobs each process needs all three (or JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES, JAX_PROCESS_ID); none for a single process"
        )
    if len(told) == len(FLAGS):
        # nothing is left to the cluster but which devices a task takes
        return found._replace(**told) if found.cluster == "Slurm" else Hosts("", **told)
    return found._replace(**told)


def _check(hosts: Hosts) -> None:
    address, count, place = hosts.coordinator_address, hosts.num_processes, hosts.process_id
    if count is not None and count < 1:
        raise UserError(f"--num_processes={count}: expected 1 or more")
    if place is not None and (place < 0 or (count is not None and place >= count)):
        raise UserError(
            f"--process_id={place}: expected 0 to "
            f"{count - 1 if count else 'the number of processes - 1'}"
        )
    if address is not None and not is_address(address):
        raise UserError(
            f"--coordinator_address={address}: expected host:port of process 0, the same for all "
            "processes, e.g. 10.0.0.1:1234"
        )


def is_address(text: str) -> bool:
    """Whether it is `host:port`."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 65536


def _number(value: int | None, name: str, environ: Mapping[str, str]) -> int | None:
    """An argument, or else its variable; raises UserError for a variable that is no whole number."""
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
    """The cluster of which this process is one of several, in the order in which JAX looks for
    them.
    """
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return _open_mpi(environ, addressed)
    if all(variable in environ for variable in SLURM):
        return _slurm(environ)
    # JAX sets this one where it finds TPU chips and libtpu
    if "TPU_ML_PLATFORM" in environ and _wants_tpu(environ):
        return _tpu(environ)
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        return _kubernetes(addressed)
    return None


def _open_mpi(environ: Mapping[str, str], addressed: bool) -> Hosts | None:
    count = _integer(environ, "OMPI_COMM_WORLD_SIZE")
    if count == 1:
        return None
    # from version 5 on mpirun does not tell its own address, by which JAX finds process 0
    if "OMPI_MCA_orte_hnp_uri" not in environ and not addressed:
        raise UserError(
            f"mpirun started {count} processes, but this Open MPI does not say where process 0 is: "
            "add --coordinator_address=HOST:PORT, the host of rank 0 and a free port of it"
        )
    if "OMPI_MCA_orte_hnp_uri" in environ:
        return Hosts("Open MPI")
    # one device a process, as JAX does it for the versions that it knows
    local = (_integer(environ, "OMPI_COMM_WORLD_LOCAL_RANK"),)
    return Hosts("Open MPI", None, count, _integer(environ, "OMPI_COMM_WORLD_RANK"), local)


def _slurm(environ: Mapping[str, str]) -> Hosts | None:
    """None in the shell that salloc opens: the allocation has several tasks, but its step has one."""
    tasks = _integer(
        environ, "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    )
    return Hosts("Slurm", local_device_ids=_slurm_devices(environ, tasks)) if tasks > 1 else None


def _slurm_devices(environ: Mapping[str, str], tasks: int) -> tuple[int, ...] | None:
    """GPUs of this task, where JAX would choose badly; None: JAX takes one a task, the one of its
    SLURM_LOCALID.
    """
    visible = len([name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    alone_on_node = environ.get("SLURM_STEP_NUM_NODES") == str(tasks)
    return tuple(range(visible)) if visible and (alone_on_node or visible == 1) else None


def _wants_tpu(environ: Mapping[str, str]) -> bool:
    platforms = environ.get("JAX_PLATFORMS", "")
    return not platforms or "tpu" in platforms.split(",")


def _tpu(environ: Mapping[str, str]) -> Hosts | None:
    """On GKE the environment tells the hosts; on a TPU VM the metadata server does, and JAX asks
    it.
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
            "find the others: pip install 'jax[k8s]'; or give --coordinator_address, "
            "--num_processes and --process_id; --num_processes=1 for a pod that runs alone"
        )
    return Hosts("Kubernetes" if find_spec("kubernetes") else "")
