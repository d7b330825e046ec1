"""Small VTD-CLIPs with seeded weights, for tests of what is done with them."""

import jax
from flax import nnx

from support.helpers import SMALL, random_state
from support.small_run import SMALL as RUN_SMALL
from vtd_jax.clip.compute import Compute
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


# settings of models for serving: nothing learnt, and everything
NONE = {"text_prompts": 0, "text_depth": 0, "visual_prompts": 0, "visual_depth": 0, "fusion": False}
LEARNT = {
    "text_prompts": 2,
    "text_depth": 1,
    "visual_prompts": 1,
    "visual_depth": 1,
    "fusion_heads": 4,
}


def served_model(dtype="float32", config=RUN_SMALL, preprocess="release", **changes) -> VTDCLIP:
    """A model as `write_served` takes it; `changes` are of `ModelConfig`."""
    clip = clip_from_state(config, random_state(config), dtype=dtype)
    # as of a run with memory.remat=block: 3 chunks divide no T here, and none may be requested
    compute = Compute(remat="block", frame_chunks=3)
    method = ModelConfig(**(NONE | changes))
    return VTDCLIP(clip, method, rngs=nnx.Rngs(0), compute=compute, preprocess=preprocess)
