"""The gradient over devices, codebook shards and chunks is that of the plain loss on
one device.
"""

import dataclasses
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.axes import WHOLE
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import BATCH, DeviceMesh, Mapped, Over, run_devices
from vtd_jax.train import step

pytestmark = pytest.mark.mesh

SETTINGS = ModelConfig(
    text_prompts=4, text_depth=2, visual_prompts=3, visual_depth=2, fusion_heads=4, dropout=0.5
)
NAMES = (
    "pour",
    "arm wrestling",
    "abseiling",
    "cartwheel",
    "brush hair",
    "catch",
    "chew",
    "clap",
    "climb stairs",
    "dive",
)


def _parts(remat="none", frame_chunks=1, **changes):
    clip = clip_from_state(SMALL, random_state(SMALL, 5))
    settings = dataclasses.replace(SETTINGS, **changes)
    compute = Compute(remat=remat, frame_chunks=frame_chunks)
    model = VTDCLIP(clip, settings, rngs=nnx.Rngs(0), compute=compute)
    return step.split(model), model


def _batch(classes, size=16, frames=8):
    rng = np.random.default_rng(0)
    weight = np.ones(size, np.float32)
    weight[11:] = 0
    # frames of one video are similar, as in a video, so that a vote is no coin toss
    scene = rng.integers(0, 256, (size, 1, 32, 32, 3))
    return {
        "frames": np.clip(scene + rng.normal(0, 60, (size, frames, 32, 32, 3)), 0, 255).astype(
            np.uint8
        ),
        "label": rng.integers(0, classes, size).astype(np.int32),
        "weight": weight,
        "index": rng.permutation(100)[:size].astype(np.int32),
    }


@functools.cache
def _plain(classes, **changes):
    """(gradient, sums) of the plain loss, compiled for one device; once, as many are compared with
    it.
    """
    parts, model = _parts(**changes)
    tokens, key = model.class_tokens(NAMES[:classes]), jax.random.key(3)
    gradient = jax.jit(jax.grad(step.loss_fn, has_aux=True), static_argnums=2)
    grads, (sums, _) = gradient(
        parts.learnable, parts.frozen, parts.graphdef, _batch(classes), tokens, key
    )
    return grads, sums


def _mapped(classes, devices=8, shards=1, spelling="shard_map", check_vma=False, **changes):
    """The same from `step.gradients` over a mesh."""
    parts, model = _parts(**changes)
    mesh = DeviceMesh(run_devices(devices), shards)

    def local(learnable, frozen, batch, tokens):
        key = jax.random.key(3)
        return step.gradients(
            learnable, frozen, parts.graphdef, batch, tokens, key, mesh.axes(classes)
        )

    mapped = Mapped(
        local,
        mesh,
        (Over.SAME, Over.SAME, BATCH, Over.CLASSES),
        (Over.SAME, Over.SAME),
        spelling,
        check_vma=check_vma,
    )
    args = (
        parts.learnable,
        parts.frozen,
        _batch(classes),
        mesh.lay_out(model.class_tokens(NAMES[:classes])),
    )
    return mapped(*(mapped.place(number, arg) for number, arg in enumerate(args)))


def _assert_same(found, expected, rtol=1e-5):
    """Gradients to a share of each array's largest value, sums to rounding."""
    for (path, x), y in zip(
        jax.tree.leaves_with_path(found[0]), jax.tree.leaves(expected[0]), strict=True
    ):
        # the bias of `k` moves all scores of a frame equally: its gradient is 0 but for rounding
        scale = max(float(jnp.abs(y).max()), 1e-2)
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(
            np.asarray(x) / scale, np.asarray(y) / scale, atol=rtol, err_msg=name
        )
    assert float(found[1]["count"]) == float(expected[1]["count"]) == 11
    assert float(found[1]["correct"]) == float(expected[1]["correct"])
    np.testing.assert_allclose(found[1]["loss"], expected[1]["loss"], rtol=rtol)


