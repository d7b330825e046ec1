"""FLOPs as traced are those of the formulas: both paths, both towers, every depth of prompts, every
task.
"""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments.benchmark.setting import Options
from experiments.benchmark.tasks import CLASSIFY, CODEBOOK, EVALUATION, FEATURES, STEP, plain_flops
from support import flops as formula
from support.helpers import SMALL
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.cost.hlo import needed, traced_work
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train import step
from vtd_jax.train.groups import OptimizerConfig
from vtd_jax.train.optimizer import make_optimizer

pytestmark = pytest.mark.slow

DEEPER = CLIPConfig(48, 32, 3, 128, 8, 64, text_layers=4)
# (text prompts, text depth, visual prompts, visual depth)
PROMPTS = [(5, 2, 3, 2), (5, 1, 3, 1), (6, 2, 0, 0), (0, 0, 3, 2), (5, 4, 3, 3), (2, 3, 4, 1)]
VIDEOS, FRAMES, CLASSES, LENGTH = 2, 3, 5, 14


class Traced:
    """A small model whose programs are traced, not run."""

    def __init__(self, config, prompts, plain, dropout=0.1):
        text, text_depth, visual, visual_depth = prompts
        self.settings = ModelConfig(
            text_prompts=text,
            text_depth=min(text_depth, config.text_layers),
            visual_prompts=visual,
            visual_depth=min(visual_depth, config.vision_layers),
            dropout=dropout,
        )
        compute = Compute(plain=plain)
        model = VTDCLIP(CLIP(config), self.settings, rngs=nnx.Rngs(0), compute=compute)
        self.parts = step.split(model)
        size = config.image_resolution
        self.frames = jnp.zeros((VIDEOS, FRAMES, size, size, 3), jnp.uint8)
        self.tokens = jnp.zeros((CLASSES, LENGTH), jnp.int32)
        self.codes = jnp.zeros((CLASSES, config.embed_dim))

    def flops(self, function, *arguments):
        """Of `function(model, ...)` and of it with the gradient of its sum to what is learnt."""

        def whole(learnable, *arguments):
            return function(
                nnx.merge(self.parts.graphdef, learnable, self.parts.frozen), *arguments
            ).sum()

        return tuple(
            _flops(f, self.parts.learnable, *arguments) for f in (whole, jax.value_and_grad(whole))
        )

    def step_flops(self):
        """Of one training step."""
        optimizer = make_optimizer(OptimizerConfig(), 10)
        batch = {
            "frames": self.frames,
            "label": jnp.zeros(VIDEOS, jnp.int32),
            "weight": jnp.ones(VIDEOS),
            "index": jnp.arange(VIDEOS),
        }

        def update(learnable, tokens):
            state = learnable, optimizer.init(learnable)
            return step.train_step(
                self.parts.graphdef,
                optimizer,
                *state,
                self.parts.frozen,
                batch,
                tokens,
                jax.random.key(0),
            )

        return _flops(update, self.parts.learnable, self.tokens)


def _flops(function, *arguments):
    return traced_work(needed(jax.make_jaxpr(function)(*arguments))).flops


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("config", [SMALL, DEEPER], ids=["small", "deeper"])
def test_formulas_are_what_is_traced(config, prompts, plain):
    traced = Traced(config, prompts, plain)
    settings, sizes = traced.settings, (VIDEOS, FRAMES, CLASSES)
    images = formula.image_features(config, settings, VIDEOS * FRAMES, plain=plain)
    assert traced.flops(VTDCLIP.encode_frames, traced.frames) == (images.forward, images.both)
    book = formula.codebook(config, settings, CLASSES, LENGTH, plain=plain)
    assert traced.flops(VTDCLIP.encode_classes, traced.tokens) == (book.forward, book.both)
    behind = formula.classification(settings, config.embed_dim, *sizes, plain=plain, dropout=False)
    features = jnp.zeros((VIDEOS, FRAMES, config.embed_dim))
    found, _ = traced.flops(lambda model, x, c: model.classify(x, c).logits, features, traced.codes)
    assert found == behind.forward + (0 if plain else _rare(config))
    behind = formula.classification(settings, config.embed_dim, *sizes, plain=plain, dropout=True)
    assert traced.step_flops() == (images + book + behind).both


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("prompts", [PROMPTS[0], PROMPTS[3]])
def test_a_step_without_dropout(prompts, plain):
    traced = Traced(DEEPER, prompts, plain, dropout=0.0)
    settings = traced.settings
    images = formula.image_features(DEEPER, settings, VIDEOS * FRAMES, plain=plain)
    book = formula.codebook(DEEPER, settings, CLASSES, LENGTH, plain=plain)
    behind = formula.classification(
        settings, DEEPER.embed_dim, VIDEOS, FRAMES, CLASSES, plain=plain, dropout=False
    )
    # forwards one product; backwards it again, and for codes and frames
    rare = 0 if plain else (3 + bool(settings.text_prompts)) * _rare(DEEPER)
    assert traced.step_flops() == (images + book + behind).both + rare


def _rare(config):
    """Tracing counts the branch with more products, which few frames take; the formula counts the
    other.
    """
    return 2 * VIDEOS * (FRAMES - 1) * CLASSES * config.embed_dim


def test_vit_b16_by_hand():
    config = CLIPConfig.vit_b16()
    settings = ModelConfig(text_prompts=10, text_depth=12, visual_prompts=10, visual_depth=12)
    tokens = 197 + 10
    layer = 24 * tokens * 768**2 + 4 * tokens**2 * 768
    image = 12 * layer + 2 * 196 * 768 * 768 + 2 * 768 * 512
    assert formula.image_features(config, settings, 16, plain=True).forward == 16 * image
    text = 12 * (24 * 77 * 512**2 + 4 * 77**2 * 512) + 2 * 512 * 512
    assert formula.codebook(config, settings, 101, 77, plain=True).forward == 101 * text
    # 1 + P + K · suffix tokens in the place of K · 77
    fast = formula.codebook(config, settings, 101, 18, plain=False).forward
    assert fast < 101 * text * (11 + 101 * 7) / (101 * 77)


def test_other_peoples_programs_compute_every_token_of_whole_rows():
    setting = Options("tiny", 2, 3, 5, 6, 12, 1).setting()
    config, settings = setting.config, setting.model
    images = formula.image_features(config, settings, 6, plain=True)
    book = formula.codebook(config, settings, 5, config.context_length, plain=True)
    behind, step_behind = (
        formula.classification(settings, config.embed_dim, 3, 2, 5, plain=True, dropout=dropout)
        for dropout in (False, True)
    )
    assert plain_flops(setting) == {
        FEATURES: images.forward,
        CODEBOOK: book.forward,
        CLASSIFY: behind.forward,
        STEP: (images + book + step_behind).both,
        EVALUATION: images.forward + behind.forward,
    }
