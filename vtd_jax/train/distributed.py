"""Several processes as one run: how they start, what they tell each other, how they fail together.

Everything here works in a single process too, where it does nothing but call what it was given. What is said with
several processes must be called by all of them, in the same order.
"""

import os
import pickle
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Shaped

from vtd_jax.errors import UserError
from vtd_jax.train import hosts
from vtd_jax.train.hosts import Hosts

TIMEOUT = 300


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    timeout: float = TIMEOUT,
    catch_sigterm: bool = True,
) -> None:
    """Joins the other processes of the run, if there are any; call it before anything touches a device.

    Who the others are is told by the arguments, by `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, or by the cluster (`vtd_jax.train.hosts.plan`). A second call does nothing.

    Args:
      coordinator_address: `host:port` of process 0, on which it will listen.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      environ: where to look for variables.
      timeout: seconds to wait for the others.
      catch_sigterm: whether, with several processes, SIGTERM only makes `multihost_utils.reached_preemption_sync_point`
        true, at the same step on all; otherwise it ends a process as ever.

    Raises:
      UserError: an argument is missing or wrong, or the others did not come in time.
    """
    if jax.distributed.is_initialized():
        return
    planned = hosts.plan(coordinator_address, num_processes, process_id, environ)
    if planned is not None:
        jax.config.update("jax_enable_preemption_service", catch_sigterm)
        _connect(planned, timeout)


def meet(mesh: Mesh | None = None) -> None:
    """A sum over all devices, and over each axis of a mesh: connections are made now, while all processes are here.

    Call it soon after `initialize`, and for every mesh of other axes.
    Gloo gives up where a process comes 30 s late to the first collective over some set of devices; to later ones it may
    come as late as it likes.
    """
    if process_count() == 1:
        return
    multihost_utils.sync_global_devices("meet")
    mesh = mesh or Mesh(np.array(jax.devices()), ("all",))
    groups = [mesh.axis_names, *((name,) for name in mesh.axis_names if len(mesh.axis_names) > 1)]
    same = PartitionSpec()

    def sums(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    mapped = jax.shard_map(sums, mesh=mesh, in_specs=same, out_specs=same, check_vma=False)
    jax.block_until_ready(jax.jit(mapped)(np.float32(1)))


def _connect(planned: Hosts, timeout: float) -> None:
    """Waits in a thread: XLA would abort the whole process at its own deadline, and not hear Ctrl-C until then."""
    if planned.process_id == 0 and planned.coordinator_address is not None:
        _check_port(planned.coordinator_address)
    failures: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                planned.coordinator_address,
                planned.num_processes,
                planned.process_id,
                planned.local_device_ids,
                # told by hand in full: nothing to detect, and no metadata server to wait for
                cluster_detection_method=None if planned.cluster else "deactivate",
                # later than ours: at this deadline XLA ends the process with a stack trace
                initialization_timeout=round(timeout) + 60,
            )
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=connect, name="jax.distributed.initialize", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise UserError(_too_late(planned, timeout))
    if not failures:
        return
    if planned.cluster == "TPU" and not jax.distributed.is_initialized():
        # no metadata server (a notebook with a TPU): libtpu knows its hosts by itself
        return
    raise UserError(
        f"{planned.cluster or planned.coordinator_address}: the processes could not be joined: {failures[0]}; "
        "--num_processes=1 for a process that runs alone"
    ) from failures[0]


def _check_port(address: str) -> None:
    """Two services can share a port, and each would wait for ever for processes that went to the other."""
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"--coordinator_address={address}: process 0 cannot listen on port {port} ({error.strerror}); "
                "give another port, the same for all processes"
            ) from None


def _too_late(planned: Hosts, timeout: float) -> str:
    count = f"all {planned.num_processes}" if planned.num_processes else "all"
    address = planned.coordinator_address
    if address is None:
        return f"{planned.cluster}: not {count} processes came within {timeout:g} s; do all of them run this command?"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        why = f"cannot be reached ({error.strerror or error}); is process 0 running there, is the port open?"
    else:
        why = f"not {count} processes came; does each run this command, with a --process_id of its own?"
    return f"--coordinator_address={address}: {why} Waited {timeout:g} s"


def process_count() -> int:
    """How many processes the run has."""
    return jax.process_count()


def process_index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is process 0, the one that prints and writes."""
    return jax.process_index() == 0


def on_first(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on process 0 only and gives its result to all.

    Args:
      function: its result must be small, and something `pickle` can take.
      *args: what it is called with.

    Raises:
      UserError: it raised one, told by process 0 and raised by all.
      RuntimeError: it raised another exception, which process 0 raises itself.
    """
    if process_count() == 1:
        return function(*args)
    told, failure = None, None
    if is_first():
        try:
            told = pickle.dumps((function(*args), None))
        except Exception as error:
            failure, told = error, pickle.dumps((None, _description(error)))
    result, description = pickle.loads(_broadcast(told, 0))
    if description is not None:
        raise _everywhere(failure, description, 0)
    return result


