"""The transformer towers against a plain NumPy float64 reference, prompts included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen, LayerNorm
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError

RNG = np.random.default_rng(7)


def _norm(state, name, x):
    x = x - x.mean(-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * state[f"{name}.weight"]
        + state[f"{name}.bias"]
    )


def _block(state, name, x, mask, head_width=64):
    """One pre-LN block in float64, head by head and row by row of the formulas of the paper."""
    q, k, v = np.split(
        _norm(state, f"{name}.ln_1", x) @ state[f"{name}.attn.in_proj_weight"].T
        + state[f"{name}.attn.in_proj_bias"],
        3,
        axis=-1,
    )
    mixed = []
    for head in range(x.shape[-1] // head_width):
        at = slice(head * head_width, (head + 1) * head_width)
        scores = q[..., at] @ np.swapaxes(k[..., at], -1, -2) / np.sqrt(head_width) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed.append(weights / weights.sum(-1, keepdims=True) @ v[..., at])
    x = (
        x
        + np.concatenate(mixed, -1) @ state[f"{name}.attn.out_proj.weight"].T
        + state[f"{name}.attn.out_proj.bias"]
    )
    hidden = (
        _norm(state, f"{name}.ln_2", x) @ state[f"{name}.mlp.c_fc.weight"].T
        + state[f"{name}.mlp.c_fc.bias"]
    )
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    return x + hidden @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]


def _image_reference(state, config, images, prompts):
    kernel = state["visual.conv1.weight"]
    size = config.vision_patch_size
    tokens = [np.broadcast_to(state["visual.class_embedding"], (len(images), config.vision_width))]
    for i in range(config.grid):
        for j in range(config.grid):
            patch = images[:, i * size : (i + 1) * size, j * size : (j + 1) * size]
            tokens.append(np.einsum("nhwc,ochw->no", patch, kernel))
    x = np.stack(tokens, 1) + state["visual.positional_embedding"]
    if prompts is not None:
        x = np.concatenate([x, np.repeat(prompts[:1], len(x), 0)], 1)
    x = _norm(state, "visual.ln_pre", x)
    for i in range(config.vision_layers):
        if prompts is not None and 0 < i < len(prompts):
            x[:, -prompts.shape[1] :] = prompts[i]
        x = _block(state, f"visual.transformer.resblocks.{i}", x, 0.0)
    return _norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def _text_reference(state, config, tokens, prompts):
    x = state["token_embedding.weight"][tokens]
    if prompts is not None:
        x[:, 1 : 1 + prompts.shape[1]] = prompts[0]
    x = x + state["positional_embedding"][: tokens.shape[1]]
    mask = np.where(np.tril(np.ones((tokens.shape[1],) * 2)) > 0, 0.0, -np.inf)
    for i in range(config.text_layers):
        if prompts is not None and 0 < i < len(prompts):
            x[:, 1 : 1 + prompts.shape[1]] = prompts[i]
        x = _block(state, f"transformer.resblocks.{i}", x, mask)
    ends = x[np.arange(len(x)), tokens.argmax(-1)]
    return _norm(state, "ln_final", ends) @ state["text_projection"]


CONFIG = CLIPConfig(48, 48, 3, 128, 16, 128, text_layers=3, vocab_size=200, context_length=20)
STATE = random_state(CONFIG, 3)
EXACT = {name: x.astype(np.float64) for name, x in STATE.items()}
PROMPTS = [None, *[(depth, length) for depth in (1, 2, 3) for length in (1, 5)]]


def _relative(ours, reference):
    return np.linalg.norm(np.asarray(ours, np.float64) - reference) / np.linalg.norm(reference)


def _tokens():
    tokens = RNG.integers(1, 198, (5, 14))
    for row, end in enumerate([8, 9, 10, 11, 13]):
        tokens[row, end] = 199
        tokens[row, end + 1 :] = 0
    return tokens.astype(np.int32)


@pytest.mark.parametrize("shape", PROMPTS)
def test_image_tower_matches_the_reference(shape):
    images = RNG.standard_normal((2, 48, 48, 3), dtype=np.float32)
    prompts = None if shape is None else RNG.standard_normal((*shape, 128)).astype(np.float32)
    clip = clip_from_state(CONFIG, STATE)
    ours = clip.encode_images(
        jnp.asarray(images), None if prompts is None else jnp.asarray(prompts)
    )
    exact = None if prompts is None else prompts.astype(np.float64)
    assert _relative(ours, _image_reference(EXACT, CONFIG, images.astype(np.float64), exact)) < 2e-6


@pytest.mark.parametrize("shape", PROMPTS)
def test_text_tower_matches_the_reference(shape):
    tokens = _tokens()
    prompts = None if shape is None else RNG.standard_normal((*shape, 128)).astype(np.float32)
    clip = clip_from_state(CONFIG, STATE)
    ours = clip.encode_text(jnp.asarray(tokens), None if prompts is None else jnp.asarray(prompts))
    exact = None if prompts is None else prompts.astype(np.float64)
    assert _relative(ours, _text_reference(EXACT, CONFIG, tokens, exact)) < 2e-6


@pytest.mark.slow
def test_positions_after_the_end_change_nothing():
    tokens = _tokens()
    longer = np.zeros((5, 20), np.int32)
    longer[:, :14] = tokens
    noise = longer.copy()
    noise[0, 9:] = 17
    clip = clip_from_state(CONFIG, STATE)
    short = clip.encode_text(jnp.asarray(tokens))
    # of the largest feature, which is 3 to 4: some processors add up matrices of another height in
    # another order
    rounding = 2e-6 * float(jnp.abs(short).max())
    np.testing.assert_allclose(clip.encode_text(jnp.asarray(longer)), short, rtol=0, atol=rounding)
    np.testing.assert_allclose(clip.encode_text(jnp.asarray(noise)), short, rtol=0, atol=rounding)


@pytest.mark.slow
def test_bfloat16_stays_near_float32_and_returns_float32():
    images = jnp.asarray(RNG.standard_normal((2, 48, 48, 3), dtype=np.float32))
    exact = clip_from_state(CONFIG, STATE).encode_images(images)
    low = clip_from_state(CONFIG, STATE, dtype="bfloat16").encode_images(images)
    assert low.dtype == jnp.float32
    # bfloat16 keeps 8 bits: three blocks leave about 1e-2
    assert 1e-4 < _relative(low, np.asarray(exact, np.float64)) < 2e-2


@pytest.mark.slow
def test_gelu_and_quick_gelu_differ():
    images = jnp.asarray(RNG.standard_normal((1, 48, 48, 3), dtype=np.float32))
    gelu = CLIPConfig.from_dict(CONFIG.to_dict() | {"activation": "gelu"})
    a, b = (clip_from_state(c, STATE).encode_images(images) for c in (CONFIG, gelu))
    assert 1e-3 < _relative(a, np.asarray(b, np.float64)) < 0.2


def test_every_array_is_frozen_and_round_trips():
    clip = clip_from_state(SMALL, random_state(SMALL, 1))
    assert {type(v) for _, v in nnx.to_flat_state(nnx.state(clip))} == {Frozen}
    back = state_from_clip(clip)
    assert set(back) == set(tensor_shapes(SMALL))
    for name, x in random_state(SMALL, 1).items():
        np.testing.assert_array_equal(back[name], x, err_msg=name)


@pytest.mark.slow
def test_frozen_arrays_get_no_gradient_but_prompts_do():
    clip = clip_from_state(SMALL, random_state(SMALL, 1))
    images = jnp.asarray(RNG.standard_normal((2, 32, 32, 3), dtype=np.float32))
    prompts = jnp.asarray(RNG.standard_normal((2, 4, 64), dtype=np.float32))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(clip.encode_images(images, p) ** 2)))(prompts)
    assert float(jnp.abs(gradient).min(axis=-1).max()) > 0
    assert nnx.state(clip, nnx.Param) == nnx.State({})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("visual.proj"), "missing: visual.proj"),
        (lambda s: s.update(extra=np.zeros(3)), "surplus: extra"),
        (
            lambda s: s.update(text_projection=np.zeros((3, 3))),
            "text_projection is (3, 3), expected (64, 32)",
        ),
    ],
)
def test_wrong_tensors_are_named(change, message):
    state = random_state(SMALL, 1)
    change(state)
    with pytest.raises(UserError) as caught:
        clip_from_state(SMALL, state)
    assert message in str(caught.value)


def test_images_of_another_size_are_refused():
    clip = clip_from_state(SMALL, random_state(SMALL, 1))
    with pytest.raises(UserError, match="images are 48×32, this ViT takes 32×32"):
        clip.encode_images(jnp.zeros((1, 48, 32, 3)))


@pytest.mark.slow
def test_layer_norm_has_all_three_gradients():
    random = np.random.default_rng(8)
    x, cotangent = (jnp.asarray(random.standard_normal((3, 5, 16), np.float32)) for _ in range(2))
    scale, bias = (jnp.asarray(random.standard_normal(16, np.float32)) for _ in range(2))
    norm = LayerNorm(16)
    norm.scale[...], norm.bias[...] = scale, bias
    graphdef, state = nnx.split(norm)

    def ours(x, state):
        return (nnx.merge(graphdef, state)(x) * cotangent).sum()

    def plain(x, scale, bias):
        unit = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return ((unit * scale + bias) * cotangent).sum()

    of_x, of_state = jax.grad(ours, (0, 1))(x, state)
    expected = jax.grad(plain, (0, 1, 2))(x, scale, bias)
    found = of_x, of_state["scale"][...], of_state["bias"][...]
    for gradient, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-5, atol=3e-6)
