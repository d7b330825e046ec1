"""Frame features on disk, for models without visual prompts (docs/method.md, section 7)."""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

import vtd_jax
from vtd_jax.cache.folder import check_ours
from vtd_jax.cache.shards import ENDING, make_folder, read_rows, write_rows
from vtd_jax.cache.tower import tower_fingerprint
from vtd_jax.console.progress import Progress
from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, cache_folder
from vtd_jax.fingerprints import fingerprint
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import DeviceMesh, Mapped, Over, pad_batch, round_up
from vtd_jax.parallel.prefetch import Prefetcher
from vtd_jax.parallel.processes import process_count
from vtd_jax.terminal import counted, log_result
from vtd_jax.video.batches import Batch, BatchSpec
from vtd_jax.video.pipeline import BatchIterator
from vtd_jax.video.records import Records

# below the cache folder
FOLDER = "features"
# videos per file; an interrupted pass resumes after the last complete file
SHARD = 64
# seconds between two lines of progress
PAUSE = 10.0

# part of every folder's name; counts up when the meaning of files changes, so that files of another
# format or version are ignored
_FORMAT = 3
# what messages call the rows
_WHAT = "frame features"


class Stored:
    """Features of every video of a list, for one training epoch or all views of an evaluation.

    Attributes:
      shape: of one video's features: (T, D), or (V, T, D) with V views.
    """

    def __init__(self, shards: Sequence[np.ndarray], labels: np.ndarray):
        self.shape, self._shards, self._labels = shards[0].shape[1:], shards, labels

    def batch(self, chosen: Sequence[int], rows: int) -> Batch:
        """`features` float32 [rows, …], `label`, `weight` and `index` of the chosen videos.

        Padding up to `rows` has weight 0 and the features of the first video.
        """
        index = np.zeros(rows, np.int64)
        index[: len(chosen)] = chosen
        real = np.arange(rows) < len(chosen)
        return {
            "features": np.stack([self._of(i) for i in index.tolist()]),
            "label": np.where(real, self._labels[index], 0).astype(np.int32),
            "weight": real.astype(np.float32),
            "index": np.where(real, index, -1),
        }

    def _of(self, video: int) -> Float32[np.ndarray, "..."]:
        return self._shards[video // SHARD][video % SHARD]

    def batches(self, size: int) -> Iterator[Batch]:
        """Every video once, in the order of the records; the last batch is padded."""
        for start in range(0, len(self._labels), size):
            yield self.batch(range(start, min(start + size, len(self._labels))), size)


class _Part(NamedTuple):
    """One file of features.

    Attributes:
      view: index among the requested views.
      number: of the file in its view.
      videos: in the file.
      file: its path.
    """

    view: int
    number: int
    videos: int
    file: Path


class FeatureStore:
    """Stores the frame features of one image tower, and computes those that are missing.

    Attributes:
      folder: where the files are: below `cache_folder()`.
      width: D, numbers of a frame's features.
    """

    def __init__(
        self, model: VTDCLIP, devices: Sequence[jax.Device], *, parallel: str = "shard_map"
    ):
        """
        Args:
          model: its image tower is used; it must not have visual prompts.
          devices: of one process; they share every batch.
          parallel: "shard_map" or "pmap".
        """
        if model.visual_prompts is not None or process_count() > 1:
            raise ValueError("features are kept for models without visual prompts, by one process")
        self.folder = cache_folder() / FOLDER
        self._graphdef, self._state = nnx.split(model.rounded())
        self._mesh, self._parallel = DeviceMesh(devices), parallel
        self._tower, self.width = tower_fingerprint(model), model.clip.config.embed_dim

    def open(
        self,
        records: Records,
        spec: BatchSpec,
        views: Sequence[int] = (0,),
        *,
        batch_size: int,
        workers: int,
        log: Callable[[str], None] = log_result,
        check: Callable[[], None] | None = None,
    ) -> list[Stored]:
        """Features of all videos of `records`, one `Stored` per view; missing or damaged ones are
        computed.

        Args:
          records: the videos.
          spec: frames, size, draws and views; batches, order and epochs do not matter.
          views: in training the epochs whose draws are used; in evaluation (0,).
          batch_size: videos to encode at once, rounded down to a power of two.
          workers: decoding processes, 0 for none.
          log: called with lines of progress, and a final one.
          check: called before every batch; it may raise to stop, complete files are kept.

        Raises:
          UserError: files cannot be written or are in a folder of others, or videos cannot be read.
        """
        count = spec.temporal_views * spec.spatial_views
        shape = (*([count] if count > 1 else []), spec.frames, self.width)
        check_ours(self.folder)
        folders = [self.folder / self._key(records, spec, view) for view in views]
        parts = [
            _Part(view, start // SHARD, min(SHARD, len(records) - start), _file(folder, start))
            for view, folder in enumerate(folders)
            for start in range(0, len(records), SHARD)
        ]
        kept = {part: read_rows(part.file, (part.videos, *shape), _WHAT) for part in parts}
        missing = [part for part in parts if kept[part] is None]
        if missing:
            for folder in folders:
                make_folder(folder, _WHAT)
            check = check or (lambda: None)
            self._compute(missing, records, spec, views, batch_size, workers, log, check)
            for part in missing:
                kept[part] = read_rows(part.file, (part.videos, *shape), _WHAT)
                if kept[part] is None:
                    raise UserError(
                        f"{part.file}: changed while it was written; does something else write "
                        f"there? Set {CACHE_VARIABLE} to a folder of your own"
                    )
        shards: list[list[np.ndarray]] = [[] for _ in views]
        for part, rows in kept.items():
            if rows is not None:
                shards[part.view].append(rows)
        if missing:
            size = sum(rows.nbytes for of_view in shards for rows in of_view)
            drawn = f" in {counted(len(views), 'epoch')}" if len(views) > 1 else ""
            log(
                f"frame features of {counted(len(records), 'video')} of {records.name}{drawn}, "
                f"{size / 2**20:.1f} MiB, are kept in {self.folder}"
            )
        return [Stored(of_view, records.stored.labels) for of_view in shards]

    def _key(self, records: Records, spec: BatchSpec, view: int) -> str:
        """The name of a view's folder, a fingerprint of everything that its features depend on."""
        drawn = [spec.temporal_views, spec.spatial_views]
        if spec.kind == "train":
            drawn = [spec.seed, view, spec.sample, asdict(spec.augment)]
        about = [
            _FORMAT,
            vtd_jax.__version__,
            self._tower,
            # of the videos themselves: the fingerprint in a record folder is not trusted
            records.digest,
            spec.kind,
            spec.frames,
            spec.size,
            *drawn,
            *spec.fit.key,
        ]
        return fingerprint(about)

    def _compute(self, missing, records, spec, views, batch_size, workers, log, check) -> None:
        """Encodes the videos of missing files, one file after another, and writes them."""
        # a power of two, so that no batch spans two files
        size = min(SHARD, 1 << (max(batch_size, 1).bit_length() - 1))
        spec = replace(
            spec, batch_size=size, epochs=max(views) + 1, shuffle=False, drop_remainder=False
        )
        clips = BatchIterator(records, spec, workers)
        encoder = compiled_features(self._graphdef, self._mesh, self._parallel)
        padded = round_up(size, len(self._mesh.devices))
        state = encoder.place(STATE, self._state)

        def place(one: tuple[_Part, Batch]) -> Any:
            return encoder.place(FRAMES, pad_batch(one[1], padded)["frames"])

        def batches() -> Iterator[tuple[_Part, Batch]]:
            for part in missing:
                first = views[part.view] * clips.batches_per_epoch + part.number * SHARD // size
                if clips.get_state()["batch"] != first:
                    clips.set_state(clips.get_state() | {"batch": first})
                for _ in range(-(-part.videos // size)):
                    check()
                    yield part, next(clips)

        total = sum(part.videos for part in missing)
        label = f"frame features of {records.name}"
        progress = Progress(label, total, "clip", every=PAUSE, log=log)
        begun: list[np.ndarray] = []

        def finish(part: _Part, batch: Batch, features: jax.Array) -> None:
            begun.append(np.asarray(features)[: len(batch["weight"])][batch["weight"] > 0])
            progress.add(len(begun[-1]))
            if sum(map(len, begun)) == part.videos:
                write_rows(part.file, np.concatenate(begun), _WHAT)
                begun.clear()

        # one batch behind, so that devices work while features are copied and written
        with contextlib.closing(clips), progress:
            pending: deque = deque()
            for (part, batch), frames in Prefetcher(batches(), place):
                pending.append((part, batch, encoder(frames, state)))
                if len(pending) > 1:
                    finish(*pending.popleft())
            while pending:
                finish(*pending.popleft())


def _file(folder: Path, start: int) -> Path:
    return folder / f"{start // SHARD:05d}{ENDING}"


def encode_views(frames: Array, state: nnx.State, *, graphdef: Any) -> Float[Array, "..."]:
    """Raw frame features of `[B,T,H,W,3]` or `[B,V,T,H,W,3]`, on one device."""
    model = nnx.merge(graphdef, state)
    if frames.ndim == 5:
        return model.encode_frames(frames).astype(jnp.float32)
    # one view after another: memory for one is enough
    views = jax.lax.map(model.encode_frames, jnp.moveaxis(frames, 1, 0))
    return jnp.moveaxis(views, 0, 1).astype(jnp.float32)


# positions of the arguments of the compiled function
FRAMES, STATE = 0, 1


@functools.lru_cache(maxsize=16)
def compiled_features(graphdef: Any, mesh: DeviceMesh, parallel: str) -> Mapped:
    """The compiled program of one kind of model; takes `(frames, state)`."""
    encode = functools.partial(encode_views, graphdef=graphdef)
    ins = (Over.VIDEOS, Over.SAME)
    return Mapped(encode, mesh, ins, Over.VIDEOS, parallel, check_vma=mesh.check_vma)
