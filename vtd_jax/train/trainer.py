"""What a run carries from one micro-batch to the next, and the step that moves it on."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int, UInt32

from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.joining import meet
from vtd_jax.parallel.mesh import BATCH, FEATURES, DeviceMesh, Mapped, Over, pad_batch, round_up
from vtd_jax.train import step as steps
from vtd_jax.train.config import RunConfig
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import make_optimizer, schedule, update_count

# arguments of the compiled step, in their order
LEARNABLE, OPT_STATE, FROZEN, VIDEOS, TOKENS, KEY, STEP = range(7)
_OUTS = (Over.SAME, Over.SAME, Over.SAME)


class TrainState(NamedTuple):
    """All that changes while training, and the key of all that is drawn.

    Attributes:
      step: micro-batches done.
      learnable: the learnable variables.
      opt_state: optax's state.
      key: raw data of the run's random key; every step folds its number in.
    """

    step: int
    learnable: nnx.State
    opt_state: optax.OptState
    key: UInt32[np.ndarray, " n"] | UInt32[Array, " n"]


class Placed(NamedTuple):
    """A batch as a step takes it, on the devices, padded to the same size on every one."""

    videos: Mapping[str, Array]


class Trainer:
    """A model, its optimizer and the compiled step over all devices.

    The result does not depend on the number of devices beyond float32 rounding: the loss is the
    mean over the global batch, padding has weight 0, and every video draws its dropout from a key
    of its own.

    Attributes:
      initial: the state at step 0, in host memory.
      frozen: what is not learnt, on the devices, as programs take it (`VTDCLIP.rounded`).
      mesh: the devices.
    """

    def __init__(
        self,
        config: RunConfig,
        model: VTDCLIP,
        class_names: Sequence[str],
        steps_per_epoch: int,
        devices: Sequence[Any],
    ):
        self._whole = steps.split(model)
        parts = steps.split(model.rounded())
        self.mesh = DeviceMesh(devices, config.codebook_shards)
        meet(self.mesh.mesh)
        settings = StepSettings.of(config, steps_per_epoch, len(class_names))
        optimizer, self._mapped = compiled_step(
            parts.graphdef, settings, self.mesh, config.parallel
        )
        self._arrays = tuple(settings.batch)
        self.frozen = self._mapped.place(FROZEN, parts.frozen)
        self._tokens = self._mapped.place(
            TOKENS, self.mesh.lay_out(model.class_tokens(class_names))
        )
        self._rows = global_batch(config, self.mesh) // self.mesh.hosts
        # copies: a step takes the memory of the state that it is given
        start = jax.tree.map(
            np.array, jax.device_get((parts.learnable, optimizer.init(parts.learnable)))
        )
        self.initial = TrainState(
            0, *start, np.asarray(jax.random.key_data(jax.random.key(config.seed)))
        )

    def place(self, state: TrainState) -> TrainState:
        """A state in host memory on the devices, in memory of its own."""
        step, *arrays = jax.tree.map(np.array, state)
        placed = (
            self._mapped.place(number, part)
            for number, part in zip((LEARNABLE, OPT_STATE, KEY), arrays)
        )
        return TrainState(int(step), *placed)

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Placed:
        """This host's rows on their way to the devices; does not wait for what these are doing."""
        batch = {name: batch[name] for name in self._arrays}
        # 64-bit indices would be cut without a word: JAX computes in 32 bits
        batch["index"] = batch["index"].astype(np.int32)
        return Placed(self._mapped.place(VIDEOS, pad_batch(batch, self._rows)))

    def step(
        self, state: TrainState, batch: Mapping[str, np.ndarray] | Placed
    ) -> tuple[TrainState, dict[str, Array]]:
        """One micro-batch.

        Args:
          state: from `place` or the step before; its memory is taken over, it must not be used
            again.
          batch: this host's rows, or what `place_batch` made of them.

        Returns:
          The next state, and numbers of the global batch that are still on the device: the sums
          `loss`, `correct` and `count`, the gradient's `grad_norm`, the rate `lr` of the update,
          and `skipped`, 1 where nothing was changed because loss or gradient was not finite.
        """
        videos = (batch if isinstance(batch, Placed) else self.place_batch(batch)).videos
        number = self._mapped.place(STEP, np.int32(state.step))
        learnable, opt_state, sums = self._mapped(
            state.learnable, state.opt_state, self.frozen, videos, self._tokens, state.key, number
        )
        return TrainState(state.step + 1, learnable, opt_state, state.key), sums

    def model(self, state: TrainState) -> VTDCLIP:
        """The model with the learnable variables of `state`, copied to this host's first device."""
        first = self.mesh.local_devices[0]
        learnable = jax.device_put(jax.tree.map(np.array, jax.device_get(state.learnable)), first)
        return nnx.merge(self._whole.graphdef, learnable, jax.device_put(self._whole.frozen, first))


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """All that a compiled step depends on beside the model and the mesh.

    Attributes:
      optimizer: without the number of epochs, which no update depends on.
      steps_per_epoch: micro-batches.
      classes: K.
      dropout: whether anything is dropped.
      skip_nonfinite: see `steps.train_step`.
      stored: whether batches hold `features` in the place of `frames`.
    """

    optimizer: OptimizerConfig
    steps_per_epoch: int
    classes: int
    dropout: bool
    skip_nonfinite: bool
    stored: bool = False

    @classmethod
    def of(cls, config: RunConfig, steps_per_epoch: int, classes: int) -> "StepSettings":
        """What a run's config says of its step."""
        return cls(
            dataclasses.replace(config.optimizer, epochs=1),
            steps_per_epoch,
            classes,
            config.model.fusion and config.model.dropout > 0,
            config.on_nonfinite == "skip",
            config.data.stored_views > 0,
        )

    @property
    def batch(self) -> Mapping[str, Over]:
        """The arrays of a batch, and what each is split over."""
        return FEATURES if self.stored else BATCH


