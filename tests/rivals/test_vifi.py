"""ViFi-CLIP's checkpoints: the same logits as its formulas in plain NumPy."""

import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from support.weights.release_models import frozen, learnt
from support.weights.rival_files import PlainViFi, vifi_state, write_vifi
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.rivals.files import load_rival, read_settings

CLIP = random_state(SMALL)
NAMES = ("Shoot_Bow", "arm wrestling", "yo yo")
FRAMES = np.random.default_rng(5).integers(0, 256, (2, 3, 32, 32, 3), np.uint8)


def loaded(path, name, *, layers="auto"):
    """The model of a file, on the CLIP that it was tuned from."""
    clip = clip_from_state(SMALL, CLIP, layers=layers)
    model = VTDCLIP(clip, read_settings(path, name), rngs=nnx.Rngs(0))
    said = load_rival(model, path, name)
    return model, said


def logits(model):
    @nnx.jit
    def compute(model, frames, tokens):
        return model(frames, model.encode_classes(tokens)).logits

    return np.asarray(compute(model, FRAMES, model.class_tokens(NAMES)))


@pytest.mark.parametrize(
    "name, prompts, layers",
    [
        ("vifi", {}, "list"),
        ("vifi", {}, "scan"),
        ("vifi_prompts", dict(text=(6, 2), visual=(3, 2)), "list"),
        # up to 4 tokens stand for the first words of "a photo of a", and the others stay
        ("vifi_prompts", dict(text=(2, 1), visual=(2, 1)), "list"),
    ],
)
def test_logits_are_those_of_the_formulas(tmp_path, name, prompts, layers):
    state = vifi_state(CLIP, SMALL, **prompts)
    model, said = loaded(write_vifi(tmp_path / "x.pth", state), name, layers=layers)
    expected = PlainViFi(state, CLIP["token_embedding.weight"]).logits(FRAMES, NAMES)
    np.testing.assert_allclose(logits(model), expected, rtol=0, atol=1e-4)
    # of logits of this size: 1e-5 of the scale
    assert np.ptp(expected) > 1
    assert said.startswith(f"{tmp_path / 'x.pth'} (ViFi-CLIP")


def test_every_tensor_of_the_file_is_in_the_model(tmp_path):
    state = vifi_state(CLIP, SMALL, text=(6, 2), visual=(3, 2))
    model, said = loaded(write_vifi(tmp_path / "x.pth", state), "vifi_prompts")
    found = frozen(model) | learnt(model)
    buffers = {"prompt_learner.token_prefix", "prompt_learner.token_suffix"}
    assert found.keys() | buffers == state.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
    assert said.endswith("mean of frame features, 12 learnt text tokens, 6 learnt visual tokens)")
