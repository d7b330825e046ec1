"""How processes become one run: finding each other, connecting, and leaving the printing to the first.

With a single process everything here does nothing.
"""

import os
import socket
import sys
import threading
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from vtd_jax import status
from vtd_jax.errors import UserError
from vtd_jax.train import hosts
from vtd_jax.train.distributed import is_first, process_count
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


def quiet_unless_first() -> None:
    """From here on only process 0 writes to stdout; errors go to stderr on every process.

    What libraries written in C++ print to stdout (Gloo: a line for each device) is dropped on process 0 as well.
    """
    if process_count() == 1:
        return
    sys.stdout.flush()
    if not is_first():
        status.silence()
    if is_first():
        kept = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "buffering": 1}
        sys.stdout = os.fdopen(os.dup(1), "w", closefd=False, **kept)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