@pytest.mark.parametrize("spelling", ["shard_map", "pmap"])
@pytest.mark.parametrize("devices", [1, 8])
def test_devices_share_the_videos(devices, spelling):
    _assert_same(_mapped(10, devices, spelling=spelling), _plain(10))


@pytest.mark.parametrize(
    "devices, shards, classes", [(8, 2, 10), (8, 8, 10), (2, 2, 10), (8, 4, 3), (8, 8, 3)]
)
def test_devices_share_the_codebook(devices, shards, classes):
    # 3 classes over 8 devices: most of them hold nothing but padding
    _assert_same(_mapped(classes, devices, shards), _plain(classes))


@pytest.mark.parametrize("shards", [1, 2])
def test_gradients_are_the_same_with_checked_axes(shards):
    """With `check_vma` JAX itself sums gradients of what is the same on all devices, and refuses
    results that are not.
    """
    _assert_same(_mapped(10, 8, shards, check_vma=True), _plain(10))


@pytest.mark.parametrize(
    "changes",
    [
        {"assignment": "cosine", "top_n": 3},
        {"pooling": "softmax_mean", "top_n": 20},
        {"pooling": "mean", "fusion": False},
        {"text_prompts": 0, "text_depth": 0},
        {"visual_prompts": 0, "visual_depth": 0, "temperature": 1.0},
    ],
)
def test_every_variant_of_the_method_can_be_split(changes):
    _assert_same(_mapped(10, 8, 4, **changes), _plain(10, **changes))


@pytest.mark.parametrize(
    "remat, frame_chunks", [("block", 1), ("dots", 1), ("none", 4), ("block", 2)]
)
def test_what_is_computed_again_is_the_same(remat, frame_chunks):
    _assert_same(_mapped(10, 8, 2, remat=remat, frame_chunks=frame_chunks), _plain(10))


def test_all_of_it_without_a_mesh():
    parts, model = _parts()
    run = partial(step.gradients, axes=WHOLE)
    tokens = model.class_tokens(NAMES)
    found = jax.jit(run, static_argnums=2)(
        parts.learnable, parts.frozen, parts.graphdef, _batch(10), tokens, jax.random.key(3)
    )
    _assert_same(found, _plain(10))


def test_rematerialisation_keeps_less():
    """Residuals of the backward pass, as JAX counts them before any compiler sees them."""
    kept = {}
    for remat, chunks in (("none", 1), ("dots", 1), ("block", 1), ("none", 8)):
        parts, model = _parts(remat, chunks, dropout=0.0)
        batch, tokens = jax.tree.map(jnp.asarray, (_batch(10), model.class_tokens(NAMES)))

        def pull_back(learnable, parts=parts, batch=batch, tokens=tokens):
            return jax.vjp(
                lambda learnable: step.loss_fn(
                    learnable, parts.frozen, parts.graphdef, batch, tokens
                )[0],
                learnable,
            )[1]

        residuals = jax.tree.leaves(jax.eval_shape(pull_back, parts.learnable))
        kept[remat, chunks] = sum(
            x.size * x.dtype.itemsize for x in residuals if x.ndim and x.shape[0] >= 16
        )
    print(kept)
    # "dots" keeps only what frozen weights need
    assert kept["block", 1] < 0.55 * kept["dots", 1] < 0.4 * kept["none", 1]
    assert kept["none", 8] < 0.35 * kept["none", 1]


def test_a_mesh_that_cannot_be():
    with pytest.raises(
        UserError, match=r"codebook_shards=3: does not divide the 8 devices of a host"
    ):
        DeviceMesh(run_devices(), 3)
    with pytest.raises(UserError, match="codebook_shards: pmap has the data axis only"):
        Mapped(lambda x: x, DeviceMesh(run_devices(), 2), (Over.SAME,), Over.SAME, "pmap")
