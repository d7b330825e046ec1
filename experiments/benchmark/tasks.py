"""Our own programs as jobs: features, codebook, discretization and fusion, a whole training step,
scoring.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int32

from experiments.benchmark import flops as benchmark_flops
from experiments.benchmark.timing import Job
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state, tensor_shapes
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step

FEATURES, CODEBOOK, CLASSIFY = "image features", "codebook", "discretization and fusion"
STEP, EVALUATION = "training step", "evaluation"
TASKS = (FEATURES, CODEBOOK, CLASSIFY, STEP, EVALUATION)


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """What is computed, whoever computes it.

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
        """Seeded features and a codebook, for what comes behind the towers."""
        rng, width = np.random.default_rng(1), self.config.embed_dim
        features = rng.standard_normal((self.batch, self.frames, width), dtype=np.float32)
        return features, rng.standard_normal((self.classes, width), dtype=np.float32)

    def flops(self, task: str, *, plain: bool, length: int | None = None) -> int | None:
        """Of one run of a task, by formula; None where there is none.

        Args:
          task: one of `TASKS`.
          plain: whether every layer computes every token.
          length: of the text rows, where it is not that of `tokens`.
        """
        config, settings, videos = self.config, self.model, (self.batch, self.frames)
        images = benchmark_flops.image_features(
            config, settings, self.batch * self.frames, plain=plain
        )
        length = self.tokens.shape[1] if length is None else length
        book = benchmark_flops.codebook(config, settings, self.classes, length, plain=plain)
        dropout = task == STEP and settings.dropout > 0
        behind = benchmark_flops.classification(
            settings, config.embed_dim, *videos, self.classes, plain=plain, dropout=dropout
        )
        if task in (CODEBOOK, CLASSIFY):
            return (book if task == CODEBOOK else behind).forward
        if images is None:
            return None
        if task == STEP:
            return (images + book + behind).both
        return images.forward + (behind.forward if task == EVALUATION else 0)


def random_state(config: CLIPConfig) -> dict[str, np.ndarray]:
    """Seeded random tensors under OpenAI's names: speed does not depend on their values."""
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(shape, dtype=np.float32)
        / np.sqrt(np.float32(max(shape[-1:] or (1,))))
        for name, shape in tensor_shapes(config).items()
    }


def random_model(setting: Setting, dtype: str, *, plain: bool = False) -> VTDCLIP:
    """A VTD-CLIP of full size on `random_state`, as programs take it; `plain` has every layer
    compute every token.
    """
    clip = clip_from_state(setting.config, random_state(setting.config), dtype=dtype)
    model = VTDCLIP(clip, setting.model, rngs=nnx.Rngs(0), compute=Compute(plain=plain))
    return model.rounded()


def scores(model: VTDCLIP, frames: Array, codebook: Float[Array, "k d"]) -> Float[Array, "b k"]:
    """What an evaluation computes of every view of a batch."""
    return jax.nn.softmax(model(frames, codebook).logits.astype(jnp.float32), axis=-1)


class Programs:
    """The programs of one variant, compiled.

    Attributes:
      jobs: one a task.
      memory: task -> bytes by kind ("temporaries", "arguments", "results"), as XLA plans them for
        one run.
      compiling: task -> seconds of tracing and compiling, or of reading from the compilation cache.
    """

    def __init__(
        self,
        setting: Setting,
        model: VTDCLIP,
        variant: str,
        *,
        plain: bool = False,
        tasks: Collection[str] = TASKS,
    ):
        """
        Args:
          setting: what is computed.
          model: see `random_model`; read only.
          variant: named in the jobs.
          plain: whether the model takes the plain path, which has more FLOPs.
          tasks: those that are wanted.
        """
        self._setting, self._variant, self._plain = setting, variant, plain
        self.jobs: list[Job] = []
        self.memory: dict[str, dict[str, int]] = {}
        self.compiling: dict[str, float] = {}
        parts, videos, tokens = (
            step.split(model),
            jax.device_put(setting.videos()),
            jnp.asarray(setting.tokens),
        )
        features, codes = map(jnp.asarray, setting.encoded())

        def merged(learnable: nnx.State, frozen: nnx.State) -> VTDCLIP:
            return nnx.merge(parts.graphdef, learnable, frozen)

        ours, frames = (parts.learnable, parts.frozen), videos["frames"]
        wanted: Mapping[str, tuple[Callable, tuple]] = {
            FEATURES: (lambda a, b, x: merged(a, b).encode_frames(x), (*ours, frames)),
            CODEBOOK: (lambda a, b, x: merged(a, b).encode_classes(x), (*ours, tokens)),
            # the towers are no argument: they would only be handed through
            CLASSIFY: (
                lambda a, x, c: merged(a, parts.frozen).classify(x, c).logits,
                (ours[0], features, codes),
            ),
            EVALUATION: (lambda a, b, x, c: scores(merged(a, b), x, c), (*ours, frames, codes)),
        }
        for task in TASKS:
            if task == STEP and task in tasks:
                self._compile_step(parts, videos, tokens)
            elif task in tasks:
                function, arguments = wanted[task]
                run = partial(self._compiled(task, jax.jit(function), arguments), *arguments)
                self._add(task, partial(_until_there, run))

    def train(self, videos: Mapping[str, Array]) -> dict[str, Array]:
        """One training step on this batch, from where the last one left off; does not wait for the
        sums it returns.
        """
        self._state, sums = self._step(self._state, videos)
        return sums

    def _compile_step(self, parts: step.Split, videos: Mapping[str, Array], tokens: Array) -> None:
        optimizer = step.make_optimizer(step.OptimizerConfig(warmup_epochs=0), 10)
        # copies: a step takes the memory of the state that it is given
        start = jax.tree.map(jnp.array, (parts.learnable, optimizer.init(parts.learnable)))
        key, frozen = jax.random.key(0), parts.frozen

        def update(
            state: Any, frozen: nnx.State, tokens: Array, key: Array, videos: Mapping[str, Array]
        ) -> Any:
            *state, sums = step.train_step(
                parts.graphdef, optimizer, *state, frozen, videos, tokens, key
            )
            return tuple(state), sums

        compiled = self._compiled(
            STEP, jax.jit(update, donate_argnums=0), (start, frozen, tokens, key, videos)
        )
        self._state, self._step = (
            start,
            lambda state, videos: compiled(state, frozen, tokens, key, videos),
        )
        self._add(STEP, lambda: jax.block_until_ready((self.train(videos), self._state)))

    def _compiled(self, task: str, jitted: Any, arguments: tuple) -> Any:
        start = time.perf_counter()
        compiled = jitted.lower(*arguments).compile()
        self.compiling[task] = time.perf_counter() - start
        planned = compiled.memory_analysis()
        if planned is not None:
            self.memory[task] = {
                "temporaries": planned.temp_size_in_bytes,
                "arguments": planned.argument_size_in_bytes,
                "results": planned.output_size_in_bytes,
            }
        return compiled

    def _add(self, task: str, run: Callable[[], Any]) -> None:
        flops = self._setting.flops(task, plain=self._plain)
        clips = 0 if task == CODEBOOK else self._setting.batch
        self.jobs.append(Job(task, self._variant, run, flops, clips))


def _until_there(run: Callable[[], Any]) -> Any:
    return jax.block_until_ready(run())
