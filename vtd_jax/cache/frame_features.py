"""Frame features kept on disk: where no visual prompt is learnt, a clip's never change
(docs/method.md, section 7).
"""

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
from jaxtyping import Array, Float

import vtd_jax
from vtd_jax.cache.arrays import make_folder, read_rows, write_rows
from vtd_jax.cache.folder import VARIABLE, cache_folder, check_ours
from vtd_jax.clip.weights.params import state_from_clip
from vtd_jax.console.progress import Progress
from vtd_jax.errors import UserError
from vtd_jax.fingerprints import fingerprint, fingerprint_all
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import DeviceMesh, Mapped, Over, pad_batch, round_up
from vtd_jax.parallel.prefetch import Ahead
from vtd_jax.parallel.processes import process_count
from vtd_jax.terminal import counted
from vtd_jax.video.batches import Batch, BatchSpec
from vtd_jax.video.pipeline import BatchIterator
from vtd_jax.video.records import Records

# below the cache folder
FOLDER = "features"
# videos a file: an interrupted pass goes on at the last whole one
SHARD = 64
# seconds between two lines of progress
PAUSE = 10.0

# part of every folder's name: counts up when files change their meaning. Files of other formats,
# as of other versions, are not looked at: their features are computed once more.
_FORMAT = 2
# what messages call the rows
_WHAT = "frame features"


def tower_fingerprint(model: VTDCLIP) -> str:
    """The fingerprint of all that raw frame features depend on beside the frames: the image tower,
    its dtype, normalization.

    Independent of how the model lays its layers out: weights are taken under OpenAI's names.
    """
    visual = {
        name: x for name, x in state_from_clip(model.clip).items() if name.startswith("visual.")
    }
    about = [repr(model.clip.config), str(model.clip.visual.dtype), model.config.normalization]
    return fingerprint_all([about + list(visual), *visual.values()])


