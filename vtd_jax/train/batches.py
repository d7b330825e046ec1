"""The batches of a run: clips, decoded and augmented anew, or frame features kept on disk."""

from collections.abc import Callable, Sequence

from vtd_jax.cache.frame_features import FeatureStore, Stored
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.parallel.processes import process_count, process_index
from vtd_jax.train.config import RunConfig
from vtd_jax.video.batches import Batch, BatchSource
from vtd_jax.video.pipeline import BatchIterator, train_batches
from vtd_jax.video.records import Records


def open_batches(
    config: RunConfig, model: VTDCLIP, records: Records
) -> "BatchIterator | StoredBatches":
    """This process's rows, epoch after epoch without end: the loop counts epochs, so that a run
    resumed with more of them sees the same data.

    Raises:
      UserError: settings out of range, or `data.stored_views` with several processes.
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
        squash=model.squash,
    )
    if not data.stored_views:
        return clips
    if process_count() > 1:
        raise UserError(
            f"data.stored_views={data.stored_views}: frame features are kept by runs of one "
            f"process, this one has {process_count()}; set data.stored_views=0"
        )
    store = FeatureStore(model, run_devices(config.devices), parallel=config.parallel)
    # no more at once than a step or an evaluation encodes
    at_once = max(data.batch_size, config.evaluate.batch_size)
    return StoredBatches(
        clips, records, store, views=data.stored_views, workers=data.workers, at_once=at_once
    )


class StoredBatches:
    """The batches of a `BatchIterator` of one process, with frame features instead of frames.

    Epoch e has the clips that epoch `e mod views` draws, in its own order. State and order are
    those of the iterator.

    Attributes:
      batches_per_epoch: how many batches an epoch has.
    """

    def __init__(
        self,
        clips: BatchIterator,
        records: Records,
        store: FeatureStore,
        *,
        views: int,
        workers: int,
        at_once: int,
    ):
        """
        Args:
          clips: gives order and state; never asked for a batch.
          records, workers: of `clips`.
          store: keeps the features.
          views: N, epochs whose clips are kept.
          at_once: videos that are encoded at once.
        """
        self.batches_per_epoch = clips.batches_per_epoch
        self._clips, self._records, self._spec, self._store = clips, records, clips.spec, store
        self._views, self._workers, self._at_once = views, workers, at_once
        self._source, self._position = BatchSource(records, clips.spec), 0
        self._stored: dict[int, Stored] = {}

    def fill(
        self,
        epochs: Sequence[int],
        tell: Callable[[str], None],
        check: Callable[[], None] | None = None,
    ) -> None:
        """Computes the features of these epochs that are not kept yet; to be called before the
        first batch.

        Args:
          epochs: their numbers, from 0.
          tell: called with lines of progress.
          check: called before every batch that is encoded; may raise to stop, and what is done is
            kept.

        Raises:
          UserError: features cannot be kept where they should.
        """
        views = sorted({epoch % self._views for epoch in epochs})
        stored = self._store.open(
            self._records,
            self._spec,
            views,
            together=self._at_once,
            workers=self._workers,
            tell=tell,
            check=check,
        )
        self._stored = dict(zip(views, stored))

    def __iter__(self) -> "StoredBatches":
        return self

    def __next__(self) -> Batch:
        """`features` float32 [B, T, D], and `label`, `weight` and `index` as of clips; see
        `Stored.batch`.
        """
        chosen, rows = self._source.indices(self._position), self._spec.batch_size
        view = self._stored[self._position // self.batches_per_epoch % self._views]
        batch = view.batch(chosen, rows)
        self._position += 1
        return batch

    def get_state(self) -> dict:
        """As the iterator's: the number of the next batch, and what must not change before it."""
        return self._clips.get_state() | {"batch": self._position}

    def set_state(self, state: dict) -> None:
        """Continues from a state; raises a `UserError` for one of other records or settings."""
        self._clips.set_state(state)
        self._position = state["batch"]

    def close(self) -> None:
        """Closes the clips; the features stay."""
        self._clips.close()
