"""The frame features of an index as those of a list that is learnt on."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32

from vtd_jax.cache.frame_features import Stored
from vtd_jax.errors import UserError, function, setting
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.printable import listed
from vtd_jax.retrieval.encoder import difference
from vtd_jax.retrieval.reader import Reader
from vtd_jax.terminal import counted, log_result
from vtd_jax.video.batches import BatchSpec
from vtd_jax.video.record_files import read_files
from vtd_jax.video.records import Records


class IndexFeatures:
    """Finds the videos of records in an index, by the SHA-256 of their files."""

    def __init__(self, folder: str | os.PathLike, model: VTDCLIP):
        """
        Args:
          folder: of the index; stays mapped while it is used.
          model: that learns; its frame features must be those of the index.

        Raises:
          UserError: no index, a damaged one, or one of another image tower or preprocessing.
        """
        self._reader = Reader.open(Path(folder))
        contents = self._reader.contents
        if why := difference(contents, model):
            raise UserError(
                f"{setting('data.features', folder)}: was made with {contents.model}, which is not "
                f"the image tower of this run: {why}; set the fields of the run so, or make an "
                f"index with {function('Index.build')} and a model of such a run"
            )

    def open(
        self,
        records: Records,
        spec: BatchSpec,
        views: Sequence[int] = (0,),
        *,
        log: Callable[[str], None] = log_result,
        **_: Any,
    ) -> list[Stored]:
        """Features of all videos of `records`, as `FeatureStore.open`; nothing is computed.

        Args:
          records: the videos.
          spec: its frames must be those of the index.
          views: as many get the same features.
          log: called with a line.

        Raises:
          UserError: another number of frames, or videos that the index does not have.
        """
        folder, contents = self._reader.folder, self._reader.contents
        where = setting("data.features", folder)
        if spec.frames != contents.frames:
            raise UserError(
                f"{where}: has {contents.frames} frames of each video; set "
                f"{setting('data.frames', contents.frames)}, or give another index"
            )
        shards, known = {}, {}
        for shard, kept, features in self._reader.shards():
            shards[shard] = features
            for place in kept:
                known[self._reader.row(shard, place)[1].sha256] = shard, place
        # files without a checksum are found by none
        known.pop("", None)
        files = read_files(records.path, records.videos)
        learnt = [files[position] for position in records.stored.records.tolist()]
        lacking = [file.file for file in learnt if file.sha256 not in known]
        if lacking:
            raise UserError(
                f"{where}: has no features of {len(lacking)} of {counted(len(learnt), 'video')} of "
                f"{records.name}, such as {listed(lacking, 2)}; add the files that the records "
                f"were built from, with {function('Index.build')}"
            )
        log(f"frame features of {counted(len(learnt), 'video')} of {records.name}: from {folder}")
        places = [known[file.sha256] for file in learnt]
        return [_Indexed(shards, places, records.stored.labels)] * len(views)


class _Indexed(Stored):
    """Features in shards of an index, at any places."""

    def __init__(
        self,
        shards: Mapping[int, Float16[np.ndarray, "n t d"]],
        places: Sequence[tuple[int, int]],
        labels: np.ndarray,
    ):
        self._places, self._blocks = places, shards
        super().__init__(list(shards.values()), labels)

    def _of(self, video: int) -> Float32[np.ndarray, "t d"]:
        shard, place = self._places[video]
        return self._blocks[shard][place].astype(np.float32)
