"""The log of a run: a progress line, a CSV and TensorBoard event files."""

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import rich.console
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from vtd_jax.console.status import Line, Part
from vtd_jax.durations import clock
from vtd_jax.files import naming
from vtd_jax.terminal import log_result, verbatim
from vtd_jax.train.csv_log import CsvLog

BASE_COLUMNS = (
    "step",
    "epoch",
    "loss",
    "accuracy",
    "lr",
    "grad_norm",
    "videos_per_second",
    "memory_gib",
    "skipped",
    "input_wait",
)


class Window(NamedTuple):
    """The results of the micro-batches since the last row.

    Attributes:
      steps, videos: their numbers, with skipped ones.
      loss, accuracy (0..1), grad_norm: means over those that were not skipped; nan if all were.
      lr: the last rate.
      skipped: updates skipped in the whole run.
    """

    steps: int
    videos: float
    loss: float
    accuracy: float
    grad_norm: float
    lr: float
    skipped: int

    @classmethod
    def of(cls, steps: Sequence[Mapping[str, float]], skipped: int) -> "Window":
        """The window of the results of `Trainer.step`, on the host."""
        used = [sums for sums in steps if not sums["skipped"]]
        count = sum(sums["count"] for sums in used)
        return cls(
            steps=len(steps),
            videos=sum(sums["count"] for sums in steps),
            loss=sum(sums["loss"] for sums in used) / count if count else math.nan,
            accuracy=sum(sums["correct"] for sums in used) / count if count else math.nan,
            grad_norm=sum(sums["grad_norm"] for sums in used) / len(used) if used else math.nan,
            lr=steps[-1]["lr"],
            skipped=skipped,
        )


class Memory(NamedTuple):
    """The peak memory of a device ("mem"), or of this process if devices do not report it
    ("host mem").
    """

    name: str
    gib: float


def memory(devices: Sequence[Any] | None = None) -> Memory:
    """The highest peak of the devices (None: all local ones), or the peak of this process."""
    devices = jax.local_devices() if devices is None else devices
    reports = [device.memory_stats() or {} for device in devices]
    peaks = [stats["peak_bytes_in_use"] for stats in reports if "peak_bytes_in_use" in stats]
    if peaks:
        return Memory("mem", max(peaks) / 2**30)
    # in KiB, except on macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory("host mem", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30)


