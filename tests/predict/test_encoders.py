"""From a checkpoint of SigLIP's or PE's design to a trained run, its prediction, its exported file,
its served program, and what it costs.
"""

import jax
import numpy as np
import pytest

import vtd_jax
from support import small_run
from support.helpers import random_state
from support.weights.encoders import CONFIGS, small_clip
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.cost.examine import examine
from vtd_jax.cost.programs import Names, training_step
from vtd_jax.cost.tables import evaluation_steps
from vtd_jax.cost.topology import Target
from vtd_jax.errors import UserError
from vtd_jax.predict.serve import encode_labels, served_program
from vtd_jax.train.workdir import read_config

pytestmark = pytest.mark.slow
VIDEO = np.random.default_rng(0).integers(0, 256, (5, 60, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("kind", CONFIGS)
def test_from_a_checkpoint_to_a_served_model(kind, records, tmp_path):
    clip = small_clip(CONFIGS[kind])
    path = tmp_path / "clip.safetensors"
    save_clip(path, clip.config, random_state(clip.config, 3), tokenizer=clip.tokenizer)
    run = small_run.run_config(
        records, clip__path=str(path), optimizer__epochs=1, model__visual_depth=2
    )
    workdir = tmp_path / "run"
    done = small_run.train(run, workdir)
    assert done.step == 3
    one = jax.devices()[:1]
    model = vtd_jax.load(workdir, devices=one, cache=tmp_path / "cache")
    found = model.explain(VIDEO, ["cat", "hugging"], frames=2)
    assert found.scores.sum() == pytest.approx(1)
    # its scale was learnt with a softmax
    assert found.matches is None
    with pytest.raises(UserError, match="text too long for"):
        model.predict(VIDEO, ["x y " * 40], frames=2)
    program, weights = served_program(model.model)
    codes = np.asarray(encode_labels(model.model, ["cat", "hugging"]))
    frames = found.pictures[None]
    served = jax.jit(program)(weights | {"codebook": codes}, frames)
    np.testing.assert_allclose(served["logits"][0], found.logits, rtol=1e-3, atol=1e-3)
    target = Target("here", "cpu", tuple(one), None)
    config = read_config(workdir)
    for step in (
        training_step(config, target, Names(3, 9)),
        *evaluation_steps(config, target, Names(3, 9)),
    ):
        assert examine(step, target, "run").flops > 0
