"""How processes become one run: finding each other, connecting, and leaving the printing to the
first.

With a single process everything here does nothing.
"""

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
from vtd_jax.parallel.wires import Hello, Wire, myself, new_mark
from vtd_jax.terminal import counted, say

# seconds to wait for the others at the start; and after which one that is silent is taken for gone
TIMEOUT, HEARTBEAT = 300, 30
# seconds more until JAX's own patience is over, which ends a process with a stack trace and status
# 134
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
    told: Mapping[str, str] | None = None,
    catch_sigterm: bool = True,
) -> None:
    """Joins the other processes of the run, if there are any; call it before anything touches a
    device.

    Who the others are comes from the arguments, from `JAX_COORDINATOR_ADDRESS`,
    `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, or from the cluster
    (`vtd_jax.parallel.clusters.plan`). A second call does nothing.

    From here on a process that hears of another one's end prints one line and ends with
    `watch.LOST_STATUS`: at once where that one died, after `heartbeat` seconds where nothing is
    heard of it.

    Args:
      coordinator_address: `host:port` of process 0, on which it will listen.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      environ: where to look for variables.
      timeout: seconds to wait for the others.
      heartbeat: seconds after which a silent process is taken for gone; 0 leaves all of this to
        JAX, which waits for 100 s and ends with a stack trace.
      told: flags and settings by name that must be the same on all processes.
      catch_sigterm: whether, with several processes, SIGTERM only makes
        `multihost_utils.reached_preemption_sync_point` true, at the same step on all; otherwise it
        ends a process as ever.

    Raises:
      UserError: an argument is missing or wrong, the others did not come in time, or do not fit
        this one.
      Lost: another process came and went.
    """
    global _joined
    if jax.distributed.is_initialized():
        return
    planned = clusters.plan(coordinator_address, num_processes, process_id, environ)
    if planned is None:
        return
    jax.config.update("jax_enable_preemption_service", catch_sigterm)
    deadline = time.monotonic() + timeout
    found = clusters.resolved(planned, timeout) if heartbeat > 0 else None
    if found is None or found.num_processes == 1:
        _connect(planned, timeout, 100)
        return
    own = _hello(found, told or {})
    wires, names = _call_roll(found, own, timeout, heartbeat)
    address = found.coordinator_address
    _joined = Watch(
        wires, names, found.process_id, address=address, heartbeat=heartbeat, patience=timeout
    )
    atexit.register(_joined.bye)
    _connect(
        found._replace(coordinator_address=_joined.address),
        max(deadline - time.monotonic(), heartbeat),
        heartbeat + _LATER,
    )


def joined() -> Watch | None:
    """What hears of the other processes; None in one that runs alone, or where only JAX hears."""
    return _joined


def was_called() -> bool:
    """Whether the others know of this process, or do not ask."""
    return _called


def announce(address: str, place: int, count: int, why: str, patience: float) -> None:
    """Says to the others that this process cannot join them, so that they need not wait for it.

    Args:
      address, place, count: what it would have joined by.
      why: in one line.
      patience: seconds to wait for the others.
    """
    own = Hello(_versions(), place, count, myself(), {}, failed=why)
    with contextlib.suppress(UserError, TimeoutError, OSError):
        if place == 0:
            with contextlib.suppress(UserError):
                RollCall(address, own).linger(patience, "failed", f"process 0 ({own.who}): {why}")
                return
        # also where the port is taken: by another process 0, maybe
        answer(address, own, time.monotonic() + patience, patience)


def _hello(found: Hosts, told: Mapping[str, str]) -> Hello:
    return Hello(
        _versions(), found.process_id, found.num_processes, myself(), dict(told), new_mark()
    )


def _versions() -> str:
    return f"vtd_jax {vtd_jax.__version__} and JAX {jax.__version__}"


def _call_roll(
    found: Hosts, own: Hello, timeout: float, patience: float
) -> tuple[dict[int, Wire], dict[int, str]]:
    """Waits until all are here; gives the connections, and who the others are."""
    global _called
    address, deadline = found.coordinator_address, time.monotonic() + timeout
    if own.place == 0:
        call = RollCall(address, own)
        _called = True
        if (wires := call.all_here(deadline, patience, address)) is None:
            raise UserError(
                f"{setting('coordinator_address', address)}: not all {own.count} processes came "
                f"({call.missing_told()} missing); does each run this command, with its own "
                f"{setting('process_id')}? Waited {timeout:g} s"
            )
        return wires, call.names
    _called = True
    try:
        wire, who = answer(address, own, deadline, patience, lambda line: say(line, sys.stderr))
    except TimeoutError as why:
        raise UserError(
            f"{setting('coordinator_address', address)}: {why}; is process 0 running there, is the "
            f"port open? Waited {timeout:g} s"
        ) from None
    return {0: wire}, {0: who, own.place: own.who}


def meet(mesh: Mesh | None = None) -> None:
    """A sum over all devices, and over each axis of a mesh: connections are made now, while all
    processes are here.

    Call it soon after `initialize`, and for every mesh of other axes. Gloo gives up where a process
    comes 30 s late to the first collective over some set of devices; to later ones it may come as
    late as it likes.

    Raises:
      UserError: the processes have different numbers of devices.
    """
    if process_count() == 1:
        return
    check_devices()
    multihost_utils.sync_global_devices("meet")
    mesh = mesh or Mesh(np.array(jax.devices()), ("all",))
    groups = [mesh.axis_names, *((name,) for name in mesh.axis_names if len(mesh.axis_names) > 1)]
    same = PartitionSpec()

    def sums(x: jax.Array) -> list[jax.Array]:
        return [jax.lax.psum(x, group) for group in groups]

    mapped = jax.shard_map(sums, mesh=mesh, in_specs=same, out_specs=same, check_vma=False)
    jax.block_until_ready(jax.jit(mapped)(np.float32(1)))


def check_devices() -> None:
    """Refuses processes with different numbers of devices.

    Raises:
      UserError: on all processes; names the first that differs from process 0.
    """
    counts = Counter(device.process_index for device in jax.devices())
    for place in range(process_count()):
        if counts[place] != counts[0]:
            raise mark_common(
                UserError(
                    f"process {place} has {counted(counts[place], 'device')}, process 0 has "
                    f"{counts[0]}; give all processes the same number"
                )
            )


def _connect(planned: Hosts, timeout: float, heartbeat: float) -> None:
    """Waits in a thread: XLA would abort the whole process at its own deadline, and not hear Ctrl-C
    until then.
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
                # later than ours: at this deadline XLA ends the process with a stack trace
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
    """From here on only process 0 writes to stdout; errors go to stderr on every process.

    What libraries written in C++ print to stdout (Gloo: a line for each device) is dropped on
    process 0 as well.
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
