"""How the processes of a run join. In a single process nothing here has any effect."""

import atexit
import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

import vtd_jax
from vtd_jax.console import status
from vtd_jax.errors import UserError, setting
from vtd_jax.parallel import clusters
from vtd_jax.parallel.answering import answer
from vtd_jax.parallel.clusters import Hosts
from vtd_jax.parallel.processes import is_first, mark_common, process_count
from vtd_jax.parallel.rollcall import RollCall
from vtd_jax.parallel.watch import Watch
from vtd_jax.parallel.wires import Hello, Reply, Wire, myself, new_mark
from vtd_jax.printable import listed
from vtd_jax.terminal import counted, log

# seconds to wait for the others at the start, and without a heartbeat before one counts as gone
TIMEOUT, HEARTBEAT = 300, 30
# JAX's own heartbeat is this many seconds longer: it ends a process with a stack trace, status 134
_LATER = 70

_joined: Watch | None = None
_called = False


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    timeout: float = TIMEOUT,
    heartbeat: float = HEARTBEAT,
    flags: Mapping[str, str] | None = None,
    catch_sigterm: bool = True,
) -> None:
    """Joins the other processes of the run, if any. Call it before anything touches a device.

    `vtd_jax.parallel.clusters.plan` finds the others, from the arguments, variables or the cluster.
    A second call does nothing.

    Afterwards, when a process ends, every other one prints one line and exits with
    `watch.LOST_STATUS`: at once if that process died, after `heartbeat` seconds if it is silent.

    Args:
      coordinator_address: `host:port` on which process 0 will listen.
      num_processes: how many processes there are.
      process_id: the rank of this one, from 0.
      environ: the environment variables.
      timeout: seconds to wait for the others.
      heartbeat: seconds after which a silent process counts as gone; 0 leaves this to JAX, which
        waits for 100 s and ends with a stack trace.
      flags: flags and settings by name, which must be the same on all processes.
      catch_sigterm: whether, with several processes, SIGTERM makes
        `multihost_utils.reached_preemption_sync_point` true at the same step on all, instead of
        ending a process.

    Raises:
      UserError: an argument is missing or wrong, or the others did not come in time or do not fit.
      Lost: another process joined and ended.
    """
    global _joined
    if jax.distributed.is_initialized():
        return
    planned = clusters.plan(coordinator_address, num_processes, process_id, environ)
    if planned is None:
        return
    jax.config.update("jax_enable_preemption_service", catch_sigterm)
    deadline = time.monotonic() + timeout
    resolved = clusters.resolved(planned, timeout) if heartbeat > 0 else None
    if resolved is None or resolved.num_processes == 1:
        # 100 s is JAX's own default
        _connect(planned, timeout, 100)
        return
    own = Hello(
        versions=_versions(),
        rank=resolved.process_id,
        count=resolved.num_processes,
        who=myself(),
        flags=dict(flags or {}),
        mark=new_mark(),
    )
    wires, names = _call_roll(resolved, own, timeout, heartbeat)
    address = resolved.coordinator_address
    _joined = Watch(
        wires, names, resolved.process_id, address=address, heartbeat=heartbeat, patience=timeout
    )
    atexit.register(_joined.bye)
    _connect(
        resolved._replace(coordinator_address=_joined.address),
        max(deadline - time.monotonic(), heartbeat),
        heartbeat + _LATER,
    )


def joined() -> Watch | None:
    """The watch over the other processes; None in a single process, or if only JAX watches."""
    return _joined


def was_called() -> bool:
    """Whether this process has begun to join, so that `announce` is not needed."""
    return _called


def announce(address: str, rank: int, count: int, why: str, patience: float) -> None:
    """Reports to the other processes that this one cannot join, so that they do not wait for it.

    Args:
      address, rank, count: the arguments with which it would have joined.
      why: the reason, in one line.
      patience: seconds to wait for the others.
    """
    own = Hello(_versions(), rank, count, myself(), {}, failed=why)
    with contextlib.suppress(UserError, TimeoutError, OSError):
        if rank == 0:
            with contextlib.suppress(UserError):
                verdict = Reply("failed", f"process 0 ({own.who}): {why}")
                RollCall(address, own).linger(patience, verdict)
                return
        # also where the port is in use: perhaps by another process 0
        answer(address, own, time.monotonic() + patience, patience)