def global_batch(config: RunConfig, mesh: DeviceMesh) -> int:
    """Videos of a compiled step over all devices: the batch, padded to equal parts."""
    return round_up(config.data.batch_size, mesh.data_shards)


@functools.lru_cache(maxsize=16)
def compiled_step(
    graphdef: Any, settings: StepSettings, mesh: DeviceMesh, spelling: str = "shard_map"
) -> tuple[optax.GradientTransformation, Mapped]:
    """One compiled program a kind of run: other seeds, videos and weights run through the same one.

    Its arguments are `(learnable, opt_state, frozen, videos, tokens, key, step)`; the first two are
    given up.
    """
    optimizer = make_optimizer(settings.optimizer, settings.steps_per_epoch)
    step = functools.partial(_step, graphdef, optimizer, settings, mesh)
    ins = (Over.SAME, Over.SAME, Over.SAME, settings.batch, Over.CLASSES, Over.SAME, Over.SAME)
    return optimizer, Mapped(step, mesh, ins, _OUTS, spelling, donate=(LEARNABLE, OPT_STATE))


def _step(
    graphdef: Any,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: DeviceMesh,
    learnable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    videos: Mapping[str, Array],
    tokens: Array,
    key: Array,
    step: Int[Array, ""],
) -> tuple[nnx.State, optax.OptState, dict[str, Array]]:
    """`steps.train_step` of one device, with the step's key and rate."""
    # 1 sets training apart from what else a seed is used for
    drawn = (
        jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), 1), step)
        if settings.dropout
        else None
    )
    rate = schedule(settings.optimizer, settings.steps_per_epoch)(update_count(opt_state))
    *state, sums = steps.train_step(
        graphdef,
        optimizer,
        learnable,
        opt_state,
        frozen,
        videos,
        tokens,
        drawn,
        mesh.axes(settings.classes),
        settings.skip_nonfinite,
    )
    return *state, sums | {"lr": rate}
