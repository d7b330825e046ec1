"""Runs work on many items in processes; one that crashes costs its item only."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from vtd_jax.errors import Names, UserError, names, use_names
from vtd_jax.installed.python_processes import safe_path
from vtd_jax.video.read_ahead import read_ahead

# kinds of messages from a worker
LOG, DONE, FAILED = "log", "done", "failed"


@dataclass(frozen=True)
class Outcome:
    """The result of one item, its error, or the exit code of the process that died of it."""

    item: Any
    result: Any = None
    error: UserError | None = None
    exit_code: int | None = None


def ordered_map(function: Callable, items: Iterable, threads: int) -> Iterator[Outcome]:
    """Runs `function` on threads and yields outcomes in order, as `read_ahead` does.

    A `UserError` is an outcome; any other exception ends the iteration.
    """

    def work(item: Any) -> Outcome:
        try:
            return Outcome(item, function(item))
        except UserError as error:
            return Outcome(item, error=error)

    return read_ahead(items, work, threads)


def process_map(
    function: Callable[[Any, Callable], Any],
    items: Iterable,
    workers: int,
    log: Callable[[Any], None] = lambda message: None,
    idle: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Runs `function(item, log)` in spawned processes; yields outcomes as they come.

    Args:
      function: importable by name; may call `log(message)`, which calls `log` here.
      items: handed out in order.
      workers: processes.
      log: gets the messages.
      idle: called about once a second.

    A process that dies (out of memory, a crash in a codec) ends its item only, with `exit_code`
    set; a new one takes its place. All processes end with this one, however it ends.
    """
    # spawn: a process that has started JAX must not be forked
    context, rest = multiprocessing.get_context("spawn"), iter(items)
    busy: dict[Connection, tuple[Any, Any]] = {}
    started: list[Any] = []
    try:
        for item in rest:
            _give(context, function, busy, started, None, item)
            if len(busy) == workers:
                break
        while busy:
            for connection in wait(list(busy), timeout=1.0):
                process, item = busy[connection]
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):
                    del busy[connection]
                    process.join()
                    yield Outcome(item, exit_code=process.exitcode)
                    process = None
                else:
                    if kind == LOG:
                        log(content)
                        continue
                    del busy[connection]
                    yield Outcome(item, content) if kind == DONE else Outcome(item, error=content)
                following = next(rest, connection)
                if following is not connection:
                    idle_worker = process and (process, connection)
                    _give(context, function, busy, started, idle_worker, following)
                elif process:
                    connection.close()
            idle()
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _give(
    context: Any, function: Callable, busy: dict, started: list, idle_worker: Any, item: Any
) -> None:
    """Hands an item to an idle worker, or to a new one."""
    if idle_worker is None:
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(function, theirs, names()), daemon=True)
        with starting():
            process.start()
        started.append(process)
        theirs.close()
    else:
        process, mine = idle_worker
    busy[mine] = (process, item)
    with suppress(OSError):  # a worker that is gone is noticed when it is read from
        mine.send(item)


def _work(function: Callable, connection: Connection, given: Names) -> None:
    """Receives items and sends outcomes until the other end is closed."""
    use_names(given)
    follow_parent()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            result = function(item, lambda message: connection.send((LOG, message)))
            connection.send((DONE, result))
        except UserError as error:
            connection.send((FAILED, error))
        except BrokenPipeError:
            return
        except Exception as error:
            traceback.print_exc()
            connection.send((FAILED, UserError(f"{type(error).__name__}: {error}")))


def describe_exit(code: int) -> str:
    """How a process ended, from its exit code."""
    if code == -signal.SIGKILL:
        return "killed, most likely for lack of memory"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


@contextmanager
def deaf() -> Iterator[None]:
    """Processes and threads started inside ignore Ctrl-C from their first moment on.

    A terminal sends Ctrl-C to them too, and Python would print a traceback while it starts. They
    inherit this thread's signal mask. A signal that arrives meanwhile is handled at the end, since
    an interrupted start would leave a process that prints a traceback.
    """
    # also a process, and starting it resets the signal mask
    with safe_path():
        resource_tracker.ensure_running()
    handler, heard = signal.getsignal(signal.SIGINT), []
    # Python answers in its main thread, whichever thread the signal came to
    postponed = callable(handler) and threading.current_thread() is threading.main_thread()
    if postponed:
        signal.signal(signal.SIGINT, lambda *given: heard.append(given))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if postponed:
            signal.signal(signal.SIGINT, handler)
            if heard:
                handler(*heard[0])


@contextmanager
def starting() -> Iterator[None]:
    """Processes of `multiprocessing` started inside are `deaf`, and begin with a `safe_path`."""
    with deaf(), safe_path():
        yield


def begin_deaf(function: Callable[[], Any]) -> Future:
    """Calls a function that starts processes in a thread, as `deaf` does; waiting hears Ctrl-C."""
    found: Future = Future()

    def work() -> None:
        with starting():
            try:
                found.set_result(function())
            except BaseException as error:
                found.set_exception(error)

    threading.Thread(target=work, daemon=True, name="vtd-start-workers").start()
    return found


def follow_parent() -> None:
    """Makes a worker process end soon after its parent, even if that was killed.

    Ctrl-C reaches the parent too, which then ends its workers. Not `PR_SET_PDEATHSIG`: that fires
    when the thread that started the worker ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
