"""Jobs of the queue, and the clients that wait for them: one that nobody waits for is no job."""

import contextlib
import dataclasses
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from vtd_jax.app.kept import Key
from vtd_jax.app.videos import Video

QUEUED, PROGRESS, DONE, FAILED, CANCELLED = "queued", "progress", "done", "failed", "cancelled"
LAST = (DONE, FAILED, CANCELLED)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a job makes.

    Attributes:
      video: to encode.
      keys: what is kept of it in the end, one for each model, in the order of the models.
    """

    video: Video
    keys: tuple[Key, ...]


class Job:
    """A video in the queue. Methods may be called from any thread.

    Attributes:
      wanted: what it makes.
    """

    def __init__(self, wanted: Wanted):
        self.wanted = wanted
        self._event, self._data = QUEUED, {"ahead": 0}
        self._tickets: list[Ticket] = []
        self._lock = threading.Lock()

    @property
    def is_wanted(self) -> bool:
        """Whether a client is left that wants it."""
        with self._lock:
            return any(not one.left for one in self._tickets)

    @property
    def is_over(self) -> bool:
        """Whether its last event was."""
        return self.now()[0] in LAST

    def join(self) -> "Ticket":
        """One client more wants it."""
        ticket = Ticket(self)
        with self._lock:
            self._tickets.append(ticket)
        return ticket

    def tell(self, event: str, **data: Any) -> None:
        """Says where it stands now; nothing comes after the last event."""
        with self._lock:
            if self._event in LAST:
                return
            self._event, self._data = event, data
            tickets = [*self._tickets]
        for ticket in tickets:
            ticket.call()

    def now(self) -> tuple[str, dict[str, Any]]:
        """Where it stands."""
        with self._lock:
            return self._event, self._data


class Ticket:
    """A client's share in a job.

    Attributes:
      id: 32 hexadecimal digits.
      job: that the client wants.
      left: whether it does not want it any more.
    """

    def __init__(self, job: Job):
        self.id, self.job, self.left = secrets.token_hex(16), job, False
        self._listeners: list[Callable[[], None]] = []
        self._last_heard = time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> tuple[str, dict[str, Any]]:
        """Where the job stands for this client."""
        event, data = self.job.now()
        return (CANCELLED, {}) if self.left and event not in LAST else (event, data)

    def call(self) -> None:
        """Calls who listens."""
        with self._lock:
            listeners = [*self._listeners]
        for listener in listeners:
            listener()

    @contextlib.contextmanager
    def heard(self, listener: Callable[[], None]) -> Iterator[None]:
        """Calls a function, from any thread, after every change."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)
                self._last_heard = time.monotonic()

    def silence(self) -> float:
        """Seconds since somebody listened; 0 while somebody does."""
        with self._lock:
            return 0.0 if self._listeners else time.monotonic() - self._last_heard
