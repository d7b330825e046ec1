"""The state of a run and its compiled training step."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
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
from vtd_jax.train.optimizer import learning_rate, make_optimizer, update_count


class StepArguments(NamedTuple):
    """The arguments of the compiled step, in their order.

    Attributes:
      learnable, opt_state, key: see `TrainState`.
      frozen: all other variables.
      videos: arrays of the batch by name.
      tokens: class tokens, laid out over the devices.
      number: of the micro-batch, from 0.
    """

    learnable: Any
    opt_state: Any
    frozen: Any
    videos: Any
    tokens: Any
    key: Any
    number: Any


class TrainState(NamedTuple):
    """Everything that changes in training, and the random key.

    Attributes:
      step: micro-batches done.
      learnable: the learnable variables.
      opt_state: optax's state.
      key: raw data of the run's random key; every step folds its number into it.
    """

    step: int
    learnable: nnx.State
    opt_state: optax.OptState
    key: UInt32[np.ndarray, " n"] | UInt32[Array, " n"]


class Trainer:
    """A model, its optimizer and the compiled step over all devices.

    Results do not depend on the number of devices, up to float32 rounding: the loss is the mean
    over the global batch, padding has weight 0, and every video has its own dropout key.

    Attributes:
      initial: the state at step 0, in host memory.
      frozen: the frozen variables on the devices, in compute precision (`VTDCLIP.rounded`).
      mesh: the devices.
      text_length: L, tokens of the texts of class names.
    """

    def __init__(
        self,
        config: RunConfig,
        model: VTDCLIP,
        class_names: Sequence[str],
        steps_per_epoch: int,
        devices: Sequence[Any],
    ):
        """
        Args:
          config: the run.
          model: the initial model; not changed.
          class_names: the K names to learn.
          steps_per_epoch: micro-batches.
          devices: of all processes.
        """
        self._whole = steps.split(model)
        parts = steps.split(model.rounded())
        self.mesh = DeviceMesh(devices, config.codebook_shards)
        meet(self.mesh.mesh)
        settings = StepSettings.of(config, steps_per_epoch, len(class_names))
        optimizer, self._mapped = compiled_step(
            parts.graphdef, settings, self.mesh, config.parallel
        )
        self._arrays = tuple(settings.batch)
        self.frozen = self._place("frozen", parts.frozen)
        tokens = model.class_tokens(class_names)
        self.text_length = tokens.shape[-1]
        self._tokens = self._place("tokens", self.mesh.lay_out(tokens))
        self._rows = global_batch(config, self.mesh) // self.mesh.hosts
        # copies: a step donates the memory of its state
        learnable, opt_state = jax.tree.map(
            np.array, jax.device_get((parts.learnable, optimizer.init(parts.learnable)))
        )
        key = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
        self.initial = TrainState(0, learnable, opt_state, key)

    def place(self, state: TrainState) -> TrainState:
        """Copies a state from host memory to the devices."""
        names = ("learnable", "opt_state", "key")
        copies = {name: jax.tree.map(np.array, getattr(state, name)) for name in names}
        return TrainState(state.step, **{name: self._place(name, x) for name, x in copies.items()})

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        """Pads this host's rows and puts them onto the devices, without waiting for these.

        Under pmap they stay in host memory, one row for each device.
        """
        batch = {name: batch[name] for name in self._arrays}
        # JAX would silently cut 64-bit indices to 32 bits
        batch["index"] = batch["index"].astype(np.int32)
        return self._place("videos", pad_batch(batch, self._rows))

    def step(
        self, state: TrainState, videos: Mapping[str, Any]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One micro-batch.

        Args:
          state: from `place` or the step before; its memory is donated.
          videos: a batch from `place_batch`.

        Returns:
          The next state, and numbers of the global batch, still on the device: the sums `loss`,
          `correct` and `count`, the gradient's `grad_norm`, the rate `lr` of the update, and
          `skipped`, 1 if loss or gradient was not finite and nothing changed.
        """
        arguments = StepArguments(
            learnable=state.learnable,
            opt_state=state.opt_state,
            frozen=self.frozen,
            videos=videos,
            tokens=self._tokens,
            key=state.key,
            number=self._place("number", np.int32(state.step)),
        )
        learnable, opt_state, sums = self._mapped(*arguments)
        return TrainState(state.step + 1, learnable, opt_state, state.key), sums

    def model(self, state: TrainState) -> VTDCLIP:
        """The model with the learnable variables of `state`, copied to this host's first device."""
        first = self.mesh.local_devices[0]
        learnable = jax.device_put(jax.tree.map(np.array, jax.device_get(state.learnable)), first)
        return nnx.merge(self._whole.graphdef, learnable, jax.device_put(self._whole.frozen, first))

    def _place(self, name: str, argument: Any) -> Any:
        """Puts an argument of the step onto the devices, by its name."""
        return self._mapped.place(StepArguments._fields.index(name), argument)


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """Everything that a compiled step depends on, besides the model and the mesh.

    Attributes:
      optimizer: with 1 epoch, since no update depends on the number of epochs.
      steps_per_epoch: micro-batches.
      classes: K.
      dropout: whether there is dropout.
      skip_nonfinite: see `steps.train_step`.
      stored: whether batches hold `features` instead of `frames`.
    """

    optimizer: OptimizerConfig
    steps_per_epoch: int
    classes: int
    dropout: bool
    skip_nonfinite: bool
    stored: bool = False

    @classmethod
    def of(cls, config: RunConfig, steps_per_epoch: int, classes: int) -> "StepSettings":
        """The settings of a run's step."""
        return cls(
            optimizer=dataclasses.replace(config.optimizer, epochs=1),
            steps_per_epoch=steps_per_epoch,
            classes=classes,
            dropout=config.model.fusion and config.model.dropout > 0,
            skip_nonfinite=config.on_nonfinite == "skip",
            stored=config.data.stored,
        )

    @property
    def batch(self) -> Mapping[str, Over]:
        """The arrays of a batch, and over what each is split."""
        return FEATURES if self.stored else BATCH


