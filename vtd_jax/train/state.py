"""What a run carries from one micro-batch to the next, and the step that moves it on."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int32

from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step as steps
from vtd_jax.train.config import RunConfig
from vtd_jax.train.parallel import Mapped, pad_batch, round_up


class TrainState(NamedTuple):
    """All that changes while training.

    Attributes:
      step: micro-batches done.
      learnable: the learnable variables.
      opt_state: optax's state.
      key: raw data of the base key of dropout, constant over a run.
    """

    step: int
    learnable: nnx.State
    opt_state: optax.OptState
    key: np.ndarray


class Trainer:
    """A model, its optimizer and the compiled step over all devices.

    The result does not depend on the number of devices beyond float32 rounding: the loss is the mean over the global
    batch, padding has weight 0, and every video draws its dropout from a key of its own.
    """

    def __init__(
        self,
        config: RunConfig,
        model: VTDCLIP,
        class_names: Sequence[str],
        steps_per_epoch: int,
        devices: Sequence[Any],
    ):
        parts = steps.split(model)
        self._graphdef, self._devices = parts.graphdef, tuple(devices)
        self._rate = steps.schedule(config.optimizer, steps_per_epoch)
        self._accumulation = config.optimizer.accumulation
        optimizer, self._mapped = _compiled(
            parts.graphdef, _timeless(config.optimizer), steps_per_epoch, self._devices, config.parallel
        )
        self.frozen = self._mapped.replicate(parts.frozen)
        self._tokens: Int32[np.ndarray, "k l"] = model.class_tokens(class_names)
        dropout = config.model.fusion and config.model.dropout > 0
        self._key = jax.random.fold_in(jax.random.key(config.seed), 1) if dropout else None
        self._size = round_up(config.data.batch_size, len(self._devices))
        key = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
        self.initial = TrainState(0, parts.learnable, optimizer.init(parts.learnable), key)
        self._skip = config.on_nonfinite == "skip"

    def place(self, state: TrainState) -> TrainState:
        """A state on the devices."""
        return TrainState(state.step, *self._mapped.replicate((state.learnable, state.opt_state)), state.key)

    def step(self, state: TrainState, batch: Mapping[str, np.ndarray]) -> tuple[TrainState, dict[str, Array]]:
        """One micro-batch, padded to the same size on every device.

        Returns the next state and `loss`, `correct` and `count`, sums over the batch that are still on the device.
        """
        key = None if self._key is None else jax.random.fold_in(self._key, state.step)
        batch = {name: batch[name] for name in ("frames", "label", "weight", "index")}
        # 64-bit indices would be cut without a word: JAX computes in 32 bits
        batch["index"] = batch["index"].astype(np.int32)
        padded = pad_batch(batch, self._size)
        _, (learnable, opt_state, sums) = self._mapped(
            padded, state.learnable, state.opt_state, self.frozen, self._tokens, key
        )
        skipped = self._skip and not bool(sums.pop("finite"))
        if skipped:
            learnable, opt_state = state.learnable, state.opt_state
        sums = dict(sums, skipped=np.float32(skipped), lr=np.float32(self.rate(state.step)))
        sums.pop("finite", None)
        return TrainState(state.step + 1, learnable, opt_state, state.key), sums

    def rate(self, step: int) -> float:
        """The learning rate of the update that micro-batch number `step` (from 0) is part of."""
        return float(self._rate(step // self._accumulation))

    def model(self, state: TrainState) -> VTDCLIP:
        """The model with the learnable variables of `state`."""
        first = self._devices[0]
        return nnx.merge(self._graphdef, *jax.device_put((state.learnable, self.frozen), first))


def _timeless(config: steps.OptimizerConfig) -> steps.OptimizerConfig:
    """The settings without the number of epochs, which no update depends on."""
    return dataclasses.replace(config, epochs=1)


@functools.lru_cache(maxsize=16)
def _compiled(
    graphdef: Any,
    config: steps.OptimizerConfig,
    steps_per_epoch: int,
    devices: tuple[jax.Device, ...],
    parallel: str,
) -> tuple[optax.GradientTransformation, Mapped]:
    """One compiled program a kind of run: other seeds, videos and weights run through the same one."""
    optimizer = steps.make_optimizer(config, steps_per_epoch)
    return optimizer, Mapped(functools.partial(_step, graphdef, optimizer), devices, parallel)


def _step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    batch: Mapping[str, Array],
    learnable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    tokens: Array,
    key: Array | None,
    *,
    axis_name: str,
) -> tuple[tuple[()], tuple[nnx.State, optax.OptState, dict[str, Array]]]:
    """`steps.train_step` in the form that `Mapped` asks for."""
    return (), steps.train_step(graphdef, optimizer, learnable, opt_state, frozen, batch, tokens, key, axis_name)
