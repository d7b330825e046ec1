"""Our programs as jobs: what they compute, and that the step moves on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.benchmark.classes import name_lengths, stand_in_tokens
from experiments.benchmark.setting import Options
from experiments.benchmark.tasks import (
    CLASSIFY,
    CODEBOOK,
    EVALUATION,
    FEATURES,
    STEP,
    TASKS,
    Programs,
    Setting,
    plain_flops,
    random_model,
    scores,
)
from support.helpers import SMALL
from vtd_jax.evaluate import views
from vtd_jax.model.config import ModelConfig

pytestmark = pytest.mark.slow

MODEL = ModelConfig(text_prompts=5, text_depth=2, visual_prompts=3, visual_depth=2)


@pytest.fixture(scope="module")
def setting():
    return Setting(SMALL, MODEL, 3, 2, stand_in_tokens(name_lengths(4), 5))


@pytest.fixture(scope="module")
def programs(setting):
    return Programs(setting, random_model(setting, "float32"), "ours")


def test_jobs_compute_what_the_model_does(setting, programs):
    model, jobs = random_model(setting, "float32"), {job.task: job for job in programs.jobs}
    assert tuple(jobs) == TASKS
    features, codes = map(jnp.asarray, setting.encoded())
    frames = jnp.asarray(setting.videos()["frames"])
    expected = {
        FEATURES: (model.encode_frames, (frames,)),
        CODEBOOK: (model.encode_classes, (jnp.asarray(setting.tokens),)),
        CLASSIFY: (lambda x, c: model.classify(x, c).logits, (features, codes)),
        EVALUATION: (partial(scores, model), (frames, codes)),
    }
    for task, (function, arguments) in expected.items():
        found, value = jobs[task].run(), jax.jit(function)(*arguments)
        assert float(jnp.linalg.norm(found - value)) <= 1e-5 * float(jnp.linalg.norm(value)), task
    assert {task: job.clips for task, job in jobs.items()} == dict.fromkeys(TASKS, 2) | {
        CODEBOOK: 0
    }
    assert all(job.flops > 0 for job in jobs.values())


def test_scores_are_those_of_an_evaluation(setting):
    model = random_model(setting, "float32")
    frames, codes = jnp.asarray(setting.videos()["frames"]), jnp.asarray(setting.encoded()[1])
    graphdef, state = nnx.split(model)
    expected, _ = jax.jit(partial(views.view_scores, graphdef=graphdef))(frames, state, codes)
    found = jax.jit(partial(scores, model))(frames, codes)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_steps_continue_from_each_other(setting, programs):
    videos = jax.device_put(setting.videos())
    losses = [float(programs.train(videos)["loss"]) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert len(set(losses)) > 1


def test_memory_is_reported_for_every_program(programs):
    assert set(programs.memory) == set(programs.compiling) == set(TASKS)
    assert all(planned["arguments"] > 0 for planned in programs.memory.values())


def test_only_what_is_wanted_is_compiled(setting):
    found = Programs(setting, random_model(setting, "bfloat16"), "ours", tasks=(CODEBOOK,))
    assert [job.task for job in found.jobs] == [CODEBOOK]


def test_plain_models_have_more_flops_and_the_same_features(setting, programs):
    plain = Programs(
        setting,
        random_model(setting, "float32", plain=True),
        "plain",
        tasks=(FEATURES, STEP),
    )
    found, expected = plain.jobs[0].run(), programs.jobs[0].run()
    assert float(jnp.linalg.norm(found - expected)) < 1e-5 * float(jnp.linalg.norm(expected))
    ours = {job.task: job.flops for job in programs.jobs}
    assert all(job.flops > ours[job.task] for job in plain.jobs)
    assert plain.jobs[1].flops > 2 * plain.jobs[0].flops


def test_a_resnet_is_counted_too():
    setting = Options("RN50", 1, 1, 2, 5, 1, 1, stand_in=True).setting()
    # 4.1 GFLOP of multiplications and additions each, as papers count them; CLIP's stem has more
    assert 2 * 4.1e9 < plain_flops(setting)[FEATURES] < 3 * 4.1e9
