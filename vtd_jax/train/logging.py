"""What a run tells while it goes: a progress line, a CSV and TensorBoard event files."""

import csv
import io
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import rich.console
import rich.status
from tensorboardX import SummaryWriter

from vtd_jax.errors import UserError
from vtd_jax.files import write_text

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
)


class Window(NamedTuple):
    """What the micro-batches since the last row came to.

    Attributes:
      steps, videos: how many they were, skipped ones too.
      loss, accuracy (0..1), grad_norm: means over those that were not skipped; nan where all were.
      lr: the last rate.
      skipped: updates skipped since the run began.
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
        """From what `Trainer.step` returned for each of them, on the host, and the count of skipped updates so far."""
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
    """The most memory used so far: of a device ("mem"), or of this process where devices do not tell ("host mem")."""

    name: str
    gib: float


def memory(devices: Sequence[Any] | None = None) -> Memory:
    """What is used on the fullest of the devices (None: all local ones), or by this process."""
    told = [device.memory_stats() or {} for device in (jax.local_devices() if devices is None else devices)]
    peaks = [stats["peak_bytes_in_use"] for stats in told if "peak_bytes_in_use" in stats]
    if peaks:
        return Memory("mem", max(peaks) / 2**30)
    # in KiB, but for macOS
    unit = 1 if sys.platform == "darwin" else 1024
    return Memory("host mem", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30)


class CsvLog:
    """`metrics.csv`: one row a step that was told, flushed at once.

    Going on from a step drops the rows after it, which the run will write again: no step is there twice. `evaluated`
    says whether an evaluation of that very step counts: without, its row (the one without a loss) is dropped too.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int = 0, evaluated: bool = True):
        self.path, self.columns = Path(path), tuple(columns)
        kept = self._rows_until(step) if step and self.path.exists() else []
        if not evaluated:
            loss = self.columns.index("loss")
            kept = [row for row in kept if int(row[0]) < step or row[loss]]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *kept])
        write_text(self.path, out.getvalue())
        self._file = self.path.open("a", newline="")

    def write(self, row: Mapping[str, object]) -> None:
        """Appends a row; a column without a value stays empty."""
        csv.writer(self._file, lineterminator="\n").writerow([row.get(column, "") for column in self.columns])
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _rows_until(self, step: int) -> list[list[str]]:
        with self.path.open(newline="") as file:
            rows = list(csv.reader(file))
        if not rows or tuple(rows[0]) != self.columns:
            raise UserError(
                f"{self.path}: line 1: columns {rows[0] if rows else []}, expected {list(self.columns)}; "
                "move the file away to start a new one"
            )
        # a line that was cut off by a crash has too few fields
        whole = [row for row in rows[1:] if len(row) == len(self.columns) and row[0].isdigit()]
        return [row for row in whole if int(row[0]) <= step]


class Pace:
    """Videos a second and time left, from the time that training steps took (evaluation and saving left out)."""

    def __init__(self, total_steps: int):
        self._total, self._step, self._seconds, self._steps, self._windows = total_steps, 0, 0.0, 0, 0
        self.videos_per_second = 0.0

    def window(self, step: int, steps: int, videos: float, seconds: float) -> None:
        """Counts `steps` steps that took `seconds`; the first window compiles, so the next one replaces it."""
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
    """Progress (a line that is redrawn on a terminal, plain lines elsewhere), CSV and TensorBoard events."""

    def __init__(
        self,
        workdir: Path,
        *,
        total_steps: int,
        splits: Sequence[str],
        step: int = 0,
        evaluated: bool = True,
        console: rich.console.Console | None = None,
    ):
        columns = BASE_COLUMNS + tuple(f"{split}_{metric}" for split in splits for metric in ("top1", "top5"))
        self._csv = CsvLog(Path(workdir) / "metrics.csv", columns, step, evaluated)
        # events of steps after `step` are hidden: the run will write them again
        self._events = SummaryWriter(str(Path(workdir) / "events"), purge_step=step + 1 if step else None)
        self._console = console or rich.console.Console(highlight=False, soft_wrap=True)
        self._status: rich.status.Status | None = None
        self._total = total_steps
        self._pace = Pace(total_steps)
        self._mark = time.perf_counter()

    def start_timing(self) -> None:
        """Training goes on from here: what happened since the last row was not training."""
        self._mark = time.perf_counter()

    def train(self, step: int, epoch: float, window: Window) -> None:
        """One row for the micro-batches that end with `step`."""
        now = time.perf_counter()
        self._pace.window(step, window.steps, window.videos, now - self._mark)
        self._mark = now
        rate, used = self._pace.videos_per_second, memory()
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
            },
        )
        skipped = f"  {window.skipped} skipped" if window.skipped else ""
        self._tell(
            f"step {step}/{self._total}  epoch {epoch:.2f}  loss {window.loss:.4f}  "
            f"accuracy {100 * window.accuracy:.1f}  lr {window.lr:.2e}  {rate:.1f} videos/s  "
            f"{duration(self._pace.seconds_left)} left  {used.name} {used.gib:.1f} GiB{skipped}"
        )

    def evaluation(
        self, step: int, epoch: float, values: Mapping[str, float | None], best: tuple[float, int] | None = None
    ) -> None:
        """One row of accuracies (0..1) by `split_top1` and `split_top5`.

        `best` is the highest of the first one so far and its step; it is told where it is another step's.
        """
        first = next(iter(values), "").replace("_", " ")
        values = {key: value for key, value in values.items() if value is not None}
        self._write(step, epoch, values)
        told = "  ".join(f"{key.replace('_', ' ')} {100 * value:.2f}" for key, value in values.items())
        if best is not None and best[1] != step:
            told += f"  (best {first} {100 * best[0]:.2f} at step {best[1]})"
        self.line(f"step {step}/{self._total}  epoch {epoch:.2f}  evaluated: {told}")

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text)

    def flush(self) -> None:
        """Puts into the files what was told so far; the CSV's rows are there at once."""
        self._events.flush()

    def close(self) -> None:
        """Flushes everything."""
        if self._status is not None:
            self._status.stop()
        self._csv.close()
        self._events.close()

    def _write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        self._csv.write({"step": step, "epoch": f"{epoch:.4f}", **{k: f"{v:.8g}" for k, v in values.items()}})
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def _tell(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(text)
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)


def duration(seconds: float) -> str:
    """`1:02:03`, `2:03`, or `?` where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
