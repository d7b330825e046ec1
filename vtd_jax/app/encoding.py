"""The queue of videos: one at a time is decoded in a process of its own, and encoded in parts."""

import dataclasses
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from vtd_jax.app.answers import Moments
from vtd_jax.app.decoding import ClipWanted, Decoder, MomentsWanted, More, Some
from vtd_jax.app.jobs import CANCELLED, DONE, FAILED, PROGRESS, QUEUED, Job, Ticket, Wanted
from vtd_jax.app.kept import Kept, Key
from vtd_jax.app.videos import Busy, Videos
from vtd_jax.errors import UserError
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded
from vtd_jax.predict.timeline import Pictures
from vtd_jax.terminal import warn
from vtd_jax.untrusted.limits import APP_DECODE_SECONDS, APP_JOBS, APP_MOMENTS, APP_SILENT_SECONDS
from vtd_jax.video.clip import Clip
from vtd_jax.video.clips.processes import Processes

# frames of a part on a CPU: after each there is progress, or an end
_PART = 4
# clients of jobs, those included whose jobs are finished and can still be asked for
_TICKETS = 1000
# seconds from look to look at what nobody waits for, and of a process without work
_LOOK, _IDLE = 1.0, 60.0


class _Cancelled(Exception):
    """Nobody wants the job any more."""


