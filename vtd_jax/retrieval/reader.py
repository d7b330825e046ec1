"""Reads the clips of an index: their features in blocks, and what is known of each."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from vtd_jax.errors import UserError, function
from vtd_jax.retrieval import scan
from vtd_jax.retrieval.shard_files import Damaged, Row, check_files, features_of, rows_of
from vtd_jax.retrieval.store import FILE, Contents, read_contents
from vtd_jax.video.clip import Clip


class Changed(UserError):
    """An index that another process changed after it was opened: it must be opened again."""

    def __init__(self, folder: Path):
        super().__init__(
            f"{folder}: was changed by {function('Index.build')} while it was read; try again"
        )


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
        self._places = [place for place, shard in enumerate(contents.shards) if shard.kept]
        self._count, self._checked = len(contents), set[int]()
        # of the last shard
        self._rows: tuple[int, list[Row]] = (-1, [])
        with self._unchanged():
            for place in self._places:
                check_files(folder, contents, place)

    @classmethod
    def open(cls, folder: Path) -> "Reader":
        """Opens the index in a folder, as it is now.

        Raises:
          UserError: no index, or a damaged one.
        """
        try:
            return cls(folder, _contents(folder))
        except Changed:
            # between the manifest and the files
            return cls(folder, _contents(folder))

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Tells a file that a build removed from a damaged one."""
        try:
            yield
        except Damaged:
            if read_contents(self.folder) != self.contents:
                raise Changed(self.folder) from None
            raise

    def __len__(self) -> int:
        return self._count

    def check(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
          UserError: names the first damaged file.
        """
        self._checked.clear()
        for shard, _, _ in self.shards():
            self._read_rows(shard)

    def shards(self) -> Iterator[tuple[int, list[int], np.ndarray]]:
        """Place in the manifest, clips that count, and features of each shard."""
        for shard in self._places:
            features = self._features(shard, check=shard not in self._checked)
            self._checked.add(shard)
            yield shard, self.contents.shards[shard].kept, features
            del features

    def blocks(self, queries: int) -> Iterator[scan.Block]:
        """All features, in blocks whose size fits the number of queries or labels."""
        contents = self.contents
        size = scan.block_size(contents.frames, contents.width, queries, len(self))
        return scan.blocks(self.shards(), size)

    def features(self, shard: int, place: int) -> Float32[np.ndarray, "t d"]:
        """The features of one clip, of a shard that was checked before."""
        return self._features(shard, check=False)[place].astype(np.float32)

    def row(self, shard: int, place: int) -> tuple[str, Row]:
        """The name of one clip, and what is known of it."""
        if self._rows[0] != shard:
            self._rows = shard, self._read_rows(shard)
        row = self._rows[1][place]
        return os.path.join(self.contents.roots[row.root], row.path), row

    def clip(self, shard: int, place: int) -> Clip:
        """One clip as it was read from its video; `frames` is empty."""
        name, row = self.row(shard, place)
        return Clip(
            name,
            np.zeros((self.contents.frames, 0, 0, 3), np.uint8),
            np.array(row.indices, np.int64),
            np.array(row.seconds, np.float64),
            row.total,
            row.duration,
            row.note,
        )

    def _features(self, shard: int, *, check: bool) -> Float16[np.ndarray, "n t d"]:
        with self._unchanged():
            return features_of(self.folder, self.contents, shard, check=check)

    def _read_rows(self, shard: int) -> list[Row]:
        with self._unchanged():
            return rows_of(self.folder, self.contents, shard)


def _contents(folder: Path) -> Contents:
    contents = read_contents(folder)
    if contents is None:
        there = "there is no such folder" if not folder.exists() else f"no {FILE} in it"
        raise UserError(f"{folder}: not an index: {there}; {function('Index.build')} makes one")
    return contents
