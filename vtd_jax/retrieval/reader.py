"""Reads the clips of an index: their features in blocks, and what is known of each."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vtd_jax.retrieval import scan
from vtd_jax.retrieval.store import Contents, Row, check_files, features_of, rows_of
from vtd_jax.video.clip import Clip


class Reader:
    """An index that is open for reading.

    A shard's checksum is compared when it is first read. One shard is mapped at a time.

    Attributes:
      folder: of the index.
      contents: its manifest.
    """

    def __init__(self, folder: Path, contents: Contents):
        """Checks that all files are there and have their sizes.

        Raises:
          UserError: names the first one that is not as it was written.
        """
        self.folder, self.contents = folder, contents
        self._numbers = [number for number, shard in enumerate(contents.shards) if shard.kept]
        self._count, self._checked = len(contents), set[int]()
        # of the last shard
        self._rows: tuple[int, list[Row]] = (-1, [])
        for number in self._numbers:
            check_files(folder, contents, number)

    def __len__(self) -> int:
        return self._count

    def check(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
          UserError: names the first damaged file.
        """
        self._checked.clear()
        for number, _, _ in self.shards():
            rows_of(self.folder, self.contents, number)

    def shards(self) -> Iterator[tuple[int, list[int], np.ndarray]]:
        """Number, clips that count, and features of each shard."""
        for number in self._numbers:
            check = number not in self._checked
            features = features_of(self.folder, self.contents, number, check=check)
            self._checked.add(number)
            yield number, self.contents.shards[number].kept, features
            del features

    def blocks(self, queries: int) -> Iterator[scan.Block]:
        """All features, in blocks whose size fits the number of queries or labels."""
        contents = self.contents
        size = scan.block_size(contents.frames, contents.width, queries, len(self))
        return scan.blocks(self.shards(), size)

    def features(self, number: int, place: int) -> Float32[np.ndarray, "t d"]:
        """The features of one clip, of a shard that was checked before."""
        shard = features_of(self.folder, self.contents, number, check=False)
        return shard[place].astype(np.float32)

    def row(self, number: int, place: int) -> tuple[str, Row]:
        """The name of one clip, and what is known of it."""
        if self._rows[0] != number:
            self._rows = number, rows_of(self.folder, self.contents, number)
        row = self._rows[1][place]
        return os.path.join(self.contents.roots[row.root], row.path), row

    def clip(self, number: int, place: int) -> Clip:
        """One clip as it was read from its video; `frames` is empty."""
        name, row = self.row(number, place)
        return Clip(
            name,
            np.zeros((self.contents.frames, 0, 0, 3), np.uint8),
            np.array(row.indices, np.int64),
            np.array(row.seconds, np.float64),
            row.total,
            row.duration,
            row.note,
        )
