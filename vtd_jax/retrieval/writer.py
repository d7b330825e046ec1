"""Adds clips to an index on disk and takes clips out, shard by shard.

All shards but the last are full when they are written, and at least half of each counts: the next
one takes in the last one that is not full, and `compact` those of which less is left.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from vtd_jax.retrieval.shard_files import (
    Row,
    features_of,
    remove_others,
    rows_of,
    with_shard,
    without,
)
from vtd_jax.retrieval.store import Contents, Shard, write_contents


class Writer:
    """Holds the clips of the next shard, and what is dropped with it.

    A process that ends at any moment leaves the index as it was after the last `write`; files that
    no manifest names are removed by the next writer. Who writes holds the lock of the folder.

    Attributes:
      contents: the manifest, as it is on disk.
      leaving: clips of shards, by number, that are about to be dropped, so that they are not moved
        before.
    """

    def __init__(self, folder: Path, contents: Contents):
        self.contents = contents
        self.leaving: Mapping[int, set[int]] = {}
        self._folder = folder
        self._clips: list[tuple[np.ndarray, Row]] = []
        self._dropped: dict[int, set[int]] = {}
        self._roots = {root: place for place, root in enumerate(contents.roots)}
        remove_others(folder, contents)

    def root(self, folder: str) -> int:
        """The index of a folder that paths begin at, among those of the index."""
        return self._roots.setdefault(folder, len(self._roots))

    def drop(self, number: int, place: int) -> None:
        """Takes a clip out of the index, with the next `write`."""
        self._dropped.setdefault(number, set()).add(place)

    def add(self, features: Float16[np.ndarray, "t d"], row: Row) -> None:
        """Puts a clip into the next shard, which is written when it is full."""
        self._begin()
        self._clips.append((features, row))
        self._write_full()

    def compact(self) -> None:
        """Moves the clips of shards of which less than half is left into the next ones."""
        sparse = [
            shard.number
            for shard in self.contents.shards
            if 0 < 2 * len(self._staying(shard)) < shard.clips
        ]
        if sparse:
            self._begin()
        for number in sparse:
            self._take_in(number)

    def write(self) -> None:
        """Writes the next shard, if it has clips, and the manifest, with what is dropped."""
        if not self._clips and not self._dropped:
            return
        contents = dataclasses.replace(self.contents, roots=tuple(self._roots))
        if self._clips:
            features, rows = zip(*self._clips)
            contents = with_shard(self._folder, contents, np.stack(features), rows)
        contents = without(contents, self._dropped)
        write_contents(self._folder, contents)
        self.contents, self._clips, self._dropped = contents, [], {}
        remove_others(self._folder, contents)

    def _begin(self) -> None:
        """Takes in the last shard if the next one would be the second that is not full."""
        if self._clips or not self.contents.shards:
            return
        last = self.contents.shards[-1]
        if len(self._staying(last)) < self.contents.clips_a_shard:
            self._take_in(last.number)

    def _write_full(self) -> None:
        if len(self._clips) == self.contents.clips_a_shard:
            self.write()

    def _staying(self, shard: Shard) -> list[int]:
        gone = self._dropped.get(shard.number, set()) | self.leaving.get(shard.number, set())
        return [place for place in shard.kept if place not in gone]

    def _take_in(self, number: int) -> None:
        """Moves what stays of a shard into the next one."""
        for place, shard in enumerate(self.contents.shards):
            if shard.number == number and (staying := self._staying(shard)):
                features = features_of(self._folder, self.contents, place, check=True)
                rows = rows_of(self._folder, self.contents, place)
                for clip in staying:
                    # in this order an interruption loses none
                    self._clips.append((np.array(features[clip]), rows[clip]))
                    self.drop(number, clip)
                    self._write_full()
                return
