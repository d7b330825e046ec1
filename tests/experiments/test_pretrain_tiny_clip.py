"""The pretraining command: loss falls, the file loads, mistakes are reported; what it trains on."""

import dataclasses
import os
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pretrain_tiny_clip.__main__ import make
from experiments.pretrain_tiny_clip.data import Captions, PretrainOptions, StillPool
from experiments.pretrain_tiny_clip.training import (
    contrastive_loss,
    encode,
    grid_positions,
    initial_state,
    pretrain,
    zero_shot,
)
from support import warm
from support.helpers import SMALL, random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizer import decode
from vtd_jax.clip.weights.checkpoints import TINY_CLIP, load_clip
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.scenes.render import class_names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
QUICK = PretrainOptions(steps=12, batch_size=16, fresh=8, pool=32, lr=2e-3)


def _command(*flags):
    env = os.environ | {"XLA_FLAGS": warm.xla_flags()}
    return warm.run(["-m", "experiments.pretrain_tiny_clip", *flags], env)


def test_a_short_run_learns_and_its_file_loads(tmp_path, capsys):
    out = tmp_path / "clip.safetensors"
    options = PretrainOptions(steps=24, batch_size=32, fresh=21, pool=64)
    closing = make(out, options, stills=1, every=6)
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", printed)]
    assert len(losses) == 4
    assert losses[-1] < 0.9 * losses[0]
    assert re.search(r"12 of 24 updates, .* updates/s, \d+:\d\d left", printed)
    assert re.search(r"colour +\d+\.\d\n", printed)
    assert closing.startswith(f"wrote {out} (")
    clip = load_clip(out, expected="tiny")
    assert float(clip.logit_scale[...]) == pytest.approx(np.log(100), abs=1e-2)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.safetensors"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--out=clip.pt"], "--out=clip.pt: the name must end in .safetensors"),
        (["--out=nowhere/clip.safetensors"], "no folder nowhere, make it first"),
        (["--out=clip.safetensors", "--steps=0"], "steps"),
    ],
)
def test_mistakes_are_reported_in_one_line(flags, message):
    done = _command(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (ROOT / "clip.safetensors").exists()


@pytest.fixture(scope="module")
def shipped():
    return load_clip("tiny")


def test_the_shipped_clip_is_small_and_sees(shipped):
    assert TINY_CLIP.stat().st_size < 8e6
    assert shipped.config == CLIPConfig.tiny()
    scores = zero_shot(shipped, seed=50, each=2, subsets=20)
    assert scores["16-way"] > 0.85
    assert scores["256-way"] > 0.5
    assert scores["colour"] > 0.95
    assert scores["texture"] > 0.9
    assert abs(scores["256-way"] - scores["256-way, nearest"]) < 0.1


def test_features_have_the_length_that_euclidean_assignment_presumes(shipped):
    pool = StillPool(dataclasses.replace(QUICK, background=0.0, seed=9), 64)
    lengths = np.linalg.norm(encode(shipped, jnp.asarray(pool.images)), axis=1)
    np.testing.assert_allclose(lengths, 10, rtol=0.15)


def test_pretraining_repeats_and_keeps_unused_rows():
    config = dataclasses.replace(CLIPConfig.tiny(), vision_layers=1, text_layers=1)
    options = dataclasses.replace(QUICK, steps=2)
    first, again = (pretrain(config, options) for _ in range(2))
    assert {name: array.shape for name, array in first.items()} == tensor_shapes(config)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    start, captions = initial_state(config, options.seed), Captions(options, config.vocab_size)
    used = captions.kept[captions.trained]
    moved = (first["token_embedding.weight"] != start["token_embedding.weight"]).any(axis=1)
    assert set(np.flatnonzero(moved)) <= set(used.tolist())
    assert moved[used].mean() > 0.5
    assert (first["visual.proj"] != start["visual.proj"]).mean() > 0.9


def test_captions_name_every_combination():
    captions = Captions(QUICK, 49408)
    plain = filler = 0
    for _ in range(12):
        tokens = captions.draw()
        assert tokens.shape[0] == 258
        assert (captions.kept[tokens.max(axis=1)] == 49407).all()
        texts = [decode(captions.kept[row].tolist()) for row in tokens[:256]]
        for name, text in zip(class_names(), texts):
            assert name in text
        untrained = (~captions.trained)[tokens].any(axis=1)
        assert untrained.all() or not untrained.any()
        filler, plain = filler + untrained.all(), plain + (not untrained.any())
    assert filler > 0
    assert plain > 0


def test_the_pool_replaces_its_oldest_stills():
    pool = StillPool(QUICK, 32)
    before = pool.images.copy()
    images, subjects = pool.batch()
    assert images.shape == (16, 32, 32, 3)
    assert images.dtype == np.uint8
    assert subjects.max() < 258
    changed = (pool.images != before).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, np.arange(32) < 8)


def test_the_background_share_is_as_asked():
    pool = StillPool(dataclasses.replace(QUICK, pool=600, background=0.3), 16)
    assert (pool.subjects >= 256).mean() == pytest.approx(0.3, abs=0.06)
    assert set(pool.subjects[pool.subjects >= 256]) == {256, 257}


def test_loss_against_numpy():
    clip = clip_from_state(SMALL, random_state(SMALL))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    texts = rng.integers(1, 400, (4, 6)).astype(np.int32)
    texts[:, 5] = 49407
    subjects = np.array([0, 2, 2, 1, 0], np.int32)
    images, texts = jnp.asarray(images), jnp.asarray(texts)
    loss, top1 = contrastive_loss(clip, images, jnp.asarray(subjects), texts, jnp.float32(20))
    x, c = (
        np.asarray(encode(clip, images), np.float64),
        np.asarray(clip.encode_text(texts), np.float64),
    )
    lengths = [np.linalg.norm(a, axis=1, keepdims=True) for a in (x, c)]
    logits = 20 * (x / lengths[0]) @ (c / lengths[1]).T
    by_image = -np.mean([row[k] - np.log(np.exp(row).sum()) for row, k in zip(logits, subjects)])
    columns = logits - np.log(np.exp(logits).sum(axis=0))
    by_text = -np.mean([columns[subjects == k, k].mean() for k in (0, 1, 2)])
    uneven = sum(np.square(np.log(a / 10)).mean() for a in lengths)
    assert float(loss) == pytest.approx((by_image + by_text) / 2 + 5 * uneven, rel=1e-4)
    assert float(top1) == pytest.approx((logits.argmax(1) == subjects).mean())


def test_grid_positions_distinguish_every_patch():
    positions = grid_positions(8, 64)
    assert positions.shape == (65, 64)
    assert not positions[0].any()
    apart = np.linalg.norm(positions[1:, None] - positions[None, 1:], axis=-1)
    assert apart[~np.eye(64, dtype=bool)].min() > 0.5
    assert apart[0, 1] < apart[0, 4]
