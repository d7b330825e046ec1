"""Files in the authors' format as they are written, and logits from one of theirs."""

import contextlib
import json

import numpy as np
import pytest
from flax import nnx

from experiments.parity import golden as parity
from support.weights import torch_files as tf
from support.weights.release_models import NAMES, assert_learnt, frozen, learnt, model
from vtd_jax.clip.weights.params import state_from_clip
from vtd_jax.clip.weights.pytorch.archive import open_torch_archive
from vtd_jax.errors import UserError
from vtd_jax.model.codebook import class_tokens
from vtd_jax.model.saved.release_files import load_release, save_release
from vtd_jax.model.vtd_clip import VTDCLIP


def read(path):
    """A written file's state dict, by our own reader of archives."""
    with contextlib.ExitStack() as stack:
        return {name: lazy.read() for name, lazy in open_torch_archive(path, stack).tensors.items()}


def test_written_and_read_back_bit_for_bit(tmp_path):
    source, path = model(1), tmp_path / "x.pth"
    assert save_release(path, source) == len(learnt(source))
    found = read(path)
    assert list(found) == [f"module.{name}" for name in learnt(source)]
    for name, array in learnt(source).items():
        assert found[f"module.{name}"].tobytes() == array.astype("<f4").tobytes()
    assert found["module.lrf.fc1.weight"].shape == (128, 32)
    target = model(2)
    assert load_release(target, path) is False
    assert_learnt(target, source)


def test_the_whole_state_dict(tmp_path):
    source, path = model(1), tmp_path / "x.pth"
    count = save_release(path, source, with_clip=True, class_names=NAMES)
    found = read(path)
    assert len(found) == count
    whole = learnt(source) | frozen(source)
    table, tokens = state_from_clip(source.clip)["token_embedding.weight"], class_tokens(NAMES, 3)
    whole |= {
        "prompt_learner.token_prefix": table[tokens[:, :1]],
        "prompt_learner.token_suffix": table[tokens[:, 4:]],
    }
    assert set(found) == {f"module.{name}" for name in whole}
    for name, array in whole.items():
        np.testing.assert_array_equal(found[f"module.{name}"], array, err_msg=name)
    save_release(path, model(1, text_prompts=0), with_clip=True, class_names=NAMES)
    found = read(path)
    np.testing.assert_array_equal(
        found["module.prompt_learner.complete_text_embeddings"], table[class_tokens(NAMES, 0)]
    )
    assert "module.prompt_learner.token_prefix" not in found


def test_what_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"x\.pt: the name must end in \.pth"):
        save_release(tmp_path / "x.pt", model())
    with pytest.raises(
        UserError, match="the embeddings of the class names, and these are not known"
    ):
        save_release(tmp_path / "x.pth", model(), with_clip=True)
    assert list(tmp_path.iterdir()) == []


@nnx.jit
def forward(model, clips, tokens):
    return model(clips, model.encode_classes(tokens)).logits


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["base_to_novel", "few_shot"])
def test_golden_logits_from_a_checkpoint_of_the_authors(shared_dir, tmp_path, name):
    """Their drawn weights, in a file of their names, give their logits in our model."""
    path = shared_dir / "golden" / f"{name}.npz"
    with np.load(path) as golden:
        case, logits = json.loads(str(golden["case"])), golden["logits"]
        names = golden["trainable"].tolist()
    source = parity.build_model(case)
    state = learnt(source)
    assert set(names) == set(state)
    # drawn here by the README's rules, not by our port of the names
    words = case["n_ctx_text"] <= 4
    drawn = {
        key: array
        if words and key == "prompt_learner.ctx"
        else parity.draw(case["seed"], key, array.shape)
        for key, array in state.items()
    }
    root = {"model": tf.state_dict(drawn | frozen(source), prefix="module."), "epoch": 1}
    target = VTDCLIP(source.clip, source.config, rngs=nnx.Rngs(99))
    assert load_release(target, tf.save(tmp_path / "x.pth", root)) is True
    clips, _ = parity.draw_clip(case, 0)
    found = forward(target, clips, target.class_tokens(case["classes"]))
    assert np.abs(found - logits).max() < 1e-5 * np.abs(logits).max()


def test_a_model_with_templates_has_no_such_file(tmp_path):
    source = model(1, text_prompts=0, templates=("a {}", "{}"))
    for with_clip in (False, True):
        with pytest.raises(
            UserError,
            match=r"one text a class, this model averages 2 \(model\.templates\); export it as",
        ):
            save_release(tmp_path / "x.pth", source, with_clip=with_clip, class_names=NAMES)
    assert list(tmp_path.iterdir()) == []
