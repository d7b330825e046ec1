"""One training step on one device; named axes connect it with others."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vtd_jax.model.axes import WHOLE, Axes, cross_entropy
from vtd_jax.model.vtd_clip import VTDCLIP, Output

Batch = Mapping[str, Array]


class Split(NamedTuple):
    """A model split into learnable and frozen variables, see `nnx.split`."""

    graphdef: Any
    learnable: nnx.State
    frozen: nnx.State


def split(model: VTDCLIP) -> Split:
    """Splits a model by variable type: `nnx.Param` is learnable, everything else is frozen."""
    return Split(*nnx.split(model, nnx.Param, ...))


def loss_fn(
    learnable: nnx.State,
    frozen: nnx.State,
    graphdef: Any,
    batch: Batch,
    tokens: Int[Array, "k ... l"],
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], Output]]:
    """Cross-entropy of one batch on one device (paper section 3.5): no label smoothing, no mixup.

    `gradients` computes the same over several devices.

    Args:
      learnable, frozen, graphdef: from `split`.
      batch: `frames [B,T,H,W,3]`, or their `features [B,T,D]` from a frozen image tower;
        `label [B]`, `weight [B]` (0 for padding), and `index [B]` if `key` is given.
      tokens: class prompts, one or several texts per class.
      key: the step's dropout key; None switches dropout off.

    Returns:
      The mean loss and (sums, output); `sums` holds `loss`, `correct` and `count`.
    """
    model = nnx.merge(graphdef, learnable, frozen)
    count = batch["weight"].sum()
    loss, sums, output = _share(model, model.encode_classes(tokens), batch, key, count, WHOLE)
    return loss, (sums | {"count": count}, output)


def _share(
    model: VTDCLIP, codebook: Array, batch: Batch, key: Array | None, count: Array, axes: Axes
) -> tuple[Array, dict[str, Array], Output]:
    """This device's share of the global mean loss, sums over its videos, and the output.

    The shares of all devices add up to the loss.
    """
    # one key per video, from its index, so that splitting a batch over devices changes nothing
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    keys = None if key is None else fold_in(key, batch["index"])
    features = batch["features"] if "features" in batch else model.encode_frames(batch["frames"])
    features = axes.gather_frames(features)
    output = model.classify(features, codebook, dropout_keys=keys, axes=axes)
    losses = cross_entropy(output.logits, batch["label"], axes)
    correct = axes.argmax(output.logits) == batch["label"]
    sums = {"loss": (losses * batch["weight"]).sum(), "correct": (correct * batch["weight"]).sum()}
    # a batch may be padding only, with a count of 0; devices along the codebook axis hold the same
    # losses, so each counts for 1 / shards
    weight = axes.varying(batch["weight"], axes.codebook)
    return (losses * weight).sum() / jnp.maximum(count, 1) / axes.shards, sums, output


def gradients(
    learnable: nnx.State,
    frozen: nnx.State,
    graphdef: Any,
    batch: Batch,
    tokens: Int[Array, "c ... l"],
    key: Key[Array, ""] | None = None,
    axes: Axes = WHOLE,
) -> tuple[nnx.State, dict[str, Array]]:
    """The gradient of `loss_fn` over the global batch, for one device of possibly many.

    Args:
      learnable, frozen, graphdef, key: as for `loss_fn`.
      batch: this device's videos, with its share of their frames along the codebook axis.
      tokens: the classes that this device encodes.
      axes: the named axes over which batch and classes are split.

    Returns:
      (gradient, sums), both equal on every device; `sums` holds `loss`, `correct` and `count` of
      the global batch.
    """
    count = batch["weight"].sum()
    count = count if axes.data is None else jax.lax.psum(count, axes.data)

    def encode(learnable: nnx.State) -> Array:
        return axes.gather_classes(nnx.merge(graphdef, learnable, frozen).encode_classes(tokens))

    def share(
        learnable: nnx.State, codebook: Array, videos: Batch
    ) -> tuple[Array, dict[str, Array]]:
        model = nnx.merge(graphdef, learnable, frozen)
        return _share(model, codebook, videos, key, count, axes)[:2]

    # gradients of this device's share, not of the sum over devices, which is taken below
    own = axes.varying(learnable, *axes.names)
    # two parts, so that each device encodes its share of the classes only once
    codebook, pull_back = jax.vjp(encode, own)
    gradient = jax.grad(share, argnums=(0, 1), has_aux=True)
    (grads, of_codebook), sums = gradient(own, codebook, batch)
    grads = jax.tree.map(jnp.add, grads, pull_back(of_codebook)[0])
    if axes.names:
        # along the codebook axis the sums are equal, but the gradients are shares
        grads, sums = jax.lax.psum(grads, axes.names), jax.lax.psum(sums, axes.data)
    return grads, sums | {"count": count}


def train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    learnable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
    tokens: Int[Array, "c ... l"],
    key: Key[Array, ""] | None,
    axes: Axes = WHOLE,
    skip_nonfinite: bool = False,
) -> tuple[nnx.State, optax.OptState, dict[str, Array]]:
    """One micro-batch: gradient of the global mean loss, AdamW, new parameters.

    Arguments as for `gradients`; `optimizer` and `opt_state` are optax's. With `skip_nonfinite`, a
    batch whose loss or gradient is not finite changes nothing.

    Returns:
      `(learnable, opt_state, sums)`; `sums` also has `grad_norm`, the L2 norm of the gradient, and
      `skipped`, 1 or 0.
    """
    grads, sums = gradients(learnable, frozen, graphdef, batch, tokens, key, axes)
    norm = optax.tree.norm(grads)
    updates, new_state = optimizer.update(grads, opt_state, learnable)
    new = optax.apply_updates(learnable, updates), new_state
    skipped = jnp.zeros(())
    if skip_nonfinite:
        finite = jnp.isfinite(norm) & jnp.isfinite(sums["loss"])
        new = jax.tree.map(
            lambda now, before: jnp.where(finite, now, before), new, (learnable, opt_state)
        )
        skipped = 1.0 - finite
    return *new, sums | {"grad_norm": norm, "skipped": skipped}
