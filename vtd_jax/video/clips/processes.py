"""Worker processes that read videos for the threads of this one; one that dies costs its video.

They run this module, not the calling script, which so needs no `if __name__ == "__main__":` and may
be a notebook. Files and clips go through a socket.
"""

import contextlib
import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cv2

from vtd_jax.errors import UserError, names, use_names
from vtd_jax.installed.python_processes import isolated
from vtd_jax.video.codec.wholeness import VideoError
from vtd_jax.video.lists.addresses import Copy, named
from vtd_jax.video.workers import deaf, describe_exit

_RUN = "from vtd_jax.video.clips.processes import serve; serve(int(sys.argv[1]), int(sys.argv[2]))"


class Processes:
    """Calls a function in worker processes, one for each thread that calls it at a time.

    A context manager: at its end all workers end. They also end with this process, however it ends,
    and leave Ctrl-C to it.
    """

    def __init__(self, function: Callable[[Any], Any], start: int | None):
        """
        Args:
          function: importable by name, or a `functools.partial` of such a one; may raise
            `UserError`.
          start: how many calls run in this process before workers are started; None for all.
        """
        self._function, self._start = function, start if sys.executable else None
        self._calls, self._idle = itertools.count(), queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._lock, self._closed = threading.Lock(), False

    def __call__(self, item: Any) -> Any:
        """The function's result for an item, which is pickled on its way.

        Raises:
          UserError: the function's own.
          VideoError: the process that worked on the item died.
        """
        if self._start is None or next(self._calls) < self._start:
            return self._function(item)
        worker = self._worker()
        try:
            found, error = worker.call(item)
        except (EOFError, OSError):
            code = worker.end(1.0)
            raise VideoError(
                f"{_name(item)}: the process that decoded it died ({describe_exit(code)})"
            ) from None
        self._idle.put(worker)
        if error is not None:
            raise error
        return found

    def _worker(self) -> "_Worker":
        """An idle worker, or a new one."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._idle.get_nowait()
                if worker.alive():
                    return worker
        with self._lock:
            if self._closed:
                raise UserError("the call that reads videos has ended")
            worker = _Worker(self._function)
            self._workers = [one for one in self._workers if one.alive()] + [worker]
        return worker

    def close(self) -> None:
        """Ends all workers, also those that work on an item."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.end()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Worker:
    """A process that calls the function for one item after another."""

    def __init__(self, function: Callable[[Any], Any]):
        mine, theirs = socket.socketpair()
        # closed by the system when this process ends: then the worker ends, whatever it does
        lives, self._life = os.pipe()
        try:
            with deaf():
                self._process = subprocess.Popen(
                    isolated(_RUN, str(theirs.fileno()), str(lives)),
                    pass_fds=(theirs.fileno(), lives),
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            os.close(self._life)
            mine.close()
            raise
        finally:
            theirs.close()
            os.close(lives)
        self._connection = Connection(mine.detach())
        # the thread that waits for it may end it while another one does
        self._ending = threading.Lock()
        with contextlib.suppress(OSError):  # a worker that is gone is noticed at its first item
            self._connection.send((function, names()))

    def call(self, item: Any) -> tuple[Any, UserError | None]:
        """The result of an item, or its error."""
        self._connection.send(item)
        return self._connection.recv()

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def end(self, patience: float = 0.0) -> int:
        """Ends the process; its exit code.

        Args:
          patience: seconds for a process that is ending by itself, whose code is wanted.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        if self._process.poll() is None:
            self._process.kill()
        with self._ending:
            self._connection.close()
            if self._life is not None:
                os.close(self._life)
                self._life = None
        return self._process.wait()


def serve(connection_fd: int, life_fd: int) -> None:
    """What a worker does: receives items and sends outcomes until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(life_fd,), daemon=True).start()
    cv2.setNumThreads(1)
    connection = Connection(connection_fd)
    function, given = connection.recv()
    use_names(given)
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(function, item))


def _outcome(function: Callable[[Any], Any], item: Any) -> tuple[Any, UserError | None]:
    try:
        return function(item), None
    except UserError as error:
        return None, error
    except Exception as error:
        traceback.print_exc()
        return None, UserError(f"{_name(item)}: {type(error).__name__}: {error}")


def _name(item: Any) -> str:
    return named(item) if isinstance(item, Copy) else str(item)


def _end_with_parent(life_fd: int) -> None:
    os.read(life_fd, 1)
    os._exit(1)
