"""What the fast path of `classify` costs: products over classes as traced, memory as compiled; and
who takes it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.interpreters.partial_eval import dce_jaxpr

from support.helpers import SMALL, random_state
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.cost.hlo import traced_work
from vtd_jax.model.axes import cross_entropy
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

WIDE = CLIPConfig(512, 32, 1, 64, 16, 64, text_layers=1)
B, T, D = 4, 16, 512


@functools.cache
def _clip(config=WIDE):
    return clip_from_state(config, random_state(config))


def _model(plain=False, clip=None, **settings):
    nothing = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0)
    config = ModelConfig(**nothing | settings)
    return VTDCLIP(clip or _clip(), config, rngs=nnx.Rngs(0), compute=Compute(plain=plain))


def _functions(model, keys):
    """(logits, gradient) as functions of features and codebook."""

    def logits(features, codebook):
        return model.classify(features, codebook, dropout_keys=keys).logits

    def loss(features, codebook):
        return cross_entropy(logits(features, codebook), jnp.arange(B)).mean()

    return logits, jax.grad(loss, argnums=(0, 1))


def _shapes(classes):
    return jax.ShapeDtypeStruct((B, T, D), jnp.float32), jax.ShapeDtypeStruct(
        (classes, D), jnp.float32
    )


def _products(jaxpr, classes):
    """FLOPs of products that have a class axis, as a share of one product of all frames and codes.

    Of a condition the branch without a second product counts, which is taken unless frames nearly
    vanish.
    """
    total = 0
    for equation in jaxpr.eqns:
        shapes = [var.aval.shape for var in (*equation.invars, *equation.outvars)]
        if equation.primitive.name == "dot_general" and any(classes in shape for shape in shapes):
            contracted = equation.params["dimension_numbers"][0][0]
            size = equation.outvars[0].aval.size
            for axis in contracted:
                size *= shapes[0][axis]
            total += size / (B * T * D * classes)
        inner = [
            value
            for value in equation.params.values()
            if hasattr(value, "jaxpr") or hasattr(value, "eqns")
        ]
        if equation.primitive.name == "cond":
            inner = [equation.params["branches"][1]]
        total += sum(_products(getattr(sub, "jaxpr", sub), classes) for sub in inner)
    return total


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings, dropout, fast, plain",
    [
        # one product for all; that of the added vectors has one row a video, and is computed again
        # backwards
        ({}, False, (1 + 1 / T, 3 + 4 / T), (3, 7)),
        # the fused frames have their own
        ({}, True, (2, 6), (3, 7)),
        # no video token is needed
        ({"fusion": False}, False, (1, 3), (2, 6)),
        ({"top_n": 2}, False, (3, 7), (3, 7)),
    ],
)
def test_products_over_classes(settings, dropout, fast, plain):
    """Forwards and with the gradient, which takes two more products for each one that it passes."""
    classes = 101
    keys = jax.random.split(jax.random.key(0), B) if dropout else None
    for is_plain, expected in ((False, fast), (True, plain)):
        for function, count in zip(
            _functions(_model(is_plain, **settings), keys), expected, strict=True
        ):
            jaxpr = jax.make_jaxpr(function)(*_shapes(classes)).jaxpr
            jaxpr = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]
            assert _products(jaxpr, classes) == pytest.approx(count), (is_plain, function)


@pytest.mark.slow
def test_the_fusion_block_runs_once_a_video():
    flops = {}
    for plain in (False, True):
        logits, _ = _functions(_model(plain), None)
        flops[plain] = traced_work(jax.make_jaxpr(logits)(*_shapes(101))).flops
    print(flops)
    assert flops[False] < flops[True] / 8


@pytest.mark.slow
@pytest.mark.parametrize("settings, dropout", [({}, False), ({}, True), ({"fusion": False}, False)])
def test_memory_of_many_classes_is_that_of_a_chunk(settings, dropout):
    classes = 100_000
    keys = jax.random.split(jax.random.key(0), B) if dropout else None
    for function in _functions(_model(**settings), keys):
        compiled = jax.jit(function).lower(*_shapes(classes)).compile()
        for shape in (f"[{B},{T},{classes}]", f"[{B * T},{classes}]", f"[{classes},{B * T}]"):
            assert shape not in compiled.as_text()
        temporaries = compiled.memory_analysis().temp_size_in_bytes
        print(settings, dropout, temporaries / 2**20)
        assert temporaries < B * T * classes * 4 / 2


@pytest.mark.slow
def test_a_resnet_has_a_plain_path_too():
    clip = _clip(CLIPConfig(32, 32, (1, 1, 1, 1), 32, None, 64, text_layers=2))
    tokens = jnp.asarray([[198, 7, 199]])
    fast, plain = (_model(plain, clip).encode_classes(tokens) for plain in (False, True))
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)


def test_other_settings_leave_the_model_as_it_was():
    model = _model(clip=_clip(SMALL))
    changed = model.with_compute(Compute(plain=True, frame_chunks=2)).with_pooling("mean")
    assert (changed.compute.plain, changed.config.pooling) == (True, "mean")
    assert (model.compute, model.config.pooling) == (Compute(), "confidence")
    for ours, theirs in zip(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(changed))):
        assert ours is theirs
