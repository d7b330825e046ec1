"""One training step and one evaluation step, for one device of possibly many (a named axis joins them)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP, Output
from vtd_jax.train.schedule import learning_rate

Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW on every learnable parameter (biases too) and the release's learning-rate rule.

    Attributes:
      lr: peak rate.
      epochs: passes over the training videos.
      warmup_epochs, cosine_epochs, min_lr_factor, step_interval_epochs, step_factor: see `schedule.learning_rate`.
      weight_decay, b1, b2, eps: AdamW's.
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
        for field, lowest in (("lr", 0), ("warmup_epochs", 0), ("cosine_epochs", 0), ("weight_decay", 0)):
            if getattr(self, field) < lowest:
                raise UserError(f"optimizer.{field}: {getattr(self, field)}, expected {lowest} or more")
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
                raise UserError(f"optimizer.{field}: {getattr(self, field)}, expected 0 or more and less than 1")


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

    With accumulation an update takes the mean gradient of its micro-batches; windows run on across epochs (the release
    drops what is left at an epoch's end).
    """
    adamw = optax.adamw(
        schedule(config, steps_per_epoch), config.b1, config.b2, config.eps, weight_decay=config.weight_decay
    )
    if config.accumulation == 1:
        return adamw
    return optax.MultiSteps(adamw, config.accumulation).gradient_transformation()


def dropout_keys(key: Key[Array, ""], batch: Batch) -> Key[Array, " b"]:
    """A key a video, from the step's key and the video's index: the same however a batch is split over devices."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])


def loss_fn(
    learnable: nnx.State,
    frozen: nnx.State,
    graphdef: Any,
    batch: Batch,
    tokens: Int[Array, "k l"],
    key: Key[Array, ""] | None = None,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], Output]]:
    """Cross-entropy of one batch (paper section 3.5): no label smoothing, no mixup.

    Args:
      learnable, frozen, graphdef: from `split`.
      batch: `frames [B,T,H,W,3]`, `label [B]`, `weight [B]` (0 for padding), `index [B]` where `key` is given.
      tokens: class prompts.
      key: the step's dropout key; None switches dropout off.
      axis_name: mapped axis over which the global batch is split.

    Returns:
      This device's share of the global mean loss (shares add up over `axis_name`), and (sums, output); `sums` holds
      `loss`, `correct` and `count` over the whole global batch.
    """
    model = nnx.merge(graphdef, learnable, frozen)
    codebook = model.encode_classes(tokens)
    keys = None if key is None else dropout_keys(key, batch)
    output = model(batch["frames"], codebook, dropout_keys=keys)
    losses = optax.softmax_cross_entropy_with_integer_labels(output.logits, batch["label"])
    correct = output.logits.argmax(-1) == batch["label"]
    weight = batch["weight"]
    sums = {"loss": (losses * weight).sum(), "correct": (correct * weight).sum(), "count": weight.sum()}
    local = sums["loss"]
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    return local / jnp.maximum(sums["count"], 1), (sums, output)


def train_step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    learnable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
    tokens: Int[Array, "k l"],
    key: Key[Array, ""] | None,
    axis_name: str | None = None,
) -> tuple[nnx.State, optax.OptState, dict[str, Array]]:
    """One micro-batch: gradient of the global mean loss, AdamW, new parameters.

    Arguments as `loss_fn`'s; `optimizer` and `opt_state` as optax's. Returns `(learnable, opt_state, sums)`.
    """
    gradient = jax.grad(loss_fn, has_aux=True)
    grads, (sums, _) = gradient(learnable, frozen, graphdef, batch, tokens, key, axis_name)
    if axis_name is not None:
        grads = jax.lax.psum(grads, axis_name)
    norm = optax.tree.norm(grads)
    sums |= {"grad_norm": norm, "finite": jnp.isfinite(norm) & jnp.isfinite(sums["loss"])}
    updates, opt_state = optimizer.update(grads, opt_state, learnable)
    return optax.apply_updates(learnable, updates), opt_state, sums
