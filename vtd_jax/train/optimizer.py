"""AdamW with the release's learning-rate rule."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vtd_jax.train.groups import OptimizerConfig


def learning_rate(config: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """Warm-up, then a cosine counted from step 0, then steps; one update late, as in the release.

    Args:
      config: its rates, epochs and factors.
      steps_per_epoch: micro-batches an epoch; the rule counts these.

    Returns:
      A function of the update count u (from 0): 0 at the first update, then the rule at the last
      micro-batch of the update before, `u · gradient_accumulation_steps - 1`.
    """
    lr, lowest = config.lr, config.lr * config.min_lr_factor
    warmup = config.warmup_epochs * steps_per_epoch
    cosine = config.cosine_epochs * steps_per_epoch
    interval = config.step_interval_epochs * steps_per_epoch

    def rule(step: Array) -> Array:
        rising = step / max(warmup, 1) * lr
        # (1 + cos x) / 2 = sin((pi - x) / 2)^2, which stays accurate in float32 near x = pi
        half = jnp.pi / 2 * (cosine - step) / max(cosine, 1)
        falling = lowest + (lr - lowest) * jnp.square(jnp.sin(half))
        steps = jnp.floor_divide(step - cosine, max(interval, 1))
        later = lowest * config.step_factor ** jnp.maximum(steps, 0)
        return jnp.where(step < warmup, rising, jnp.where(step < cosine, falling, later))

    def schedule(update: int | Int[Array, ""]) -> Float[Array, ""]:
        update = jnp.asarray(update)
        step = (update * config.gradient_accumulation_steps - 1).astype(jnp.float32)
        # the release sets the rate after an update, so the first one runs at 0
        return jnp.where(update == 0, 0.0, rule(step))

    return schedule


def make_optimizer(config: OptimizerConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW at the release's rate; `steps_per_epoch` counts micro-batches.

    An update uses the mean gradient of `gradient_accumulation_steps` micro-batches, also across the
    end of an epoch, where the release drops the rest.
    """
    rate, decay = learning_rate(config, steps_per_epoch), config.weight_decay
    adamw = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=decay)
    if config.gradient_accumulation_steps == 1:
        return adamw
    return optax.MultiSteps(adamw, config.gradient_accumulation_steps).gradient_transformation()


def update_count(opt_state: optax.OptState) -> Int[Array, ""]:
    """The number of updates that an optimizer's state has seen."""
    return optax.tree.get_all_with_path(opt_state, "count")[0][1]