def _versions() -> str:
    return f"vtd_jax {vtd_jax.__version__} and JAX {jax.__version__}"


def _call_roll(
    resolved: Hosts, own: Hello, timeout: float, patience: float
) -> tuple[dict[int, Wire], dict[int, str]]:
    """Waits until all have joined; returns the connections and who the others are, by rank."""
    global _called
    address, deadline = resolved.coordinator_address, time.monotonic() + timeout
    if own.rank == 0:
        call = RollCall(address, own)
        _called = True
        if (wires := call.all_here(deadline, patience, address)) is None:
            raise UserError(
                f"{setting('coordinator_address', address)}: not all {own.count} processes came "
                f"({listed(call.missing())} missing); does each run this command, with its own "
                f"{setting('process_id')}? Waited {timeout:g} s"
            )
        return wires, call.names
    _called = True
    try:
        wire, who = answer(address, own, deadline, patience, log)
    except TimeoutError as why:
        raise UserError(
            f"{setting('coordinator_address', address)}: {why}; is process 0 running there, is the "
            f"port open? Waited {timeout:g} s"
        ) from None
    return {0: wire}, {0: who, own.rank: own.who}


def meet(mesh: Mesh | None = None) -> None:
    """Runs a sum over all devices and over each axis of a mesh, to open the connections now.

    Call it soon after `initialize`, and for every mesh with other axes. Gloo fails if a process is
    30 s late for the first collective over a set of devices; later ones have no such limit.

    Raises:
      UserError: the processes have different numbers of devices.
    """
    if process_count() == 1:
        return
    counts = Counter(device.process_index for device in jax.devices())
    for rank in range(process_count()):
        if counts[rank] != counts[0]:
            raise mark_common(
                UserError(
                    f"process {rank} has {counted(counts[rank], 'device')}, process 0 has "
                    f"{counts[0]}; give all processes the same number"
                )
            )
    multihost_utils.sync_global_devices("meet")
    mesh = mesh or Mesh(np.array(jax.devices()), ("all",))
    groups = [mesh.axis_names, *((name,) for name in mesh.axis_names if len(mesh.axis_names) > 1)]
    same = PartitionSpec()

    def sums(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    mapped = jax.shard_map(sums, mesh=mesh, in_specs=same, out_specs=same, check_vma=False)
    jax.block_until_ready(jax.jit(mapped)(np.float32(1)))


def _connect(planned: Hosts, timeout: float, heartbeat: float) -> None:
    """Calls `jax.distributed.initialize` in a thread: XLA would ignore Ctrl-C, and abort the whole
    process at its own deadline.
    """
    failures: list[Exception] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                planned.coordinator_address,
                planned.num_processes,
                planned.process_id,
                planned.local_device_ids,
                # given in full: nothing to detect, and no metadata server to wait for
                cluster_detection_method=None if planned.cluster else "deactivate",
                # later than ours: at its deadline XLA ends the process with a stack trace
                initialization_timeout=round(timeout) + 60,
                heartbeat_timeout_seconds=round(heartbeat),
            )
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=connect, name="jax.distributed.initialize", daemon=True)
    thread.start()
    thread.join(timeout)
    where = planned.cluster or planned.coordinator_address
    if thread.is_alive():
        raise UserError(
            f"{where}: the processes could not be joined within {timeout:g} s; do all run this "
            "command?"
        )
    if not failures:
        return
    if planned.cluster == "TPU" and not jax.distributed.is_initialized():
        # no metadata server (a notebook with a TPU): libtpu knows its hosts by itself
        return
    raise UserError(
        f"{where}: the processes could not be joined: {failures[0]}; "
        f"{setting('num_processes', 1)} for a process that runs alone"
    ) from failures[0]


def quiet_unless_first() -> None:
    """Silences stdout on all processes but 0; errors still go to stderr on every process.

    Output of C++ libraries (Gloo prints a line per device) is dropped on process 0 as well.
    """
    if process_count() == 1:
        return
    sys.stdout.flush()
    if not is_first():
        status.silence()
    else:
        # Python keeps writing to a copy of stdout; descriptor 1, which C++ uses, leads nowhere
        kept = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors, "buffering": 1}
        sys.stdout = os.fdopen(os.dup(1), "w", closefd=False, **kept)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
