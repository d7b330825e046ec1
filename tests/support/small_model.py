"""Small VTD-CLIPs with seeded weights, for tests of what is done with them."""

import jax
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

LABELS = ("arm wrestling", "hugging", "red striped circle", "綱引き", "a 🎉")
WORDS = tuple(
    f"{a} {b}" for a in ("red", "blue", "pale") for b in ("circle", "star", "dog", "house")
)


def small_model(seed: int = 0, **settings) -> VTDCLIP:
    """All that can be learnt is there, with fusion and prompts of visible size; `settings` are of
    `ModelConfig`.
    """
    config = ModelConfig(
        **dict(text_prompts=2, text_depth=2, visual_prompts=2, visual_depth=2) | settings
    )
    model = VTDCLIP(clip_from_state(SMALL, random_state(SMALL, seed)), config, rngs=nnx.Rngs(seed))
    # logits of everyday size, so that probabilities are neither 0 nor 1
    model.logit_scale.set_value(jax.numpy.float32(3.0))
    return model
