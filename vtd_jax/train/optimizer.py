"""The release's learning-rate rule."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def learning_rate(
    lr: float,
    *,
    steps_per_epoch: int,
    warmup_epochs: float,
    cosine_epochs: float,
    min_lr_factor: float,
    step_interval_epochs: float,
    step_factor: float,
    accumulation: int = 1,
) -> optax.Schedule:
    """Warm-up, then a cosine counted from step 0, then steps; applied one update late, as released.

    Args:
      lr: peak rate.
      steps_per_epoch: micro-batches an epoch (updates, where `accumulation` is 1).
      warmup_epochs: linear from 0 to `lr`.
      cosine_epochs: end of the cosine, warm-up not subtracted.
      min_lr_factor: the cosine ends at `lr · min_lr_factor`.
      step_interval_epochs: after the cosine, epochs between two steps.
      step_factor: what each step multiplies the rate by.
      accumulation: micro-batches an update; the rule counts micro-batches.

    Returns:
      A function of the update count u (from 0): 0 at the first update, afterwards the rule at the
      last micro-batch of the window before, `u · accumulation - 1`.
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
        step = (update * accumulation - 1).astype(jnp.float32)
        return jnp.where(update == 0, 0.0, rule(step))

    return schedule
