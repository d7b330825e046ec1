"""AdamW at the release's learning-rate rule."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vtd_jax.train.groups import OptimizerConfig


def learning_rate(
    lr: float,
    *,
    steps_per_epoch: int,
    warmup_epochs: float,
    cosine_epochs: float,
    min_lr_factor: float,
    step_interval_epochs: float,
    step_factor: float,
    gradient_accumulation_steps: int = 1,
) -> optax.Schedule:
    """Warm-up, then a cosine counted from step 0, then steps; applied one update late, as released.

    Args:
      lr: peak rate.
      steps_per_epoch: micro-batches an epoch (updates, where `gradient_accumulation_steps` is 1).
      warmup_epochs: linear from 0 to `lr`.
      cosine_epochs: end of the cosine, warm-up not subtracted.
      min_lr_factor: the cosine ends at `lr · min_lr_factor`.
      step_interval_epochs: after the cosine, epochs between two steps.
      step_factor: what each step multiplies the rate by.
      gradient_accumulation_steps: micro-batches an update; the rule counts micro-batches.

    Returns:
      A function of the update count u (from 0): 0 at the first update, afterwards the rule at the
      last micro-batch of the window before, `u · gradient_accumulation_steps - 1`.
    """
    warmup, cosine = warmup_epochs * steps_per_epoch, cosine_epochs * steps_per_epoch
    interval, lowest = step_interval_epochs * steps_per_epoch, lr * min_lr_factor

    def rule(step: Array) -> Array:
        rising = step / max(warmup, 1) * lr
        # (1 + cos x) / 2 = sin((pi - x) / 2)^2, which keeps float32's digits near the end, where x
        # is near pi
        half = jnp.pi / 2 * (cosine - step) / max(cosine, 1)
        falling = lowest + (lr - lowest) * jnp.square(jnp.sin(half))
        steps = jnp.floor_divide(step - cosine, max(interval, 1))
        later = lowest * step_factor ** jnp.maximum(steps, 0)
        return jnp.where(step < warmup, rising, jnp.where(step < cosine, falling, later))

    def schedule(update: int | Int[Array, ""]) -> Float[Array, ""]:
        update = jnp.asarray(update)
        step = (update * gradient_accumulation_steps - 1).astype(jnp.float32)
        return jnp.where(update == 0, 0.0, rule(step))

    return schedule


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
        gradient_accumulation_steps=config.gradient_accumulation_steps,
    )


def make_optimizer(config: OptimizerConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW at the release's rate; `steps_per_epoch` counts micro-batches.

    An update takes the mean gradient of `gradient_accumulation_steps` micro-batches; windows run on
    across epochs (the release drops what is left at an epoch's end).
    """
    adamw = optax.adamw(
        schedule(config, steps_per_epoch),
        config.b1,
        config.b2,
        config.eps,
        weight_decay=config.weight_decay,
    )
    if config.gradient_accumulation_steps == 1:
        return adamw
    return optax.MultiSteps(adamw, config.gradient_accumulation_steps).gradient_transformation()


def update_count(opt_state: optax.OptState) -> Int[Array, ""]:
    """How many updates an optimizer's state has seen."""
    return optax.tree.get_all_with_path(opt_state, "count")[0][1]
