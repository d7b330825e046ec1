"""One training step, for one device of possibly many (named axes join them)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vtd_jax.errors import UserError
from vtd_jax.model.axes import WHOLE, Axes, cross_entropy
from vtd_jax.model.vtd_clip import VTDCLIP, Output
from vtd_jax.train.optimizer import learning_rate

Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on every learnable parameter (biases too) and the release's learning-rate rule.

    Attributes:
      lr: peak learning rate, see `schedule.learning_rate` for the rule.
      epochs: passes over the training videos.
      warmup_epochs: epochs in which the rate rises from 0 to `lr`.
      cosine_epochs: epoch at which the cosine ends, counted from the start.
      min_lr_factor: the cosine ends at this share of `lr`.
      step_interval_epochs: after the cosine, epochs between two steps of the rate.
      step_factor: what each of these steps multiplies the rate by.
      weight_decay: AdamW's, on every learnable parameter.
      b1, b2: AdamW's decay of the first and of the second moment.
      eps: AdamW's, added to the root of the second moment.
      accumulation: micro-batches whose mean gradient makes one update.
    """

    lr: float = 4e-4
    epochs: int = 100
    warmup_epochs: float = 5.0
    cosine_epochs: float = 25.0
    min_lr_factor: float = 0.1
    step_interval_epochs: float = 5.0
    step_factor: float = 0.5
    weight_decay: float = 0.001
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-8
    accumulation: int = 1

    def __post_init__(self):
        for field, lowest in (
            ("lr", 0),
            ("warmup_epochs", 0),
            ("cosine_epochs", 0),
            ("weight_decay", 0),
        ):
            if getattr(self, field) < lowest:
                raise UserError(
                    f"optimizer.{field}: {getattr(self, field)}, expected {lowest} or more"
                )
        for field in (
            "epochs",
            "accumulation",
            "eps",
            "min_lr_factor",
            "step_factor",
            "step_interval_epochs",
        ):
            if not getattr(self, field) > 0:
                raise UserError(f"optimizer.{field}: {getattr(self, field)}, expected more than 0")
        for field in ("b1", "b2"):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(
                    f"optimizer.{field}: {getattr(self, field)}, expected 0 or more and less than 1"
                )


class Split(NamedTuple):
    """A model taken apart: what gradients see, what they do not, and how to put it together."""

    graphdef: Any
    learnable: nnx.State
    frozen: nnx.State


def split(model: VTDCLIP) -> Split:
    """Takes a model apart by variable type: `nnx.Param` is learnable, everything else is frozen."""
    return Split(*nnx.split(model, nnx.Param, ...))


def schedule(config: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """The rate of every update; `steps_per_epoch` counts micro-batches."""
    return learning_rate(
        config.lr,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=config.warmup_epochs,
        cosine_epochs=config.cosine_epochs,
        min_lr_factor=config.min_lr_factor,
        step_interval_epochs=config.step_interval_epochs,
        step_factor=config.step_factor,
        accumulation=config.accumulation,
    )


def make_optimizer(config: OptimizerConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW at the release's rate; `steps_per_epoch` counts micro-batches.

    With accumulation an update takes the mean gradient of its micro-batches; windows run on across
    epochs (the release drops what is left at an epoch's end).
    """
    adamw = optax.adamw(
        schedule(config, steps_per_epoch),
        config.b1,
        config.b2,
        config.eps,
        weight_decay=config.weight_decay,
    )
    if config.accumulation == 1:
        return adamw
    return optax.MultiSteps(adamw, config.accumulation).gradient_transformation()


def update_count(opt_state: optax.OptState) -> Int[Array, ""]:
    """How many updates an optimizer's state has seen."""
    return optax.tree.get_all_with_path(opt_state, "count")[0][1]


def dropout_keys(key: Key[Array, ""], batch: Batch) -> Key[Array, " b"]:
    """A key a video, from the step's key and the video's index: the same however a batch is split
    over devices.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])


def loss_fn(
    learnable: nnx.State,
    frozen: nnx.State,
    graphdef: Any,
    batch: Batch,
    tokens: Int[Array, "k ... l"],
    key: Key[Array, ""] | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], Output]]:
    """Cross-entropy of one batch on one device (paper section 3.5): no label smoothing, no mixup.

    The plain reference of what `gradients` splits over devices and microbatches.

    Args:
      learnable, frozen, graphdef: from `split`.
      batch: `frames [B,T,H,W,3]`, or `features [B,T,D]` that a frozen image tower made of them;
        `label [B]`, `weight [B]` (0 for padding), `index [B]` where `key` is given.
      tokens: class prompts, one text a class or several.
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
    """This device's share of the global mean loss (the shares of all devices add up), sums over its
    videos, output.
    """
    keys = None if key is None else dropout_keys(key, batch)
    features = batch["features"] if "features" in batch else model.encode_frames(batch["frames"])
    features = axes.gather_frames(features)
    output = model.classify(features, codebook, dropout_keys=keys, axes=axes)
    losses = cross_entropy(output.logits, batch["label"], axes)
    correct = axes.argmax(output.logits) == batch["label"]
    sums = {"loss": (losses * batch["weight"]).sum(), "correct": (correct * batch["weight"]).sum()}
    # devices along the codebook axis hold the same losses
    return sums["loss"] / jnp.maximum(count, 1) / axes.shards, sums, output


def gradients(
    learnable: nnx.State,
    frozen: nnx.State,
    graphdef: Any,
    batch: Batch,
    tokens: Int[Array, "c ... l"],
    key: Key[Array, ""] | None = None,
    axes: Axes = WHOLE,
    microbatches: int = 1,
) -> tuple[nnx.State, dict[str, Array]]:
    """The gradient of `loss_fn` over the global batch, for one device of possibly many.

    Args:
      learnable, frozen, graphdef, key: as `loss_fn`'s.
      batch: this device's videos, and of their frames its share along the codebook axis.
      tokens: the classes that this device encodes.
      axes: named axes over which batch and classes are split.
      microbatches: equal parts of the videos that go one after another, so that activations of one
        part are alive at a time; the codebook is encoded once.

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
        return _share(nnx.merge(graphdef, learnable, frozen), codebook, videos, key, count, axes)[
            :2
        ]

    codebook, pull_back = jax.vjp(encode, learnable)
    gradient = jax.grad(share, argnums=(0, 1), has_aux=True)
    if microbatches == 1:
        (grads, of_codebook), sums = gradient(learnable, codebook, batch)
    else:
        parts = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), dict(batch))

        def add(total: Any, videos: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradient(learnable, codebook, videos)), None

        zero = jax.tree.map(
            jnp.zeros_like, ((learnable, codebook), {"loss": count, "correct": count})
        )
        ((grads, of_codebook), sums), _ = jax.lax.scan(add, zero, parts)
    grads = jax.tree.map(jnp.add, grads, pull_back(of_codebook)[0])
    if axes.names:
        # devices along the codebook axis have the same sums, but shares of the gradient
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
    microbatches: int = 1,
    skip_nonfinite: bool = False,
) -> tuple[nnx.State, optax.OptState, dict[str, Array]]:
    """One micro-batch: gradient of the global mean loss, AdamW, new parameters.

    Arguments as those of `gradients`; `optimizer` and `opt_state` as optax's. With `skip_nonfinite`
    a batch whose loss or gradient is not finite changes nothing.

    Returns:
      `(learnable, opt_state, sums)`; `sums` also has `grad_norm`, the L2 norm of the gradient, and
      `skipped`, 1 or 0.
    """
    grads, sums = gradients(learnable, frozen, graphdef, batch, tokens, key, axes, microbatches)
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
