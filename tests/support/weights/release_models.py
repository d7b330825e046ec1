"""Small models and their state dicts as in the authors' checkpoints."""

import numpy as np
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved.release_names import to_release
from vtd_jax.model.vtd_clip import VTDCLIP, learnable

SETTINGS = dict(text_prompts=3, text_depth=2, visual_prompts=2, visual_depth=2)
NAMES = ("red", "shoot_bow")


def model(seed=0, clip_seed=0, **settings):
    clip = clip_from_state(SMALL, random_state(SMALL, clip_seed))
    return VTDCLIP(clip, ModelConfig(**(SETTINGS | settings)), rngs=nnx.Rngs(seed))


def learnt(of):
    return to_release(learnable(of))


def frozen(of):
    """The frozen CLIP as the authors' state dict holds it, spelled out here once more."""
    named = {}
    for name, array in state_from_clip(of.clip).items():
        if name.startswith("visual."):
            named[name.replace("visual.", "image_encoder.", 1)] = array
        elif name not in ("token_embedding.weight", "logit_scale"):
            named["text_encoder." + name] = array
    return named


def assert_learnt(found, expected):
    found, expected = learnt(found), learnt(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
