"""Commands that run as several processes: their flags, who prints, and how a process that fails alone leaves."""

import atexit
import os
import sys
from collections.abc import Callable

import jax
from absl import flags

from experiments import _cli
from vtd_jax.backend import check_backend
from vtd_jax.errors import UserError
from vtd_jax.train import distributed, joining
from vtd_jax.train.preemption import INTERRUPTED, Preempted

ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "host:port of process 0, the same for all processes; needed where no cluster tells it (plain machines, "
    "Open MPI 5), not on TPU slices, in Slurm steps or for a single process",
)
COUNT = flags.DEFINE_integer(
    "num_processes", None, "number of processes; needed with --coordinator_address on plain machines"
)
PLACE = flags.DEFINE_integer(
    "process_id", None, "which process this is, from 0; needed with --coordinator_address on plain machines"
)


def start(catch_sigterm: bool = False) -> None:
    """Joins the other processes of this run, if there are any, and quiets all but the first."""
    joining.initialize(ADDRESS.value, COUNT.value, PLACE.value, catch_sigterm=catch_sigterm)
    check_backend()
    joining.quiet_unless_first()
    joining.meet()


def run(main: Callable[[], str], usage: str, catch_sigterm: bool = False, **others: str) -> None:
    """`_cli.run` for a command that may be one of several processes: `start`, then `main`; `others` are for `_cli.run`.

    With `catch_sigterm`, `main` must ask `multihost_utils.reached_preemption_sync_point` at every step, or several
    processes cannot be ended by SIGTERM.

    An error that all processes raise is told by one of them, and all leave with its status. A process that fails alone
    tells it and leaves at once: its orderly end would wait for the others, which wait for it.
    """

    def on_hosts() -> str:
        try:
            start(catch_sigterm)
            return main()
        except Exception as error:
            _prepare_to_leave(error)
            if _is_lost_connection(error):
                raise UserError(
                    "another process of this run ended, or is far behind; its own output says why"
                ) from error
            raise
        except KeyboardInterrupt:
            _leave_at_once(INTERRUPTED)
            raise

    _cli.run(on_hosts, usage, **others)


def _prepare_to_leave(error: Exception) -> None:
    status = 2 if isinstance(error, (UserError, OSError)) else 1
    status = error.status if isinstance(error, Preempted) else status
    if not distributed.raised_everywhere(error):
        _leave_at_once(status)
    elif distributed.told_elsewhere(error):
        sys.exit(status)


def _is_lost_connection(error: Exception) -> bool:
    """Gloo's words, on CPUs; on GPUs and TPUs XLA itself ends this process when heartbeats stay away."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "Gloo" in str(error)


def _leave_at_once(status: int) -> None:
    """Ends this process when everything is told, before JAX says goodbye to the others, which it would wait for."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    if jax.distributed.is_initialized():
        atexit.register(end)
