"""How the videos of a call are read and encoded: options that all calls share."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import jax

from vtd_jax.fields import check_choice, check_known, check_number, check_switch, check_whole
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.video.clip import CHECKS

# decoders beside a CPU's own work, and at most beside an accelerator's
_BESIDE_CPU, _MOST_WORKERS = 2, 32


class How(TypedDict, total=False):
    """Options of `Predictor.predict`, `explain`, `stream` and `encode_videos`.

    Attributes:
      batch_frames: frames that are encoded at once, over all devices, of several videos where they
        are short; None chooses by the device and its memory.
      deterministic: every video is encoded alone, so that its numbers are the same, bit for bit,
        whatever is beside it; without, they are to float32 rounding.
      check: "index" judges a file by its packets and decodes what the wanted frames need; "full"
        decodes everything, so that no damage is missed. The frames of a file without damage are the
        same.
      workers: how many videos are decoded at once, ahead of the devices; None chooses: 2 beside a
        CPU, a worker for each core beside an accelerator. 0 decodes when a video's turn has come.
      processes: True decodes in worker processes, False in threads; None takes processes for long
        streams with many workers.
      download: whether videos at addresses may be copied to this machine; None asks
        `$VTD_JAX_DOWNLOAD`, then the terminal if there is one. That of `vtd_jax.load` is for
        weights.
    """

    batch_frames: int | None
    deterministic: bool
    check: str
    workers: int | None
    processes: bool | None
    download: bool | None


@dataclass(frozen=True)
class Encoding:
    """`How`, complete and checked, and what is sampled.

    Attributes:
      frames: T.
      fps: frames a second of arrays.
      batch_frames, deterministic, check, workers, processes, download: as in `How`.

    Raises:
      UserError: an option out of its range, or of another kind.
    """

    frames: int
    fps: float | None = None
    batch_frames: int | None = None
    deterministic: bool = False
    check: str = "index"
    workers: int | None = None
    processes: bool | None = None
    download: bool | None = None

    @classmethod
    def of(cls, frames: Any, fps: Any, how: Mapping[str, Any]) -> "Encoding":
        """Checks what a public function was given.

        Args:
          frames, fps: as the fields.
          how: options by name.

        Raises:
          UserError: an option out of its range or of another kind, or an unknown one.
        """
        check_known(how, How.__annotations__)
        return cls(frames, fps, **how)

    def __post_init__(self):
        checked: dict[str, Any] = {
            "frames": check_whole("frames", self.frames, "1 or more frames of a video"),
            "deterministic": check_switch("deterministic", self.deterministic),
        }
        if self.fps is not None:
            checked["fps"] = check_number("fps", self.fps, "frames a second, above 0")
        if self.batch_frames is not None:
            expected = "1 or more frames that are encoded at once, or none to choose by the device"
            checked["batch_frames"] = check_whole("batch_frames", self.batch_frames, expected)
        if self.workers is not None:
            checked["workers"] = check_whole("workers", self.workers, "0 or more", least=0)
        if self.processes is not None:
            checked["processes"] = check_switch("processes", self.processes)
        if self.download is not None:
            checked["download"] = check_switch("download", self.download)
        check_choice("check", self.check, CHECKS)
        for name, value in checked.items():
            # the dataclass is frozen
            object.__setattr__(self, name, value)

    @property
    def decoders(self) -> int:
        """How many videos are decoded at once."""
        if self.workers is not None:
            return self.workers
        if jax.default_backend() == "cpu":
            return _BESIDE_CPU
        cores = os.cpu_count() or 1
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        return min(cores, _MOST_WORKERS)

    def videos_ahead(self, on_devices: DeviceModel) -> int:
        """Videos of a batch: so many scores are under way at most."""
        if self.deterministic:
            return 0
        return on_devices.batch_frames(self.batch_frames) // self.frames