def together(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on every process and returns when all are done; if one raises, all raise.

    The processes that failed raise their own exception, the others one with the message of the first that failed:
    UserError for a UserError, else RuntimeError.
    """
    if process_count() == 1:
        return function(*args)
    result, failure = None, None
    try:
        result = function(*args)
    except Exception as error:
        failure = error
    failed = multihost_utils.process_allgather(np.uint8(failure is not None))
    if not failed.any():
        return result
    first = int(np.argmax(failed))
    told = pickle.dumps(_description(failure)) if process_index() == first else None
    raise _everywhere(failure, pickle.loads(_broadcast(told, first)), first)


def alike(error: Exception) -> Exception:
    """Marks an error that all processes raise by themselves, from what all of them know; process 0 tells it."""
    error._raised_by = 0
    return error


def check_same(**values: str) -> None:
    """Refuses to go on where a value is not the same on all processes; all must give the same names.

    Raises:
      UserError: naming what differs and the first process where it does.
    """
    if process_count() == 1:
        return
    digests = [zlib.crc32(value.encode()) for value in values.values()]
    everywhere = multihost_utils.process_allgather(np.array(digests, np.uint32))
    for place, found in enumerate(everywhere):
        wrong = [name for name, first, there in zip(values, everywhere[0], found) if first != there]
        if wrong:
            raise alike(
                UserError(
                    f"process {place}: its {' and '.join(wrong)} differ from those of process 0; "
                    "give all processes the same command, and the same files under its paths"
                )
            )


class Nobody:
    """Stands for what only the first process has: any method may be called, and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def raised_everywhere(error: BaseException) -> bool:
    """Whether all processes raise this now, so that each may leave in the ordinary way."""
    return getattr(error, "_raised_by", None) is not None


def told_elsewhere(error: BaseException) -> bool:
    """Whether another process tells the user of this error."""
    return getattr(error, "_raised_by", None) not in (None, process_index())


def broadcast_arrays(
    tree: Mapping[str, Shaped[np.ndarray, "..."]] | None,
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Arrays of process 0, of any dtype and shape, given to all bit for bit.

    Args:
      tree: the arrays by name, a few MB; None on the other processes, which need not know what comes.
    """
    if process_count() == 1:
        return dict(tree)
    data = pickle.dumps({name: np.asarray(x) for name, x in tree.items()}, protocol=5) if is_first() else None
    return pickle.loads(_broadcast(data, 0))


def gather_rows(rows: Shaped[np.ndarray, "rows ..."]) -> Shaped[np.ndarray, "all ..."]:
    """The rows of all processes, one process after the other; each may have another number of them, or none.

    Raises:
      ValueError: the processes' rows differ in dtype or shape.
    """
    if process_count() == 1:
        return rows
    shape, dtype = rows.shape[1:], rows.dtype
    kind = zlib.crc32(f"{dtype} {shape}".encode())
    counts, kinds = multihost_utils.process_allgather(np.array([len(rows), kind], np.uint32)).T
    if len(set(kinds.tolist())) > 1:
        raise ValueError(f"rows of {dtype} {shape} here, of another dtype or shape on another process")
    width = int(np.prod(shape)) * dtype.itemsize
    # as bytes: JAX would make 32 bits of 64, and has no dtype for some
    padded = np.zeros((int(counts.max()), width), np.uint8)
    padded[: len(rows)] = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), width)
    gathered = (
        multihost_utils.process_allgather(padded) if padded.size else np.zeros((len(counts), *padded.shape), "u1")
    )
    data = b"".join(part[:count].tobytes() for part, count in zip(gathered, counts))
    return np.frombuffer(data, dtype).reshape(int(counts.sum()), *shape).copy()


def quiet_unless_first() -> None:
    """From here on only process 0 writes to stdout; errors go to stderr on every process.

    What libraries written in C++ print to stdout (Gloo: a line for each device) is dropped on process 0 as well.
    """
    if process_count() == 1:
        return
    sys.stdout.flush()
    if is_first():
        kept = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "buffering": 1}
        sys.stdout = os.fdopen(os.dup(1), "w", closefd=False, **kept)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _description(error: Exception) -> tuple[bool, str]:
    """Whether it is the user's to mend, and what it says."""
    mendable = isinstance(error, UserError)
    return mendable, str(error) if mendable else f"{type(error).__name__}: {error}"


def _everywhere(failure: Exception | None, description: tuple[bool, str], first: int) -> Exception:
    """What failed here, or else what failed in process `first`, marked as raised by all."""
    mendable, message = description
    if failure is None:
        failure = UserError(message) if mendable else RuntimeError(f"process {first}: {message}")
    failure._raised_by = first
    return failure


def _broadcast(data: bytes | None, source: int) -> bytes:
    """Bytes of process `source`, given to all; the others pass None."""
    here = process_index() == source
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(data) if here else 0), is_source=here))
    # lengths of powers of two: few programs to compile
    padded = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    if here:
        padded[:size] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded, is_source=here))[:size].tobytes()
