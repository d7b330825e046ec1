"""Commands that run as several processes: their flags, who prints, how a failed process exits."""

import atexit
import os
import re
import signal
import sys
from collections.abc import Callable

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments.common import cli, command_line, config_flag
from vtd_jax.backend import check_backend
from vtd_jax.errors import UserError
from vtd_jax.fingerprints import fingerprint
from vtd_jax.parallel import clusters, joining, processes
from vtd_jax.parallel.preemption import INTERRUPTED, Preempted
from vtd_jax.parallel.watch import FINISHED, LOST_STATUS, ended_by
from vtd_jax.parallel.wires import Lost
from vtd_jax.train.config import flatten

# seconds to wait for the others' reason after a collective failed, and for the others to listen
# when this process cannot start
_PATIENCE, _PATIENCE_START = 3.0, 30.0
# XLA's status codes: JAX has no exception type for them during start-up
_XLA = re.compile(r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")
# characters of a flag's value that messages show
_SHOWN = 200

ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0, the same for all processes; needed on plain machines and with "
    "Open MPI 5, not on TPU slices, in Slurm steps or for a single process",
)
COUNT = flags.DEFINE_integer(
    "num_processes",
    None,
    "number of processes; needed with --coordinator_address on plain machines",
)
PROCESS = flags.DEFINE_integer(
    "process_id",
    None,
    "which process this is, from 0; needed with --coordinator_address on plain machines",
)


HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    joining.HEARTBEAT,
    "seconds without a sign of life after which a process counts as lost and all others end "
    f"with status {LOST_STATUS}; 0 leaves that to JAX",
    lower_bound=0,
)


def start(catch_sigterm: bool = False) -> None:
    """Joins the other processes of this run, if any; all but the first stop printing."""
    joining.initialize(
        ADDRESS.value,
        COUNT.value,
        PROCESS.value,
        heartbeat=HEARTBEAT.value,
        flags=_shared_flags(),
        catch_sigterm=catch_sigterm,
    )
    check_backend()
    joining.quiet_unless_first()
    joining.meet()


def _shared_flags() -> dict[str, str]:
    """Flags and config fields that must be equal in all processes."""
    shared: dict[str, str] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        if isinstance(flag.value, ConfigDict):
            shared |= {
                f"--{flag.name}.{field}": _short(value)
                for field, value in flatten(flag.value.to_dict()).items()
            }
        elif flag.name not in clusters.FLAGS and flag.value is not None:
            shared[f"--{flag.name}"] = _short(flag.value)
    return shared


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({fingerprint(text)})"


def run(
    main: Callable[[], str],
    usage: str | None,
    catch_sigterm: bool = False,
    resumes: str = cli.STARTS_AGAIN,
) -> None:
    """`cli.run` for a command that may be one of several processes: `start`, then `main`.

    With `catch_sigterm`, `main` must call `multihost_utils.reached_preemption_sync_point` at every
    step, or several processes cannot be ended by SIGTERM. `resumes` is for `cli.run`.

    One process prints an error that all of them raise, and all exit with its status. A process that
    fails alone prints its error and exits at once: an orderly exit would wait for the others, which
    wait for it. The others exit with `LOST_STATUS` and a line that says which process failed, and
    why. The same holds for a process that cannot start.
    """

    def on_hosts() -> str:
        try:
            start(catch_sigterm)
            return main()
        except Exception as error:
            if (why := _lost(error)) is not None:
                _leave_at_once(LOST_STATUS)
                cli._end(f"error: {why}", LOST_STATUS)
            _prepare_exit(error)
            raise
        except KeyboardInterrupt:
            _notify_others("interrupted")
            _leave_at_once(INTERRUPTED)
            raise

    try:
        cli.run(on_hosts, usage, resumes=resumes)
    except SystemExit as end:
        if end.code not in (None, 0, INTERRUPTED):
            _announce(end)
        raise


def _prepare_exit(error: Exception) -> None:
    mistake = isinstance(error, (UserError, OSError))
    status = error.status if isinstance(error, Preempted) else 2 if mistake else 1
    if not processes.raised_everywhere(error):
        _notify_others(f"{error}" if mistake else f"{type(error).__name__}: {error}")
        _leave_at_once(status)
    elif processes.reported_elsewhere(error):
        sys.exit(status)


def _notify_others(why: str) -> None:
    if (watch := joining.joined()) is not None:
        watch.fail(" ".join(why.split()))


def _lost(error: Exception) -> str | None:
    """The line about an error that the end of another process caused; None for any other error.

    On CPUs Gloo reports the closed connection; on GPUs and TPUs only the other processes know.
    """
    if isinstance(error, Lost):
        return ended_by(str(error))
    # while a program starts, JAX raises ValueError with the same text
    if not isinstance(error, jax.errors.JaxRuntimeError) and not _XLA.match(str(error)):
        return None
    watch = joining.joined()
    if watch is not None and (reason := watch.lost(_PATIENCE)):
        return ended_by(reason)
    return (
        "another process of this run ended, or is far behind; its own output says why"
        if "Gloo" in str(error)  # nothing else tells it from XLA's other errors
        else None
    )


def _announce(end: SystemExit) -> None:
    """Notifies the others that this process ended before joining, if it knows their address."""
    own = {
        name: config_flag.argument(name) or os.environ.get(f"JAX_{name.upper()}") or ""
        for name in clusters.FLAGS
    }
    address, count, process = (own[name] for name in clusters.FLAGS)
    known = count.isdecimal() and process.isdecimal() and clusters.is_address(address)
    if not known or int(count) < 2:
        return
    # announcing may take a while: let Ctrl-C end it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if joining.was_called():
        return
    cause, why = end.__context__, ""
    if cause is not None:
        why = str(cause) if isinstance(cause, UserError) else command_line.describe(cause)
    why = why or f"ended with status {end.code}, its own output says why"
    joining.announce(address, int(process), int(count), why, _PATIENCE_START)


def _leave_at_once(status: int) -> None:
    """Exits after all output, but before JAX's own shutdown, which would wait for the others."""

    def end() -> None:
        # finish what needs no other process, such as writing a checkpoint
        processes.finish(FINISHED)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    if jax.distributed.is_initialized():
        # handlers run in reverse order: this one before JAX's
        atexit.register(end)
