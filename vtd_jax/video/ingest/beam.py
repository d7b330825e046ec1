"""Monitors a Beam build from the process that started it: progress and lost workers."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from vtd_jax.console.progress import Progress
from vtd_jax.video.ingest.shards import Staging


@contextlib.contextmanager
def progress_of(staging: Staging, todo: Sequence[int]) -> Iterator[None]:
    """Shows how far shards are that others make, from their reports."""
    videos = {index: len(staging.todo(index)) for index in todo}
    progress = Progress(staging.folder.name.lstrip("."), sum(videos.values()), "video")
    ended = threading.Event()

    def look() -> None:
        for path in staging.folder.glob("*.done.json"):
            index = int(path.name.split(".")[0])
            if index in videos and (report := staging.report(index)):
                for bad in report.skipped:
                    progress.add(0, 1, f"{bad['where']}: {bad['reason']}")
                progress.add(videos.pop(index))
        if videos:
            progress.show()

    def watch() -> None:
        while not ended.wait(1.0):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        look()


class WorkerLost(BaseException):
    """Raised in the main thread while Beam waits; Beam must not handle it."""


@contextlib.contextmanager
def lost_workers() -> Iterator[list[int]]:
    """Notices when a worker process of DirectRunner dies, which Beam would wait for without an end.

    The thread that looks after the process ends with an exception. Then the main thread is
    interrupted, and the list has the exit code, negative for a signal. In other threads nothing is
    noticed.
    """
    lost: list[int] = []
    thread, hook_before = threading.current_thread(), threading.excepthook

    def interrupt(*_: Any) -> None:
        raise WorkerLost

    def hook(arguments: Any) -> None:
        code = re.fullmatch(
            r"Worker subprocess exited with return code (-?\d+)", str(arguments.exc_value)
        )
        if not code:
            hook_before(arguments)
        elif not lost:  # the others end because of the first
            # a shell between says 128 + signal
            lost.append(128 - int(code[1]) if int(code[1]) > 128 else int(code[1]))
            signal.pthread_kill(thread.ident, signal.SIGUSR1)

    if thread is not threading.main_thread():
        yield lost
        return
    handler_before = signal.signal(signal.SIGUSR1, interrupt)
    threading.excepthook = hook
    try:
        yield lost
    finally:
        signal.signal(signal.SIGUSR1, handler_before)
        if not lost:
            threading.excepthook = hook_before