class Stored:
    """Features of every video of a list in one view (a training epoch's draws, or all views of an
    evaluation).

    Attributes:
      shape: of one video's: (T, D), or (V, T, D) with V views.
    """

    def __init__(self, shards: Sequence[np.ndarray], labels: np.ndarray):
        self.shape, self._shards, self._labels = shards[0].shape[1:], shards, labels

    def batch(self, chosen: Sequence[int], rows: int) -> Batch:
        """`features` float32 [rows, …], `label`, `weight` and `index` as of clips, of the videos at
        these places.

        Fewer than `rows` are filled up with weight 0 and the features of the first video: ordinary
        numbers.
        """
        places = np.zeros(rows, np.int64)
        places[: len(chosen)] = chosen
        real = np.arange(rows) < len(chosen)
        return {
            "features": np.stack([self._shards[place // SHARD][place % SHARD] for place in places]),
            "label": np.where(real, self._labels[places], 0).astype(np.int32),
            "weight": real.astype(np.float32),
            "index": np.where(real, places, -1),
        }

    def batches(self, size: int) -> Iterator[Batch]:
        """Every video once, in the order of the records; the last batch is filled up with weight 0."""
        for start in range(0, len(self._labels), size):
            yield self.batch(range(start, min(start + size, len(self._labels))), size)


class _Part(NamedTuple):
    """One file that is missing: its view (a place among those asked for), its number and name."""

    view: int
    number: int
    file: Path


class FeatureStore:
    """Keeps frame features of one image tower, and computes those that are missing.

    Attributes:
      folder: where the files are: below `cache_folder()`.
      width: D, numbers of a frame's features.
    """

    def __init__(
        self, model: VTDCLIP, devices: Sequence[jax.Device], *, parallel: str = "shard_map"
    ):
        """
        Args:
          model: of which the image tower is used; without visual prompts.
          devices: that share every batch; of one process.
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
        together: int,
        workers: int,
        tell: Callable[[str], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> list[Stored]:
        """Features of all videos of `records`, one `Stored` a view; what is not kept yet, or
        damaged, is computed.

        Args:
          records: the videos.
          spec: frames, size, draws and views; batches, order and epochs do not matter.
          views: in training the epochs whose draws are taken; in evaluation (0,).
          together: videos to encode at once, about.
          workers: decoding processes, 0 for none.
          tell: called with lines of progress, and one at the end of what was computed; None prints
            them.
          check: called before every batch that is encoded; may raise to break off: whole files are
            kept.

        Raises:
          UserError: files cannot be written (it names the variable that says where) or are in a
            folder of others, or videos cannot be read.
        """
        tell = tell or functools.partial(print, flush=True)
        count = spec.temporal_views * spec.spatial_views
        shape = (*([count] if count > 1 else []), spec.frames, self.width)
        check_ours(self.folder)
        folders = [self.folder / self._key(records, spec, view) for view in views]
        found: list[list[np.ndarray | None]] = []
        for folder in folders:
            sizes = [min(SHARD, len(records) - start) for start in range(0, len(records), SHARD)]
            found.append(
                [
                    read_rows(_file(folder, number), (n, *shape), _WHAT)
                    for number, n in enumerate(sizes)
                ]
            )
        missing = [
            _Part(place, number, _file(folders[place], number))
            for place, shards in enumerate(found)
            for number, rows in enumerate(shards)
            if rows is None
        ]
        if missing:
            for folder in folders:
                make_folder(folder, _WHAT)
            self._compute(missing, records, spec, views, together, workers, tell, check)
            for part in missing:
                rows = min(SHARD, len(records) - part.number * SHARD)
                kept = read_rows(part.file, (rows, *shape), _WHAT)
                if kept is None:
                    raise UserError(
                        f"{part.file}: changed while it was written; does something else write "
                        f"there? Set {VARIABLE} to a folder of your own"
                    )
                found[part.view][part.number] = kept
            size = sum(rows.nbytes for shards in found for rows in shards)
            drawn = f" in {counted(len(views), 'epoch')}" if len(views) > 1 else ""
            tell(
                f"frame features of {counted(len(records), 'video')} of {records.name}{drawn}, "
                f"{size / 2**20:.1f} MiB, are kept in {self.folder}"
            )
        return [Stored(shards, records.stored.labels) for shards in found]

    def _key(self, records: Records, spec: BatchSpec, view: int) -> str:
        """The name of a view's folder says all that its features depend on."""
        drawn = [spec.temporal_views, spec.spatial_views]
        if spec.kind == "train":
            drawn = [spec.seed, view, spec.sample, asdict(spec.augment)]
        about = [
            _FORMAT,
            vtd_jax.__version__,
            self._tower,
            # of the videos themselves: what a record folder says of itself may be anybody's
            records.digest,
            spec.kind,
            spec.frames,
            spec.size,
            *drawn,
        ]
        return fingerprint(about)

    def _compute(self, missing, records, spec, views, together, workers, tell, check) -> None:
        """Encodes the videos of missing files, one file after another, and writes them."""
        # a power of two divides a file
        size = min(SHARD, 1 << (max(together, 1).bit_length() - 1))
        spec = replace(
            spec, batch_size=size, epochs=max(views) + 1, shuffle=False, drop_remainder=False
        )
        clips, encoder = BatchIterator(records, spec, workers), compiled_features(*self._program())
        padded = round_up(size, len(self._mesh.devices))
        state = encoder.place(STATE, self._state)

        def place(one: tuple[_Part, Batch]) -> Any:
            return encoder.place(FRAMES, pad_batch(one[1], padded)["frames"])

        def batches() -> Iterator[tuple[_Part, Batch]]:
            for part in missing:
                first = views[part.view] * clips.batches_per_epoch + part.number * SHARD // size
                if clips.get_state()["batch"] != first:
                    clips.set_state(clips.get_state() | {"batch": first})
                videos = min(SHARD, len(records) - part.number * SHARD)
                for _ in range(-(-videos // size)):
                    if check is not None:
                        check()
                    yield part, next(clips)

        total = sum(min(SHARD, len(records) - part.number * SHARD) for part in missing)
        label = f"frame features of {records.name}"
        progress = Progress(label, total, "clip", every=PAUSE, log=tell)
        begun: list[np.ndarray] = []

        def finish(part: _Part, batch: Batch, features: jax.Array) -> None:
            begun.append(np.asarray(features)[: len(batch["weight"])][batch["weight"] > 0])
            progress.add(len(begun[-1]))
            if sum(map(len, begun)) == min(SHARD, len(records) - part.number * SHARD):
                write_rows(part.file, np.concatenate(begun), _WHAT)
                begun.clear()

        with contextlib.closing(clips), progress:
            pending: deque = deque()
            for (part, batch), frames in Ahead(batches(), place):
                pending.append((part, batch, encoder(frames, state)))
                if len(pending) > 1:
                    finish(*pending.popleft())
            while pending:
                finish(*pending.popleft())

    def _program(self) -> tuple[Any, DeviceMesh, str]:
        return self._graphdef, self._mesh, self._parallel


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def encode_views(frames: Array, state: nnx.State, *, graphdef: Any) -> Float[Array, "..."]:
    """Raw frame features of `[B,T,H,W,3]` or, one view after another, of `[B,V,T,H,W,3]`, for one
    device.
    """
    model = nnx.merge(graphdef, state)
    if frames.ndim == 5:
        return model.encode_frames(frames).astype(jnp.float32)
    return jnp.moveaxis(jax.lax.map(model.encode_frames, jnp.moveaxis(frames, 1, 0)), 0, 1).astype(
        jnp.float32
    )


# arguments of the compiled function
FRAMES, STATE = 0, 1


@functools.lru_cache(maxsize=16)
def compiled_features(graphdef: Any, mesh: DeviceMesh, parallel: str) -> Mapped:
    """One compiled program a kind of model; takes `(frames, state)`."""
    encode = functools.partial(encode_views, graphdef=graphdef)
    return Mapped(encode, mesh, (Over.VIDEOS, Over.SAME), Over.VIDEOS, parallel)
