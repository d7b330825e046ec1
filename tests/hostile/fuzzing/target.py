"""What is fuzzed: good files, how they are changed, and what reads them."""

import dataclasses
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hostile.fuzzing.mutations import (
    mutate_bytes,
    mutate_json,
    mutate_lines,
    mutate_mp4,
    mutate_npy,
    mutate_safetensors,
    mutate_zip,
)

Mutate = Callable[[random.Random, bytes], bytes]
# by the ending of a file; others are changed byte by byte
BY_ENDING: dict[str, Mutate] = {
    ".json": mutate_json,
    ".jsonl": mutate_lines,
    ".csv": mutate_lines,
    ".tsv": mutate_lines,
    ".txt": mutate_lines,
    ".safetensors": mutate_safetensors,
    ".npz": mutate_zip,
    ".npy": mutate_npy,
    ".pt": mutate_zip,
    ".pth": mutate_zip,
    ".mp4": mutate_mp4,
}


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
      make: writes good files into an empty folder; None of what it writes depends on time or place.
      read: reads the folder as a command does; changes nothing in it but by names that begin with
        `out`.
      fuzzed: names in the folder, as patterns, of the files that are changed, one or two a time.
      mutate: how; default: by the ending.
      documented: what reading may raise beside `UserError`.
      seconds: of CPU time that reading may take.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    fuzzed: Sequence[str] = ("*",)
    mutate: Callable[[random.Random, Path], None] | None = None
    documented: tuple[type[Exception], ...] = ()
    seconds: float = 10.0

    def changed(self, rng: random.Random, good: Path, folder: Path) -> None:
        """Writes a changed copy of what `make` wrote."""
        shutil.copytree(good, folder, symlinks=True)
        if self.mutate is not None:
            self.mutate(rng, folder)
            return
        files = sorted(
            {path for pattern in self.fuzzed for path in folder.rglob(pattern) if path.is_file()}
        )
        for path in rng.sample(files, min(len(files), rng.choice((1, 1, 1, 2)))):
            change = BY_ENDING.get(path.suffix, mutate_bytes)
            path.write_bytes(change(rng, path.read_bytes()))
