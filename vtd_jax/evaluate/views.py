"""Scores of videos: the sum over views of softmax(logits), every video once."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from vtd_jax.cache.frame_features import FeatureStore
from vtd_jax.cache.shards import NotKept
from vtd_jax.errors import UserError, setting
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.finite import finite_rows
from vtd_jax.model.axes import Axes
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.joining import meet
from vtd_jax.parallel.mesh import DeviceMesh, Mapped, Over, pad_batch, round_up, run_devices
from vtd_jax.parallel.prefetch import Prefetcher
from vtd_jax.parallel.processes import gather_rows, process_count, process_index
from vtd_jax.terminal import log, warn
from vtd_jax.video.pipeline import BatchIterator, eval_batches
from vtd_jax.video.records import Records
from vtd_jax.video.scaling.fit import Fit

# most bytes of a split's frame features that are kept on disk
MOST_KEPT = 4 * 2**30
# batches on the devices before the results of the first are read
IN_FLIGHT = 2


def evaluate(
    model: VTDCLIP,
    splits: Mapping[str, Records],
    *,
    frames: int,
    batch_size: int,
    temporal_views: int = 1,
    spatial_views: int = 1,
    workers: int = 0,
    devices: Sequence[jax.Device] | None = None,
    parallel: str = "shard_map",
    check: Callable[[], None] | None = None,
    store: FeatureStore | None = None,
) -> dict[str, SplitResult]:
    """Scores every video of every split, each split with a codebook of its own class names.

    Args:
      model: read only.
      splits: name -> records.
      frames: T, frames sampled from each view.
      batch_size: videos of a batch, over all devices of all hosts.
      temporal_views, spatial_views: V is their product (docs/method.md, section 6).
      workers: decoding processes, 0 for none.
      devices: of all hosts; None for all.
      parallel: "shard_map" or "pmap".
      check: called before every batch; may raise to stop the evaluation.
      store: frame features of this model's image tower, which are read, or computed and kept, up to
        `MOST_KEPT` bytes a split. If they cannot be kept, a line on stderr says so.

    Returns:
      Split -> result, the same on every host.
    """
    devices = run_devices() if devices is None else devices
    hosts = process_count()
    results = {}
    for name, records in splits.items():
        if not len(records):
            raise UserError(f"records of split {name}: no videos in them, nothing to evaluate")
        # before anything is scored: damaged records must be reported now
        files = records.files
        clips = eval_batches(
            records,
            frames=frames,
            size=model.clip.config.image_resolution,
            # every host reads an equal share
            batch_size=round_up(batch_size, hosts),
            temporal_views=temporal_views,
            spatial_views=spatial_views,
            workers=workers,
            host_index=process_index(),
            host_count=hosts,
            fit=Fit(**model.scaling),
        )
        try:
            batches = clips if store is None else _stored(store, records, clips, workers, check)
            result = evaluate_split(
                model, batches, records.class_names, devices=devices, parallel=parallel, check=check
            )
        finally:
            clips.close()
        if result.count != len(records):
            raise RuntimeError(
                f"split {name}: {result.count} videos were scored, the records hold {len(records)}"
            )
        if lost := int((~finite_rows(result.scores)).sum()):
            warn(
                f"split {name}: scores of {lost} of {len(records)} videos are NaN or infinite; "
                "they count as wrong"
            )
        results[name] = replace(result, videos=files)
    return results


def evaluate_split(
    model: VTDCLIP,
    batches: Iterable[Mapping[str, np.ndarray]],
    class_names: Sequence[str],
    *,
    devices: Sequence[jax.Device] | None = None,
    parallel: str = "shard_map",
    check: Callable[[], None] | None = None,
) -> SplitResult:
    """Scores the videos of one split; the codebook is computed once.

    Args:
      model: read only.
      batches: dicts of `frames` (uint8 `[B,T,H,W,3]`, or `[B,V,T,H,W,3]` with V views) or their raw
        frame `features` (`[B,T,D]` or `[B,V,T,D]`), `label [B]`, `weight [B]` (0 for padding) and
        `index [B]` (of a video in its records, by which rows are sorted).
      class_names: K names of the codebook.
      devices: of all hosts; None for all.
      parallel: "shard_map" or "pmap".
      check: called before every batch; may raise.

    Raises:
      RuntimeError: a repeated index.
    """
    graphdef, state = nnx.split(model.rounded())
    mesh = DeviceMesh(run_devices() if devices is None else devices)
    meet(mesh.mesh)
    scorer = compiled_scorer(graphdef, mesh, parallel)
    encoder = compiled_encoder(graphdef, mesh, len(class_names), parallel)
    state = scorer.place(STATE, state)
    tokens = mesh.lay_out(model.class_tokens(class_names))
    codebook = encoder(encoder.place(0, tokens), state)
    rows = _score_all(scorer, _checked(batches, check), state, codebook, len(class_names))
    scores, tied, labels, place = (gather_rows(column) for column in rows)
    if len(np.unique(place)) != len(place):
        raise RuntimeError("a video came twice in one pass over its records")
    order = np.argsort(place)
    # without fusion no video token takes part in a score
    tied = None if model.fusion is None else tied[order]
    return SplitResult(tuple(class_names), scores[order], labels[order].astype(np.int32), tied=tied)


def _stored(
    store: FeatureStore,
    records: Records,
    clips: BatchIterator,
    workers: int,
    check: Callable[[], None] | None,
) -> Iterable[Mapping[str, np.ndarray]]:
    """Batches of stored frame features, computed if missing; `clips` if they are too large."""
    spec = clips.spec
    size = 4 * len(records) * spec.temporal_views * spec.spatial_views * spec.frames * store.width
    if size > MOST_KEPT:
        need = f"{size / 2**30:.1f} GiB, more than {MOST_KEPT / 2**30:.1f}"
        log(f"frame features of {records.name} would take {need}: not kept")
        return clips
    try:
        [stored] = store.open(
            records, spec, batch_size=spec.batch_size, workers=workers, check=check
        )
    except NotKept as error:
        warn(f"{error}, or {setting('evaluate.store_features', False)}")
        return clips
    return stored.batches(spec.batch_size)


def _score_all(
    scorer: Mapped,
    batches: Iterable[Mapping[str, np.ndarray]],
    state: Any,
    codebook: Any,
    classes: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Videos of this host, without padding: scores `[N, K]`, ties, labels and indices `[N]`."""
    mesh, pending = scorer.mesh, deque()
    scores, ties = [np.zeros((0, classes), np.float32)], [np.zeros(0, bool)]
    labels, index = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]

    def place(batch: Mapping[str, np.ndarray]) -> Any:
        padded = pad_batch(batch, round_up(len(batch["weight"]), len(mesh.local_devices)))
        return scorer.place(FRAMES, padded["features" if "features" in batch else "frames"])

    def read(real: np.ndarray, found: Any) -> None:
        for column, rows in zip((scores, ties), found, strict=True):
            column.append(mesh.local_rows(rows)[: len(real)][real])

    for batch, videos in Prefetcher(batches, place):
        real = batch["weight"] > 0
        labels.append(batch["label"][real])
        index.append(batch["index"][real])
        pending.append((real, scorer(videos, state, codebook)))
        if len(pending) == IN_FLIGHT:
            read(*pending.popleft())
    for one in pending:
        read(*one)
    return tuple(map(np.concatenate, (scores, ties, labels, index)))