def global_batch(config: RunConfig, mesh: DeviceMesh) -> int:
    """Videos of a compiled step over all devices: the batch, padded to equal parts."""
    return round_up(config.data.batch_size, mesh.data_shards)


@functools.lru_cache(maxsize=16)
def compiled_step(
    graphdef: Any, settings: StepSettings, mesh: DeviceMesh, spelling: str = "shard_map"
) -> tuple[optax.GradientTransformation, Mapped]:
    """The compiled step of a kind of run, which serves any seed, videos and weights.

    Args:
      graphdef: of the model, from `steps.split`.
      settings: of the step.
      mesh: the devices.
      spelling: "shard_map" or "pmap".

    Returns:
      The optimizer, and the step: it takes `StepArguments`, donates the first two, and returns
      `(learnable, opt_state, sums)`.
    """
    optimizer = make_optimizer(settings.optimizer, settings.steps_per_epoch)
    ins = StepArguments(
        learnable=Over.SAME,
        opt_state=Over.SAME,
        frozen=Over.SAME,
        videos=settings.batch,
        tokens=Over.CLASSES,
        key=Over.SAME,
        number=Over.SAME,
    )
    return optimizer, Mapped(
        _step_function(graphdef, optimizer, settings, mesh),
        mesh,
        ins,
        (Over.SAME, Over.SAME, Over.SAME),
        spelling,
        donate=("learnable", "opt_state"),
    )


def _step_function(
    graphdef: Any, optimizer: optax.GradientTransformation, settings: StepSettings, mesh: DeviceMesh
) -> Callable[..., tuple[nnx.State, optax.OptState, dict[str, Array]]]:
    """`steps.train_step` of one device as a function of `StepArguments`."""
    rate_of = learning_rate(settings.optimizer, settings.steps_per_epoch)
    axes = mesh.axes(settings.classes)

    def step(
        learnable: nnx.State,
        opt_state: optax.OptState,
        frozen: nnx.State,
        videos: Mapping[str, Array],
        tokens: Int[Array, "c ... l"],
        key: UInt32[Array, " n"],
        number: Int[Array, ""],
    ) -> tuple[nnx.State, optax.OptState, dict[str, Array]]:
        drawn = None
        if settings.dropout:
            # 1 separates training from other uses of the seed
            training = jax.random.fold_in(jax.random.wrap_key_data(key), 1)
            drawn = jax.random.fold_in(training, number)
        rate = rate_of(update_count(opt_state))
        learnable, opt_state, sums = steps.train_step(
            graphdef,
            optimizer,
            learnable,
            opt_state,
            frozen,
            batch=videos,
            tokens=tokens,
            key=drawn,
            axes=axes,
            skip_nonfinite=settings.skip_nonfinite,
        )
        return learnable, opt_state, sums | {"lr": rate}

    return step
