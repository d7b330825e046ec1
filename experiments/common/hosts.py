"""Commands that run as several processes: their flags, who prints, and how a process that fails
alone leaves.
"""

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

# seconds for the others to say why a collective failed, and for them to be there when this process
# cannot start
_PATIENCE, _PATIENCE_START = 3.0, 30.0
# XLA's words: JAX has no type for them where it starts
_XLA = re.compile(r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): ")
# characters of a flag's value that messages show
_SHOWN = 200

ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0, the same for all processes; needed where no cluster tells it (plain "
    "machines, Open MPI 5), not on TPU slices, in Slurm steps or for a single process",
)
COUNT = flags.DEFINE_integer(
    "num_processes",
    None,
    "number of processes; needed with --coordinator_address on plain machines",
)
PLACE = flags.DEFINE_integer(
    "process_id",
    None,
    "which process this is, from 0; needed with --coordinator_address on plain machines",
)


HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    joining.HEARTBEAT,
    "seconds after which a process of which nothing is heard is taken for gone, and all others "
    f"end with status {LOST_STATUS}; 0 leaves that to JAX",
    lower_bound=0,
)


def start(catch_sigterm: bool = False) -> None:
    """Joins the other processes of this run, if there are any, and quiets all but the first."""
    joining.initialize(
        ADDRESS.value,
        COUNT.value,
        PLACE.value,
        heartbeat=HEARTBEAT.value,
        flags=_told(),
        catch_sigterm=catch_sigterm,
    )
    check_backend()
    joining.quiet_unless_first()
    joining.meet()


def _told() -> dict[str, str]:
    """All flags of the command and the fields of its config, but for those that say which process
    this is.
    """
    told: dict[str, str] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        if isinstance(flag.value, ConfigDict):
            told |= {
                f"--{flag.name}.{field}": _short(value)
                for field, value in flatten(flag.value.to_dict()).items()
            }
        elif flag.name not in clusters.FLAGS and flag.value is not None:
            told[f"--{flag.name}"] = _short(flag.value)
    return told


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({fingerprint(text)})"


def run(main: Callable[[], str], usage: str, catch_sigterm: bool = False, **others: str) -> None:
    """`_cli.run` for a command that may be one of several processes: `start`, then `main`; `others`
      are for `_cli.run`.

    With `catch_sigterm`, `main` must ask `multihost_utils.reached_preemption_sync_point` at every
    step, or several processes cannot be ended by SIGTERM.

    An error that all processes raise is told by one of them, and all leave with its status. A
    process that fails alone tells it and leaves at once: its orderly end would wait for the others,
    which wait for it. The others leave with `LOST_STATUS` and a line that says which one failed,
    and why. So do they where one cannot even start.
    """

    def on_hosts() -> str:
        try:
            start(catch_sigterm)
            return main()
        except Exception as error:
            if (why := _lost(error)) is not None:
                _leave_at_once(LOST_STATUS)
                cli._end(f"error: {why}", LOST_STATUS)
            _prepare_to_leave(error)
            raise
        except KeyboardInterrupt:
            _tell_others("interrupted")
            _leave_at_once(INTERRUPTED)
            raise

    try:
        cli.run(on_hosts, usage, **others)
    except SystemExit as end:
        if end.code not in (None, 0, INTERRUPTED):
            _announce(end)
        raise


def _prepare_to_leave(error: Exception) -> None:
    status = 2 if isinstance(error, (UserError, OSError)) else 1
    status = error.status if isinstance(error, Preempted) else status
    if not processes.raised_everywhere(error):
        mistake = isinstance(error, (UserError, OSError))
        _tell_others(f"{error}" if mistake else f"{type(error).__name__}: {error}")
        _leave_at_once(status)
    elif processes.reported_elsewhere(error):
        sys.exit(status)


def _tell_others(why: str) -> None:
    if (watch := joining.joined()) is not None:
        watch.fail(" ".join(why.split()))


def _lost(error: Exception) -> str | None:
    """What to tell of an error that is another process's end; None for any other.

    On CPUs Gloo says that a connection closed; what NCCL or a TPU says is asked of the other
    processes.
    """
    if isinstance(error, Lost):
        return ended_by(str(error))
    # as a program begins, JAX raises ValueError for it
    if not isinstance(error, jax.errors.JaxRuntimeError) and not _XLA.match(str(error)):
        return None
    watch = joining.joined()
    if watch is not None and (reason := watch.lost(_PATIENCE)):
        return ended_by(reason)
    return (
        "another process of this run ended, or is far behind; its own output says why"
        if "Gloo" in str(error)  # all that tells it from XLA's other errors
        else None
    )


def _announce(end: SystemExit) -> None:
    """Says to the others that this process ended before it could join them, if the command line
    says where they are.
    """
    told = {
        name: config_flag.argument(name) or os.environ.get(f"JAX_{name.upper()}") or ""
        for name in clusters.FLAGS
    }
    address, count, place = (told[name] for name in clusters.FLAGS)
    if (
        not (count.isdecimal() and place.isdecimal() and clusters.is_address(address))
        or int(count) < 2
    ):
        return
    # others may have to be told for a while, and Ctrl-C ends that
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if joining.was_called():
        return
    cause = end.__context__
    why = (
        str(cause)
        if isinstance(cause, UserError)
        else command_line.told(cause)
        if cause is not None
        else ""
    )
    joining.announce(
        address,
        int(place),
        int(count),
        why or f"ended with status {end.code}, its own output says why",
        _PATIENCE_START,
    )


def _leave_at_once(status: int) -> None:
    """Ends this process when everything is told, before JAX says goodbye to the others, which it
    would wait for.
    """

    def end() -> None:
        # what others need not be there for
        processes.finish(FINISHED)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    if jax.distributed.is_initialized():
        atexit.register(end)
