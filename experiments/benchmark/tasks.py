"""Our programs as jobs: features, codebook, discretization and fusion, training step, scoring."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int32

from experiments.benchmark.timing import Job
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.cost.hlo import needed, traced_work
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import make_optimizer

FEATURES, CODEBOOK, CLASSIFY = "image features", "codebook", "discretization and fusion"
STEP, EVALUATION = "training step", "evaluation"
TASKS = (FEATURES, CODEBOOK, CLASSIFY, STEP, EVALUATION)
# of the image tower alone, only where it is asked for
GRADIENT = "image features, gradient to the prompts"
_OPTIMIZER = make_optimizer(OptimizerConfig(warmup_epochs=0), 10)


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """What is computed, by either framework.

    Attributes:
      config: of the CLIP.
      model: prompts, discretization and fusion.
      frames: T.
      batch: B, clips.
      tokens: class prompts `[K, L]`, as `VTDCLIP.class_tokens` makes them.
    """

    config: CLIPConfig
    model: ModelConfig
    frames: int
    batch: int
    tokens: Int32[np.ndarray, "k l"]

    @property
    def classes(self) -> int:
        """K."""
        return len(self.tokens)

    def videos(self) -> dict[str, np.ndarray]:
        """A seeded batch: `frames` uint8 `[B,T,H,W,3]`, `label`, `weight`, `index`, each `[B]`."""
        rng, size = np.random.default_rng(0), self.config.image_resolution
        return {
            "frames": rng.integers(
                0, 256, (self.batch, self.frames, size, size, 3), dtype=np.uint8
            ),
            "label": rng.integers(0, self.classes, self.batch).astype(np.int32),
            "weight": np.ones(self.batch, np.float32),
            "index": np.arange(self.batch, dtype=np.int32),
        }

    def encoded(self) -> tuple[Float[np.ndarray, "b t d"], Float[np.ndarray, "k d"]]:
        """Seeded features and a codebook, for the tasks after the towers."""
        rng, width = np.random.default_rng(1), self.config.embed_dim
        features = rng.standard_normal((self.batch, self.frames, width), dtype=np.float32)
        return features, rng.standard_normal((self.classes, width), dtype=np.float32)


def random_state(config: CLIPConfig) -> dict[str, np.ndarray]:
    """Seeded random tensors under OpenAI's names: speed does not depend on their values."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, dtype=np.float32)
        / np.sqrt(np.float32(max(shape[-1:] or (1,))))
        for name, shape in tensor_shapes(config).items()
    }


def random_model(
    setting: Setting, dtype: str, *, plain: bool = False, layers: str = "auto"
) -> VTDCLIP:
    """A VTD-CLIP of full size on `random_state`; with `plain` every layer computes every token.

    `layers` says how blocks are stored, see `vtd_jax.clip.stack.layout`.
    """
    state = random_state(setting.config)
    clip = clip_from_state(setting.config, state, dtype=dtype, layers=layers)
    model = VTDCLIP(clip, setting.model, rngs=nnx.Rngs(0), compute=Compute(plain=plain))
    return model.rounded()


def scores(model: VTDCLIP, frames: Array, codebook: Float[Array, "k d"]) -> Float[Array, "b k"]:
    """The scores of one view of a batch, as in an evaluation."""
    return jax.nn.softmax(model(frames, codebook).logits.astype(jnp.float32), axis=-1)


class Inputs(NamedTuple):
    """What programs are called with beside the model: see `Setting`."""

    videos: Mapping[str, Any]
    tokens: Any
    features: Any
    codes: Any


def inputs(setting: Setting) -> Inputs:
    """Seeded ones, in the host's memory."""
    return Inputs(setting.videos(), setting.tokens, *setting.encoded())


def traced(model: VTDCLIP, given: Inputs, task: str) -> tuple[jax.stages.Traced, tuple]:
    """A task's program, and what it is called with.

    Args:
      model: see `random_model`; read only. It may be abstract, for a program that is not to run.
      given: what the program works on.
      task: one of `TASKS`, or `GRADIENT`.
    """
    parts = step.split(model)
    if task == STEP:
        return _traced_step(parts, given)
    if task == GRADIENT:
        return _traced_gradient(parts, given)

    def merged(learnable: nnx.State, frozen: nnx.State) -> VTDCLIP:
        return nnx.merge(parts.graphdef, learnable, frozen)

    ours, frames = (parts.learnable, parts.frozen), given.videos["frames"]
    programs: Mapping[str, tuple[Callable, tuple]] = {
        FEATURES: (lambda a, b, x: merged(a, b).encode_frames(x), (*ours, frames)),
        CODEBOOK: (lambda a, b, x: merged(a, b).encode_classes(x), (*ours, given.tokens)),
        # the towers are a constant here: as an argument they would take part of the time
        CLASSIFY: (
            lambda a, x, c: merged(a, parts.frozen).classify(x, c).logits,
            (ours[0], given.features, given.codes),
        ),
        EVALUATION: (lambda a, b, x, c: scores(merged(a, b), x, c), (*ours, frames, given.codes)),
    }
    function, arguments = programs[task]
    return jax.jit(function).trace(*arguments), arguments


