"""The flags of `experiments.predict`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from experiments.predict import outputs
from vtd_jax.errors import UserError
from vtd_jax.installed.extras import need
from vtd_jax.outputs import beside_name, check_suffix
from vtd_jax.predict.batching.options import How
from vtd_jax.predict.timeline import Windows


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of the command, by their names."""

    labels: str | None
    vocabulary: str | None
    frames: int | None
    top: int
    window: float | None
    stride: float | None
    threshold: float
    json: str | None
    csv: str | None
    report: str | None
    figures: str | None
    restart: bool
    how: How = dataclasses.field(default_factory=How)
    truth: str | None = None
    command: str = ""
    date: str = ""
    # other inputs: (name in messages, path)
    inputs: Sequence[tuple[str, str | Path | None]] = ()

    def validate(self, videos: Sequence[Path]) -> None:
        """Refuses flags that do not fit each other, before anything is loaded.

        Raises:
          UserError: a flag without effect; or an output that cannot be written, is an input, or
            would replace a foreign file.
        """
        if self.window is None and self.stride is not None:
            raise UserError(f"--stride={self.stride}: is for windows; give --window=SECONDS too")
        batch_frames = self.how.get("batch_frames")
        if self.window is not None and batch_frames is not None:
            raise UserError(
                f"--batch_frames={batch_frames}: is for whole videos; with --window every "
                "video is encoded by itself"
            )
        if self.window is not None:
            Windows(self.frames or 1, self.window, self.stride, self.threshold)
        for flag, value, ending in (("json", self.json, ".json"), ("csv", self.csv, ".csv")):
            if value is not None:
                check_suffix(Path(value), ending, where=f"--{flag}={value}")
        if self.figures is not None:
            need("matplotlib", f"--figures={self.figures}:")
        outputs.check(self, videos)
        if self.restart and self.journal is None:
            raise UserError(
                "--restart: there is nothing to throw away without --json, --csv, --report or "
                "--figures"
            )

    @property
    def journal(self) -> Path | None:
        """The file that records finished videos until all are; None if no file is written."""
        for value in (self.json, self.csv):
            if value is not None:
                return beside_name(Path(value), ".unfinished")
        folder = self.report or self.figures
        return None if folder is None else Path(folder) / "unfinished.jsonl"