def _checked(batches: Iterable[Any], check: Callable[[], None] | None) -> Iterator[Any]:
    for batch in batches:
        if check is not None:
            check()
        yield batch


def view_scores(
    videos: Array, state: nnx.State, codebook: Float[Array, "k d"], *, graphdef: Any
) -> tuple[Float[Array, "b k"], Bool[Array, " b"]]:
    """Scores, and whether votes tie in any view, on one device; one view after another.

    `videos` are frames `[B,T,H,W,3]` or raw frame features `[B,T,D]`, or several views of them,
    `[B,V,…]`. Scores are the sum over views of softmax(logits). Without fusion nothing ties.
    """
    model = nnx.merge(graphdef, state)

    def one(view: Array) -> tuple[Array, Array]:
        features = view if view.ndim == 3 else model.encode_frames(view)
        found = model.classify(features, codebook)
        # without fusion votes have no effect on scores, and XLA need not count them
        tied = jnp.zeros(len(view), bool) if model.fusion is None else found.tied
        return jax.nn.softmax(found.logits.astype(jnp.float32), axis=-1), tied

    if videos.ndim in (3, 5):
        return one(videos)
    scores, tied = jax.lax.map(one, jnp.moveaxis(videos, 1, 0))
    return scores.sum(0), tied.any(0)


def encode_codebook(
    tokens: Array, state: nnx.State, *, graphdef: Any, axes: Axes
) -> Float[Array, "k d"]:
    """The codebook, replicated; each device encodes its share of the classes."""
    encoded = nnx.merge(graphdef, state).encode_classes(tokens)
    return axes.gather_classes(encoded, to="invarying")


# arguments of the compiled functions
FRAMES, STATE = 0, 1


@functools.lru_cache(maxsize=16)
def compiled_scorer(graphdef: Any, mesh: DeviceMesh, parallel: str) -> Mapped:
    """The compiled `view_scores` of a model, `(frames, state, codebook)`, cached."""
    score = functools.partial(view_scores, graphdef=graphdef)
    ins = (Over.VIDEOS, Over.SAME, Over.SAME)
    return Mapped(score, mesh, ins, Over.VIDEOS, parallel, check_vma=mesh.check_vma)


@functools.lru_cache(maxsize=16)
def compiled_encoder(graphdef: Any, mesh: DeviceMesh, classes: int, parallel: str) -> Mapped:
    """The compiled `encode_codebook` of a model and number of classes, cached."""
    encode = functools.partial(encode_codebook, graphdef=graphdef, axes=mesh.axes(classes))
    ins = (Over.CLASSES, Over.SAME)
    return Mapped(encode, mesh, ins, Over.SAME, parallel, check_vma=mesh.check_vma)
