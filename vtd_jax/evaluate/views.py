"""Scores of videos: one view, or the sum over views of softmax(logits); every video once."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train.parallel import Mapped, local_devices, pad_batch, round_up
from vtd_jax.video.pipeline import eval_batches
from vtd_jax.video.records import Records


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
) -> dict[str, SplitResult]:
    """Scores every video of every split, each split against a codebook of its own class names.

    Args:
      model: read only; its `config.pooling`, prompts and fusion decide what is evaluated.
      splits: name -> records.
      frames: T, frames sampled from each view.
      batch_size: videos at once, over all devices.
      temporal_views, spatial_views: V is their product (method, section 6).
      workers: decoding processes, 0 for none.
      devices: local devices; None for all.
      parallel: "shard_map" or "pmap".
    """
    results = {}
    for name, records in splits.items():
        if not len(records):
            raise UserError(f"records of split {name}: no videos in them, nothing to evaluate")
        batches = eval_batches(
            records,
            frames=frames,
            size=model.clip.config.image_resolution,
            batch_size=batch_size,
            temporal_views=temporal_views,
            spatial_views=spatial_views,
            workers=workers,
        )
        try:
            result = evaluate_split(model, batches, records.class_names, devices=devices, parallel=parallel)
        finally:
            batches.close()
        if result.count != len(records):
            raise RuntimeError(f"split {name}: {result.count} videos were scored, the records hold {len(records)}")
        results[name] = result
    return results


def evaluate_split(
    model: VTDCLIP,
    batches: Iterable[Mapping[str, np.ndarray]],
    class_names: Sequence[str],
    *,
    devices: Sequence[jax.Device] | None = None,
    parallel: str = "shard_map",
) -> SplitResult:
    """Scores the videos of one split; the codebook is computed once.

    Args:
      model: read only.
      batches: dicts of `frames` (uint8 `[B,T,H,W,3]`, or `[B,V,T,H,W,3]` with V views), `label [B]`, `weight [B]` (0
        marks padding, which is left out) and `index [B]` (a video's place in its records; rows are put in this order).
      class_names: K names of the codebook.
      devices: local devices that share each batch; None for all.
      parallel: "shard_map" or "pmap".

    Raises:
      RuntimeError: an index that comes twice; a video would be counted twice.
    """
    devices = tuple(devices or local_devices())
    graphdef, state = nnx.split(model)
    scorer = _scorer(graphdef, devices, parallel)
    state = scorer.replicate(state)
    codebook = scorer.replicate(_encoder(graphdef)(state, jnp.asarray(model.class_tokens(class_names))))
    scores, labels, index = [], [], []
    for batch in batches:
        real = batch["weight"] > 0
        padded = pad_batch(batch, round_up(len(real), len(devices)))
        found, _ = scorer(padded["frames"], state, codebook)
        scores.append(np.asarray(found)[: len(real)][real])
        labels.append(batch["label"][real])
        index.append(batch["index"][real])
    place = np.concatenate(index) if index else np.zeros(0, np.int64)
    if len(np.unique(place)) != len(place):
        raise RuntimeError("a video came twice in one pass over its records")
    order = np.argsort(place)
    empty = [np.zeros((0, len(class_names)), np.float32)]
    return SplitResult(
        tuple(class_names),
        np.concatenate(scores or empty)[order],
        np.concatenate(labels or [np.zeros(0)])[order].astype(np.int32),
    )


def view_scores(
    frames: Array,
    state: nnx.State,
    codebook: Float[Array, "k d"],
    *,
    graphdef: Any,
    axis_name: str | None = None,
) -> tuple[Float[Array, "b k"], tuple[()]]:
    """Sum over views of softmax(logits), for one device; views go one after another, so memory is that of one.

    Videos do not meet, so `axis_name` is there for the mapping only.
    """
    del axis_name
    model = nnx.merge(graphdef, state)

    def one(view: Array) -> Array:
        return jax.nn.softmax(model(view, codebook).logits.astype(jnp.float32), axis=-1)

    if frames.ndim == 5:
        return one(frames), ()
    return jax.lax.map(one, jnp.moveaxis(frames, 1, 0)).sum(0), ()


@functools.lru_cache(maxsize=16)
def _scorer(graphdef: Any, devices: tuple[jax.Device, ...], parallel: str) -> Mapped:
    """One compiled program a kind of model, however often it is evaluated."""
    return Mapped(functools.partial(view_scores, graphdef=graphdef), devices, parallel)


@functools.lru_cache(maxsize=16)
def _encoder(graphdef: Any) -> Any:
    return jax.jit(lambda state, tokens: nnx.merge(graphdef, state).encode_classes(tokens))