def _traced_step(parts: step.Split, given: Inputs) -> tuple[jax.stages.Traced, tuple]:
    def update(state: Any, frozen: nnx.State, tokens: Array, key: Array, videos: Any) -> Any:
        *state, sums = step.train_step(
            parts.graphdef, _OPTIMIZER, *state, frozen, videos, tokens, key
        )
        return tuple(state), sums

    state = parts.learnable, jax.eval_shape(_OPTIMIZER.init, parts.learnable)
    arguments = (state, parts.frozen, given.tokens, jax.random.key(0), given.videos)
    return jax.jit(update, donate_argnums=0).trace(*arguments), arguments


def _traced_gradient(parts: step.Split, given: Inputs) -> tuple[jax.stages.Traced, tuple]:
    def total(learnable: nnx.State, frozen: nnx.State, frames: Array, weights: Array) -> Array:
        features = nnx.merge(parts.graphdef, learnable, frozen).encode_frames(frames)
        return (features * weights).sum()

    def gradient(learnable: nnx.State, *others: Any) -> tuple[Array, Array]:
        value, grads = jax.value_and_grad(total)(learnable, *others)
        # what nothing else depends on, XLA leaves out
        return value, grads["visual_prompts"][...]

    arguments = (parts.learnable, parts.frozen, given.videos["frames"], given.features)
    return jax.jit(gradient).trace(*arguments), arguments


def flops(program: jax.stages.Traced) -> int:
    """Of matrix products and convolutions in one run."""
    return traced_work(needed(program.jaxpr)).flops


def plain_flops(setting: Setting) -> dict[str, int]:
    """Task -> FLOPs if every layer computes every token of full text rows; traced, not run."""
    room = setting.config.context_length - setting.tokens.shape[1]
    whole = dataclasses.replace(setting, tokens=np.pad(setting.tokens, ((0, 0), (0, room))))
    plain = Compute(plain=True)
    model = nnx.eval_shape(
        lambda: VTDCLIP(CLIP(setting.config), setting.model, rngs=nnx.Rngs(0), compute=plain)
    )
    return {task: flops(traced(model, inputs(whole), task)[0]) for task in TASKS}


class Programs:
    """The programs of one variant, compiled.

    Attributes:
      jobs: one a task.
      memory: task -> bytes by kind ("temporaries", "arguments", "results"), as XLA plans them for
        one run.
      compiling: task -> seconds of tracing and compiling, or of reading from the compilation cache.
      compiled: task -> the program as traced, and as compiled.
    """

    def __init__(
        self,
        setting: Setting,
        model: VTDCLIP,
        variant: str,
        *,
        tasks: Collection[str] = TASKS,
        given: Inputs | None = None,
    ):
        """
        Args:
          setting: what is computed.
          model: see `random_model`; read only.
          variant: named in the jobs.
          tasks: to compile, of `TASKS` and `GRADIENT`.
          given: what the programs work on, on the device; None for `inputs` of the setting.
        """
        self._setting, self._variant = setting, variant
        self.jobs: list[Job] = []
        self.memory: dict[str, dict[str, int]] = {}
        self.compiling: dict[str, float] = {}
        self.compiled: dict[str, tuple[jax.stages.Traced, jax.stages.Compiled]] = {}
        placed = jax.device_put(inputs(setting)) if given is None else given
        for task in (*TASKS, GRADIENT):
            if task in tasks:
                self._compile(task, model, placed)

    def train(self, videos: Mapping[str, Array]) -> dict[str, Array]:
        """One training step from the last state; does not wait for the sums it returns."""
        self._state, sums = self._step(self._state, videos)
        return sums

    def _compile(self, task: str, model: VTDCLIP, given: Inputs) -> None:
        start = time.perf_counter()
        program, arguments = traced(model, given, task)
        compiled = program.lower().compile()
        self.compiling[task] = time.perf_counter() - start
        self.compiled[task] = program, compiled
        planned = compiled.memory_analysis()
        if planned is not None:
            self.memory[task] = {
                "temporaries": planned.temp_size_in_bytes,
                "arguments": planned.argument_size_in_bytes,
                "results": planned.output_size_in_bytes,
            }
        if task == STEP:
            (learnable, _), *others, _ = arguments
            # copies, because a step donates its state
            self._state = jax.tree.map(jnp.array, (learnable, _OPTIMIZER.init(learnable)))
            self._step = lambda state, videos: compiled(state, *others, videos)
            run = partial(self._train_and_wait, given.videos)
        else:
            run = partial(_until_there, partial(compiled, *arguments))
        clips = 0 if task == CODEBOOK else self._setting.batch
        self.jobs.append(Job(task, self._variant, run, flops(program), clips))

    def _train_and_wait(self, videos: Mapping[str, Array]) -> Any:
        return jax.block_until_ready((self.train(videos), self._state))


def _until_there(run: Callable[[], Any]) -> Any:
    return jax.block_until_ready(run())
