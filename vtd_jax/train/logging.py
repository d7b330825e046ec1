"""What a run tells while it goes: a progress line, a CSV and TensorBoard event files."""

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich.console
import rich.status
from tensorboardX import SummaryWriter

from vtd_jax.errors import UserError
from vtd_jax.files import write_text

BASE_COLUMNS = ("step", "epoch", "loss", "accuracy", "lr", "videos_per_second")


class CsvLog:
    """`metrics.csv`: one row a step that was told, flushed at once.

    Going on from a step drops the rows after it, which the run will write again: no step is there twice.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int = 0):
        self.path, self.columns = Path(path), tuple(columns)
        kept = self._rows_until(step) if step and self.path.exists() else []
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
        console: rich.console.Console | None = None,
    ):
        columns = BASE_COLUMNS + tuple(f"{split}_{metric}" for split in splits for metric in ("top1", "top5"))
        self._csv = CsvLog(Path(workdir) / "metrics.csv", columns, step)
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

    def train(self, step: int, epoch: float, *, steps: int, videos: float, loss: float, accuracy: float, lr: float):
        """One row for the last `steps` micro-batches with `videos` videos: mean loss, accuracy 0..1, the last rate."""
        now = time.perf_counter()
        self._pace.window(step, steps, videos, now - self._mark)
        self._mark = now
        rate = self._pace.videos_per_second
        row = {"loss": loss, "accuracy": accuracy, "lr": lr, "videos_per_second": rate}
        self._write(step, epoch, row)
        self._tell(
            f"step {step}/{self._total}  epoch {epoch:.2f}  loss {loss:.4f}  accuracy {100 * accuracy:.1f}  "
            f"lr {lr:.2e}  {rate:.1f} videos/s  {duration(self._pace.seconds_left)} left"
        )

    def evaluation(self, step: int, epoch: float, values: Mapping[str, float | None]) -> None:
        """One row of accuracies (0..1) by `split_top1` and `split_top5`."""
        values = {key: value for key, value in values.items() if value is not None}
        self._write(step, epoch, values)
        told = "  ".join(f"{key.replace('_', ' ')} {100 * value:.2f}" for key, value in values.items())
        self.line(f"step {step}/{self._total}  epoch {epoch:.2f}  evaluated: {told}")

    def line(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text)

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