class Encoder:
    """Encodes videos in a thread, one after another. A context manager: at its end all stops."""

    def __init__(
        self,
        models: Sequence[DeviceModel],
        videos: Videos,
        kept: Kept,
        seconds: float = APP_DECODE_SECONDS,
        patience: float = APP_SILENT_SECONDS,
        decoder: Callable[[Any], Any] | None = None,
    ):
        """
        Args:
          models: the model, and the zero-shot one beside it.
          videos: which may be removed while they are not read.
          kept: where results go.
          seconds: that decoding a clip, or a part of a timeline, may take.
          patience: seconds after which a client that does not listen has left its job.
          decoder: what the process does, importable by name; for tests.
        """
        self._models, self._videos, self._kept = models, videos, kept
        self._seconds, self._decoder = seconds, decoder
        self._patience = patience
        self._waiting: deque[Job] = deque()
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._running: Job | None = None
        self._idle_since = time.monotonic()
        self._processes: Processes | None = None
        self._late = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True, name="vtd-app-encode")
        self._thread.start()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="vtd-app-watch")
        self._watcher.start()

    def warm_up(self) -> None:
        """Compiles the program that encodes frames."""
        for model in self._models:
            shape = (_part(model), model.size, model.size, 3)
            np.asarray(model.start(np.zeros(shape, np.uint8), shape[0]))

    def submit(self, wanted: Wanted) -> Ticket:
        """Queues a job; one that is wanted already is shared.

        Raises:
          Busy: too many videos wait, or too many clients.
        """
        with self._changed:
            shared = (job for job in self._live() if job.wanted == wanted and job.is_wanted)
            job = next(shared, None) or Job(wanted)
            kept = all(self._kept.get(key) is not None for key in wanted.keys)
            is_new = job not in self._live() and not kept
            if is_new and len(self._waiting) >= APP_JOBS:
                raise Busy(f"{len(self._waiting)} videos wait to be encoded; try again later")
            self._forget()
            ticket = job.join()
            self._tickets[ticket.id] = ticket
            if is_new:
                self._videos.hold(wanted.video)
                self._waiting.append(job)
                self._count()
                self._changed.notify_all()
            elif kept:
                job.tell(DONE)
        return ticket

    def find(self, number: str) -> Ticket | None:
        """The ticket of an id; None for an unknown one."""
        with self._changed:
            return self._tickets.get(number)

    def cancel(self, ticket: Ticket) -> None:
        """A client leaves its job, which ends without any, and its worker is free."""
        with self._changed:
            ticket.left = True
            if not ticket.job.is_wanted:
                self._end(ticket.job)
        ticket.call()

    def close(self) -> None:
        """Ends the work."""
        with self._changed:
            self._closed = True
            for job in self._live():
                self._end(job)
            self._stop()
            self._changed.notify_all()
        self._thread.join()
        self._watcher.join()

    def __enter__(self) -> "Encoder":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _live(self) -> list[Job]:
        """The jobs that run or wait."""
        return [*([self._running] if self._running else []), *self._waiting]

    def _forget(self) -> None:
        """Makes room for a ticket: the first ones go whose jobs are over, or who have left.

        Raises:
          Busy: there is none.
        """
        if len(self._tickets) < _TICKETS:
            return
        over = (one.id for one in self._tickets.values() if one.left or one.job.is_over)
        if (number := next(over, None)) is None:
            raise Busy("too many clients wait for videos; try again later")
        del self._tickets[number]

    def _end(self, job: Job) -> None:
        """Ends a job that nobody wants, or that the end of the server ends."""
        # before its process ends, whose end would else be its failure
        job.tell(CANCELLED)
        if job is self._running:
            self._stop()
        elif job in self._waiting:
            self._waiting.remove(job)
            self._videos.release(job.wanted.video)
            self._count()

    def _stop(self) -> None:
        """Ends the process that decodes."""
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def _count(self) -> None:
        for ahead, job in enumerate(self._waiting, start=1 if self._running else 0):
            job.tell(QUEUED, ahead=ahead)

    def _watch(self) -> None:
        """Ends what nobody waits for: jobs, the process after its last job, and old uploads."""
        while True:
            with self._changed:
                if self._closed:
                    return
                live = self._live()
                silent = [
                    one
                    for one in self._tickets.values()
                    if one.job in live and not one.left and one.silence() > self._patience
                ]
                if live:
                    self._idle_since = time.monotonic()
                elif time.monotonic() - self._idle_since > _IDLE:
                    self._stop()
            for one in silent:
                self.cancel(one)
            for video in self._videos.expire():
                self._kept.drop(video.content)
            with self._changed:
                if not self._closed:
                    self._changed.wait(min(_LOOK, self._patience / 4))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    self._stop()
                    return
                self._running = job = self._waiting.popleft()
                self._count()
            self._finish(job)
            self._videos.release(job.wanted.video)
            with self._changed:
                self._running = None
                self._idle_since = time.monotonic()
                self._count()

    def _finish(self, job: Job) -> None:
        """Does a job, whatever happens in it."""
        wanted = job.wanted
        try:
            left = [key for key in wanted.keys if self._kept.get(key) is None]
            make = self._moments if wanted.keys[0].step else self._clip
            for key, one in make(job, left) if left else ():
                self._kept.put(key, one)
            job.tell(DONE)
        except _Cancelled:
            # whoever ended it has said so
            return
        except UserError as error:
            # nothing comes after the last event of one that was ended meanwhile
            job.tell(FAILED, error=wanted.video.named(str(error)))
        except Exception as error:
            # the thread must live; what it was is for the terminal
            warn(f"{wanted.video.name}: {type(error).__name__}: {error}")
            job.tell(FAILED, error="the server failed at this video; its terminal says more")

    def _clip(self, job: Job, left: list[Key]) -> Iterator[tuple[Key, Encoded]]:
        video, frames = job.wanted.video, left[0].frames
        models = [self._models[key.model] for key in left]
        job.tell(PROGRESS, stage="decoding", done=0, total=frames)
        fits = tuple(model.fit for model in models)
        clip = self._decoded(job, ClipWanted(str(video.path), frames, models[0].size, fits))
        assert isinstance(clip, Clip)
        for place, (key, model) in enumerate(zip(left, models, strict=True)):
            images = _of(clip.frames, place, model.size)
            own = dataclasses.replace(clip, name=video.name, frames=images)
            rows = self._kept.rows(key.video, key.model)
            new = {int(i): n for n, i in enumerate(clip.indices) if int(i) not in rows}
            found = self._encoded(job, key, images[[*new.values()]], len(new)) if new else ()
            rows |= dict(zip(new, found))
            yield key, Encoded(own, np.stack([rows[int(i)] for i in clip.indices]))

    def _encoded(
        self, job: Job, key: Key, images: UInt8[np.ndarray, "n r r 3"], total: int
    ) -> Float32[np.ndarray, "n d"]:
        model, features = self._models[key.model], []
        part = _part(model)
        for start in range(0, len(images), part):
            self._check(job)
            job.tell(PROGRESS, stage=_stage(key), done=start, total=total)
            some = images[start : start + part]
            features.append(np.asarray(model.start(some, part))[: len(some)])
        job.tell(PROGRESS, stage=_stage(key), done=total, total=total)
        return np.concatenate(features)

    def _moments(self, job: Job, left: list[Key]) -> Iterator[tuple[Key, Moments]]:
        video, step = job.wanted.video, left[0].step
        models = [self._models[key.model] for key in left]
        job.tell(PROGRESS, stage="decoding", done=0, total=0)
        fits = tuple(model.fit for model in models)
        self._decoded(job, MomentsWanted(str(video.path), step, models[0].size, fits))
        features: list[list[np.ndarray]] = [[] for _ in left]
        pictures, count, info = [Pictures() for _ in left], 0, None
        part = _part(models[0])
        while info is None:
            some = self._decoded(job, More(str(video.path), part))
            assert isinstance(some, Some)
            info, count = some.info, count + len(some.seconds)
            if count > APP_MOMENTS:
                raise UserError(
                    f"{video.name}: a timeline of more than {APP_MOMENTS:,} frames; take a longer "
                    "window, or fewer frames of each"
                )
            for place, model in enumerate(models if some.seconds else ()):
                images = _of(some.frames, place, model.size)
                self._check(job)
                features[place].append(np.asarray(model.start(images, part))[: len(images)])
                for second, image in zip(some.seconds, images, strict=True):
                    pictures[place].add(second, image)
            if some.seconds:
                length = some.length if some.seconds[-1] < some.length else 0.0
                job.tell(PROGRESS, stage="encoding", done=some.seconds[-1], total=length)
        for place, key in enumerate(left):
            rows = np.concatenate(features[place])
            yield key, Moments(video.name, rows, pictures[place], info)

    def _decoded(self, job: Job, wanted: Any) -> Any:
        """What the process that decodes makes of an item.

        Raises:
          UserError: not a whole video, its process died, or it took too long.
          _Cancelled: meanwhile nobody wants it any more.
        """
        with self._changed:
            self._check(job)
            if self._processes is None:
                self._processes = Processes(self._decoder or Decoder(), 0)
            processes, self._late = self._processes, False
        timer = threading.Timer(self._seconds, self._end_late, (processes,))
        timer.daemon = True
        timer.start()
        try:
            return processes(wanted)
        except UserError:
            self._check(job)
            if self._late:
                raise UserError(
                    f"{job.wanted.video.name}: not decoded within {self._seconds:g} s; it is "
                    "larger than this server takes"
                ) from None
            raise
        finally:
            timer.cancel()

    def _end_late(self, processes: Processes) -> None:
        with self._changed:
            if self._processes is processes:
                self._late = True
                self._stop()

    def _check(self, job: Job) -> None:
        if job.is_over:
            raise _Cancelled


def _of(images: UInt8[np.ndarray, "n h r 3"], place: int, size: int) -> np.ndarray:
    """The frames of one model, of those that `decoding.Fits` made."""
    return np.ascontiguousarray(images[:, place * size : (place + 1) * size])


def _part(model: DeviceModel) -> int:
    """Frames that are encoded at once."""
    return model.batch_frames(_PART) if jax.default_backend() == "cpu" else model.chunk


def _stage(key: Key) -> str:
    return "encoding zero-shot" if key.model else "encoding"
