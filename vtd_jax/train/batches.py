"""The batches of a run: clips that are decoded and augmented, or frame features kept on disk."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from vtd_jax.cache.frame_features import FeatureStore, Stored
from vtd_jax.errors import UserError, setting
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.processes import process_count, process_index
from vtd_jax.train.config import RunConfig
from vtd_jax.video.batches import Batch, BatchSource, BatchSpec
from vtd_jax.video.pipeline import BatchIterator, train_batches
from vtd_jax.video.records import Records
from vtd_jax.video.scaling.fit import Fit


@runtime_checkable
class FrameFeatures(Protocol):
    """Where frame features come from: `FeatureStore`, or an index that is opened above."""

    def open(
        self,
        records: Records,
        spec: BatchSpec,
        views: Sequence[int] = ...,
        *,
        batch_size: int,
        workers: int,
        log: Callable[[str], None] = ...,
        check: Callable[[], None] | None = None,
    ) -> list[Stored]:
        """The features of all videos of `records`, see `FeatureStore.open`."""
        ...


# opens the index in a folder for a model
OpenIndex = Callable[[str, VTDCLIP], FrameFeatures]


def open_batches(
    config: RunConfig, model: VTDCLIP, records: Records, open_index: OpenIndex | None = None
) -> "BatchIterator | StoredBatches":
    """The batches of this process, without end: the training loop counts epochs, so that a run
    resumed with more of them sees the same data.

    Args:
      config: the run.
      model: whose image tower makes features.
      records: the videos.
      open_index: for `data.features`: `vtd_jax.retrieval.for_training.IndexFeatures`.

    Raises:
      UserError: settings out of range; `data.features` or `data.stored_views` with several
        processes; or an index of other features.
    """
    data = config.data
    clips = train_batches(
        records,
        frames=data.frames,
        size=model.clip.config.image_resolution,
        batch_size=data.batch_size,
        seed=config.seed,
        augment=config.augment,
        workers=data.workers,
        num_epochs=None,
        shuffle=data.shuffle,
        drop_remainder=data.drop_remainder,
        host_index=process_index(),
        host_count=process_count(),
        fit=Fit(**model.scaling),
    )
    if not data.stored:
        return clips
    name = "features" if data.features else "stored_views"
    if process_count() > 1:
        unset = '""' if data.features else 0
        raise UserError(
            f"data.{name}={getattr(data, name)}: frame features are kept by runs of one "
            f"process, this one has {process_count()}; set "
            f"{setting(f'data.{name}', unset)}"
        )
    store: FrameFeatures
    if data.features:
        if open_index is None:
            raise ValueError("data.features needs open_index=IndexFeatures")
        store, views = open_index(data.features, model), 1
    else:
        store = FeatureStore(model, run_devices(config.devices), parallel=config.parallel)
        views = data.stored_views
    # not more than a step or an evaluation encodes, which fits into memory
    size = max(data.batch_size, config.evaluate.batch_size)
    return StoredBatches(
        clips, records, store, views=views, workers=data.workers, encoder_batch=size
    )


class StoredBatches:
    """The batches of a `BatchIterator` of one process, with frame features instead of frames.

    Epoch e has the clips that epoch `e mod views` draws, in its own order. State and order are
    those of the iterator.

    Attributes:
      batches_per_epoch: the number of batches.
    """

    def __init__(
        self,
        clips: BatchIterator,
        records: Records,
        store: FrameFeatures,
        *,
        views: int,
        workers: int,
        encoder_batch: int,
    ):
        """
        Args:
          clips: defines order and state; no batch is taken from it.
          records, workers: of `clips`.
          store: of the features.
          views: N, epochs whose clips are kept.
          encoder_batch: videos to encode at once.
        """
        self.batches_per_epoch = clips.batches_per_epoch
        self._clips, self._records, self._spec, self._store = clips, records, clips.spec, store
        self._views, self._workers, self._encoder_batch = views, workers, encoder_batch
        self._source, self._position = BatchSource(records, clips.spec), 0
        self._stored: dict[int, Stored] = {}

    def fill(
        self,
        epochs: Sequence[int],
        log: Callable[[str], None],
        check: Callable[[], None] | None = None,
    ) -> None:
        """Computes the missing features of these epochs; call it before the first batch.

        Args:
          epochs: their numbers, from 0.
          log: called with lines of progress.
          check: called before every batch; it may raise to stop, complete files are kept.

        Raises:
          UserError: the features cannot be written.
        """
        views = sorted({epoch % self._views for epoch in epochs})
        stored = self._store.open(
            self._records,
            self._spec,
            views,
            batch_size=self._encoder_batch,
            workers=self._workers,
            log=log,
            check=check,
        )
        self._stored = dict(zip(views, stored))

    def __iter__(self) -> "StoredBatches":
        return self

    def __next__(self) -> Batch:
        """`features` float32 [B, T, D], `label`, `weight` and `index`; see `Stored.batch`."""
        chosen, rows = self._source.indices(self._position), self._spec.batch_size
        view = self._stored[self._position // self.batches_per_epoch % self._views]
        batch = view.batch(chosen, rows)
        self._position += 1
        return batch

    def get_state(self) -> dict:
        """The state of the iterator, at the next batch."""
        return self._clips.get_state() | {"batch": self._position}

    def set_state(self, state: dict) -> None:
        """Continues from a state; raises a `UserError` for one of other records or settings."""
        self._clips.set_state(state)
        self._position = state["batch"]

    def close(self) -> None:
        """Closes the clips; the features stay."""
        self._clips.close()
