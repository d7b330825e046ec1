"""Files that are none, of another method, damaged, or of another CLIP: one line each."""

import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from support.weights import torch_files as tf
from support.weights.release_models import frozen, learnt
from support.weights.release_models import model as vtd_model
from support.weights.rival_files import vifi_state, write_vifi
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.clip.weights.pytorch.write import write_torch_archive
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.rivals.files import load_rival, read_settings
from vtd_jax.rivals.kinds import COMPUTED, RIVALS, recognised, rival

CLIP = random_state(SMALL)
STATE = vifi_state(CLIP, SMALL)
PROMPTS = vifi_state(CLIP, SMALL, text=(6, 2), visual=(3, 2))
BLOCK = "image_encoder.transformer.resblocks.1"
# of each method, tensors that its own code names so
OTHERS = {
    "xclip": ["visual.proj", "mit.positional_embedding", "prompts_generator.alpha"],
    "tc_clip": [
        "image_encoder.proj",
        "prompt_learner.ctx",
        "text_encoder.prompt_generation_layer.0.attn.out_proj.weight",
    ],
    "ga2_clip": ["image_encoder.proj", "image_encoder.VPT", "prompt_learner.proj_b2n_VPT.0.weight"],
    "froster": ["model.visual.proj", "projector_v.0.weight"],
    "open_vclip": ["model.visual.class_embedding", "model.token_embedding.weight"],
    "vtd": ["prompt_learner.ctx", "image_encoder.proj", "lrf.fc1.weight"],
}


def load(path, name, tower):
    """Loads a file; where that fails, the model stays as it was."""
    model = VTDCLIP(tower, read_settings(path, name), rngs=nnx.Rngs(0))
    before = frozen(model) | learnt(model)
    try:
        load_rival(model, path, name)
    except UserError:
        for key, array in (frozen(model) | learnt(model)).items():
            np.testing.assert_array_equal(array, before[key])
        raise


def refused(path, name="vifi", clip=None, config=SMALL):
    """What loading says of a file; the model stays as it is."""
    with pytest.raises(UserError) as caught:
        load(path, name, clip_from_state(config, CLIP if clip is None else clip))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def written(tmp_path, state):
    return write_vifi(tmp_path / "x.pth", state)


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_state"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_methods_are_refused_by_their_names(tmp_path, name, key):
    path = tmp_path / "x.pth"
    write_torch_archive(path, {each: np.zeros(2, np.float32) for each in OTHERS[name]}, key)
    (found,) = (one for one in RIVALS if one.name == name)
    message = refused(path)
    assert message.startswith(f"is of {found.title}, which ")
    assert found.lacking in message
    with pytest.raises(UserError, match=found.title):
        rival(name, "methods=x")


def test_every_method_is_computed_or_says_what_is_missing():
    assert {one.name for one in RIVALS if not one.lacking} == set(COMPUTED)
    assert {one.name for one in RIVALS if one.lacking} == set(OTHERS)
    for one in RIVALS:
        assert bool(one.evaluated) == (not one.lacking)
    assert [rival(name, "").name for name in COMPUTED] == list(COMPUTED)
    with pytest.raises(UserError, match="methods=x: no rival of this name, expected one of vifi"):
        rival("x", "methods=x")
    assert recognised(()) is None


def test_one_of_the_two_under_the_name_of_the_other(tmp_path):
    message = refused(written(tmp_path, PROMPTS))
    assert message == "is of ViFi-CLIP prompts, not of ViFi-CLIP; its name here is vifi_prompts"
    message = refused(written(tmp_path, STATE), "vifi_prompts")
    assert message == "is of ViFi-CLIP, not of ViFi-CLIP prompts; its name here is vifi"