class Events:
    """A TensorBoard event file that is flushed at once; `SummaryWriter` would use a thread.

    Resuming from a step hides the events of later ones, which the run will write again.
    """

    def __init__(self, folder: Path, step: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = EventsWriter(str(folder / "events"), f".{step}")
        if step:
            self._writer.write_event(
                Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))
            )
        self.close = self._writer.close

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars by name."""
        now = time.time()
        with naming(self._folder):
            for name, value in values.items():
                self._writer.write_event(
                    Event(wall_time=now, step=step, summary=scalar(name, value))
                )
            self._writer.flush()


class Pace:
    """Videos per second and time left, from the time of training steps only."""

    def __init__(self, total_steps: int):
        self._total, self._step = total_steps, 0
        self._seconds, self._steps, self._windows = 0.0, 0, 0
        self.videos_per_second = 0.0

    def window(self, step: int, steps: int, videos: float, seconds: float) -> None:
        """Counts `steps` steps that took `seconds`, up to `step`."""
        # the first window includes the compiling, so the second one replaces it
        if self._windows == 1:
            self._seconds, self._steps = 0.0, 0
        self._windows += 1
        self._seconds, self._steps, self._step = self._seconds + seconds, self._steps + steps, step
        self.videos_per_second = videos / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """At the mean pace so far; nan before the first window."""
        return (self._total - self._step) * self._seconds / self._steps if self._steps else math.nan


class RunLog:
    """Progress (the terminal's line, or plain lines elsewhere), CSV and TensorBoard events."""

    def __init__(
        self,
        workdir: Path,
        *,
        total_steps: int,
        splits: Sequence[str],
        step: int = 0,
        evaluated: bool = True,
        rows: int = 0,
        console: rich.console.Console | None = None,
    ):
        columns = BASE_COLUMNS + tuple(
            f"{split}_{metric}" for split in splits for metric in ("top1", "top5")
        )
        self._csv = CsvLog(Path(workdir) / "metrics.csv", columns, step, evaluated, rows)
        self._events = Events(Path(workdir) / "events", step)
        self._own = console is not None
        self._console = console or rich.console.Console(highlight=False, soft_wrap=True)
        self._line: Line | None = None
        self._parts: tuple[Part, ...] = ()
        self._total = total_steps
        self._pace = Pace(total_steps)
        self._mark, self._waited = time.perf_counter(), 0.0

    @property
    def rows(self) -> int:
        """The number of rows of metrics.csv."""
        return self._csv.rows

    def start_timing(self, waited: float = 0.0) -> None:
        """Restarts the timing of steps, after an evaluation or a checkpoint; `waited` as for
        `train`.
        """
        self._mark, self._waited = time.perf_counter(), waited

    def train(self, step: int, epoch: float, window: Window, waited: float = 0.0) -> None:
        """Logs the micro-batches up to `step`; `waited`: seconds spent waiting for input so far."""
        now = time.perf_counter()
        seconds, idle = now - self._mark, waited - self._waited
        self._pace.window(step, window.steps, window.videos, seconds)
        self._mark, self._waited = now, waited
        rate, used = self._pace.videos_per_second, memory()
        wait = min(max(idle / seconds, 0.0), 1.0) if seconds > 0 else 0.0
        self._write(
            step,
            epoch,
            {
                "loss": window.loss,
                "accuracy": window.accuracy,
                "lr": window.lr,
                "grad_norm": window.grad_norm,
                "videos_per_second": rate,
                "memory_gib": used.gib,
                "skipped": window.skipped,
                "input_wait": wait,
            },
        )
        waiting = f" ({100 * wait:.0f} % of the time waiting for input)" if wait >= 0.01 else ""
        # on a narrow terminal the parts with the highest ranks are left out
        self._parts = (
            Part(f"epoch {epoch:.2f}", 4),
            Part(f"loss {window.loss:.4f}"),
            Part(f"accuracy {100 * window.accuracy:.1f}", 3),
            Part(f"lr {window.lr:.2e}", 6),
            Part(f"{rate:.1f} videos/s", 5),
            Part(waiting.strip(), 7),
            Part(f"{clock(self._pace.seconds_left)} left", 1),
            Part(f"{used.name} {used.gib:.1f} GiB", 8),
            Part(f"{window.skipped} skipped" if window.skipped else "", 2),
        )
        self.begun(step)
        if not self._console.is_terminal:
            # the waiting time belongs to the rate before it
            text = "  ".join(part.text for part in self._parts if part.text).replace("  (", " (")
            self.line(f"step {step}/{self._total}  {text}")

    def begun(self, step: int) -> None:
        """Shows that this step was dispatched, beside the last row."""
        if self._line is None:
            self._line = Line(clock=False).open()
        self._line.show(f"step {step}/{self._total}", *(part for part in self._parts if part.text))

    def evaluation(
        self,
        step: int,
        epoch: float,
        values: Mapping[str, float | None],
        best: tuple[float, int] | None = None,
    ) -> None:
        """Logs accuracies (0..1) by `split_top1` and `split_top5`.

        `best` is the highest of the first one so far, with its step; printed if that is another
        step.
        """
        first = next(iter(values), "").replace("_", " ")
        values = {key: value for key, value in values.items() if value is not None}
        self._write(step, epoch, values)
        text = "  ".join(
            f"{key.replace('_', ' ')} {100 * value:.2f}" for key, value in values.items()
        )
        if best is not None and best[1] != step:
            text += f"  (best {first} {100 * best[0]:.2f} at step {best[1]})"
        self.line(f"step {step}/{self._total}  epoch {epoch:.2f}  evaluated: {text}")

    def line(self, text: str) -> None:
        """Logs a line, which commands print on stdout."""
        if self._own:
            self._console.print(verbatim(text))
        else:
            # a console of rich would print onto the end of the terminal's live line
            log_result(text)

    def close(self) -> None:
        """Ends the progress line and closes the files."""
        if self._line is not None:
            self._line.close()
        self._csv.close()
        self._events.close()

    def _write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        self._csv.write(
            {"step": step, "epoch": f"{epoch:.4f}", **{k: f"{v:.8g}" for k, v in values.items()}}
        )
        self._events.write(step, values)