def test_a_clip_and_what_is_no_method(tmp_path):
    write_torch_archive(tmp_path / "x.pth", CLIP)
    message = "a CLIP itself, nothing that was tuned on videos by ViFi-CLIP; give it as "
    assert refused(tmp_path / "x.pth").startswith(message)
    write_torch_archive(tmp_path / "x.pth", {"fc.weight": np.zeros(2, np.float32)})
    assert refused(tmp_path / "x.pth").startswith("no method that is known here. Expected a ")
    vtd = vtd_model(1)
    write_torch_archive(tmp_path / "x.pth", frozen(vtd) | learnt(vtd))
    assert refused(tmp_path / "x.pth").startswith("is of VTD-CLIP, which needs no rival's way")
    assert refused(tmp_path) == "is a folder, expected a .pth file"
    assert refused(tmp_path / "none.pth").startswith("no such file or folder. Expected a checkp")
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04" + bytes(50))
    refused(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"temporal.weight": np.zeros(3)}, "not the tensors of a ViFi-CLIP; surplus: temporal.w"),
        ({f"{BLOCK}.ln_1.bias": None}, f"tensors of a ViFi-CLIP; missing: {BLOCK}.ln_1.bias"),
        ({"logit_scale": None}, "not the tensors of a ViFi-CLIP; missing: logit_scale"),
        ({"logit_scale": np.zeros(3)}, "logit_scale is (3,), expected ()"),
        ({"logit_scale": np.float32(99)}, "logit_scale is 99, expected the logarithm"),
        ({"image_encoder.proj": np.full((64, 32), np.nan)}, "proj has 2048 values that are NaN"),
        (
            {"image_encoder.conv1.weight": np.zeros((64, 3, 8, 8))},
            "was tuned from another CLIP: image_encoder.conv1.weight is (64, 3, 8, 8) there, ",
        ),
        (
            {"prompt_learner.complete_text_embeddings": np.zeros((2, 76, 64))},
            "complete_text_embeddings is (2, 76, 64), expected (classes, 77, 64)",
        ),
        (
            {"prompt_learner.complete_text_embeddings": np.zeros(3)},
            "complete_text_embeddings is (3,), expected (classes, 77, 64)",
        ),
        (
            {"prompt_learner.complete_text_embeddings": np.full((2, 77, 64), np.inf)},
            "values that are NaN or infinite",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
    state = dict(STATE)
    for name, array in change.items():
        if array is None:
            del state[name]
        else:
            state[name] = np.asarray(array, np.float32)
    assert message in refused(written(tmp_path, state))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"prompt_learner.ctx": np.zeros((200_000, 64))}, "its prompts: model.text_prompts: 2"),
        ({"prompt_learner.ctx": np.zeros((6, 63))}, "ctx is (6, 63), expected (6, 64)"),
        ({f"{BLOCK}.VPT_shallow": np.zeros((2, 64))}, "VPT_shallow is (2, 64), expected (3, 64)"),
        ({"image_encoder.VPT": np.zeros(())}, "its prompts: model.visual_prompts=0 with"),
        (
            {f"{BLOCK.replace('1', '9')}.VPT_shallow": np.zeros((3, 64))},
            "model.visual_depth=3: this CLIP has 2 visual layers",
        ),
    ],
)
def test_prompts_that_do_not_fit(tmp_path, change, message):
    changed = {name: np.asarray(array, np.float32) for name, array in change.items()}
    path = written(tmp_path, PROMPTS | changed)
    with pytest.raises(UserError) as caught:
        load(path, "vifi_prompts", clip_from_state(SMALL, CLIP))
    assert message in str(caught.value)


def test_the_clip_that_it_was_tuned_from_is_told_by_its_token_embeddings(tmp_path):
    """They are not in the file, so another CLIP of the same sizes would go unnoticed."""
    other = random_state(SMALL, seed=3)
    table = "token_embedding.weight"
    empty = CLIP | {table: np.zeros_like(CLIP[table])}
    for state, name, clip in (
        (STATE, "vifi", other), (PROMPTS, "vifi_prompts", other), (STATE, "vifi", empty),
    ):  # fmt: skip
        message = refused(written(tmp_path, state), name, clip=clip)
        assert "was tuned from another CLIP: the start token in prompt_learner." in message
        assert message.endswith("give the CLIP that it was tuned from as `clip.path`")


def test_other_settings_than_the_files_are_refused(tmp_path):
    path = written(tmp_path, STATE)
    assert "other settings than the file" in _with(path, vtd_model(0, fusion=False))
    model = VTDCLIP(clip_from_state(SMALL, CLIP), read_settings(path, "vifi"), rngs=nnx.Rngs(0))
    assert "other settings than the file" in _with(path, model.with_pooling("confidence"))


def _with(path, model):
    with pytest.raises(UserError) as caught:
        load_rival(model, path, "vifi")
    return str(caught.value)


def test_nothing_in_the_file_runs(tmp_path):
    """What lies beside the weights is passed over, code among the weights refused."""

    class Runs:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    root = {"model": tf.state_dict(STATE, prefix="module."), "config": Runs(), "epoch": 9}
    path = tf.save(tmp_path / "x.pth", root)
    assert read_settings(path, "vifi").pooling == "mean"
    root = {"model": {**tf.state_dict(STATE), "image_encoder.hook": Runs()}}
    assert "carries code" in refused(tf.save(tmp_path / "y.pth", root))
    assert not (tmp_path / "ran").exists()
