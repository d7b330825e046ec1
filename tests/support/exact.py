"""The method in float64, to find which of two float32 results is nearer; and features shaped
like CLIP's.
"""

import jax
import jax.numpy as jnp
import numpy as np


def clip_like(videos, frames, classes, width=512, seed=0):
    """Raw features and codes: norms about 10, cosines about 0.2 between them, frames of a video and
    codes similar.
    """
    rng = np.random.default_rng(seed)

    def unit(*shape):
        x = rng.standard_normal(shape)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def scaled(x, low, high):
        length = rng.uniform(low, high, (*x.shape[:-1], 1))
        return (x * length / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    both, image, text = unit(width), unit(width), unit(width)
    codes = scaled(0.75 * text + 0.35 * both + 0.55 * unit(classes, width), 8, 11)
    seen = codes[rng.integers(0, classes, videos), None] / 10
    features = 0.75 * image + 0.2 * both + 0.15 * seen + 0.4 * unit(videos, 1, width)
    features = features + 0.35 * unit(videos, frames, width)
    return scaled(features, 9, 11), codes


# a float32 number near 1 is off by up to this after one rounding
ROUNDING = 2.0**-24


def logits(
    parameters,
    features,
    codebook,
    tokens,
    *,
    temperature=0.01,
    uniform=False,
    kept=None,
    off=(0.0, 0.0, 0.0),
):
    """Logits of pooling "confidence" for given classes of the video tokens `[B]`.

    Args:
      parameters: `{"fusion": {layer: {"kernel", "bias"}}, "logit_scale"}` of `nnx.to_pure_dict`; or
        no fusion.
      features, codebook: raw.
      tokens: `[B]` classes of the video tokens.
      kept: `[B, T, H]`, what dropout makes of every head's attention weight, which is 1 before;
        None without dropout.
      off: three errors: `[B, T, K]` each, of the cosines of frames and of fused frames; and the
        scale's, as a share.
    """

    def cosine(x):
        return jnp.einsum("btd,kd->btk", x, codebook) / (_norm(x) * _norm(codebook)[:, 0])

    def dense(x, name):
        return x @ parameters["fusion"][name]["kernel"] + parameters["fusion"][name]["bias"]

    fused = features
    if "fusion" in parameters:
        value = dense(codebook[tokens][:, None], "v")
        if kept is not None:
            heads = value.reshape(len(value), 1, kept.shape[-1], -1)
            value = (kept[..., None] * heads).reshape(*kept.shape[:2], -1)
        fused = features + dense(jax.nn.relu(dense(dense(value, "out"), "fc1")), "fc2")
    weights = jax.nn.softmax(
        (0 if uniform else 1) * (cosine(features) + off[0]) / temperature, axis=1
    )
    scale = jnp.exp(parameters["logit_scale"]) * (1 + off[2])
    return scale * (weights * (cosine(fused) + off[1])).sum(axis=1)


def apart(x, y):
    """The difference of two arrays as a share of the second, in the L2 norm."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-30)


def with_rounding(function, shape, draws=4):
    """What a function of float64 gives, and by how much rounding moves it: a yardstick that no
    machine sets.

    Args:
      function: of `off` (see `logits`) to a dict of arrays.
      shape: `[B, T, K]` of the cosines.
      draws: how often every cosine and the scale are moved by one rounding of 1, up or down; the
        worst counts.

    Returns:
      `(exact, moved)`: the dicts of arrays and of numbers, `apart` plus the rounding of the result
      itself.
    """
    rng = np.random.default_rng(0)
    exact = function((np.zeros(shape), np.zeros(shape), 0.0))
    moved = dict.fromkeys(exact, 0.0)
    for _ in range(draws):
        found = function(
            tuple(rng.choice([-ROUNDING, ROUNDING], size) for size in (shape, shape, ()))
        )
        moved = {name: max(moved[name], apart(found[name], exact[name])) for name in exact}
    return exact, {name: value + ROUNDING for name, value in moved.items()}


def _norm(x):
    # as in the method: a vector of zeros has cosine 0
    return jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def kept(fusion, keys, frames):
    """`[B, T, H]`, what dropout leaves of every head's weight of the one video token."""
    share = 1 - fusion.dropout
    drawn = jax.vmap(lambda key: jax.random.bernoulli(key, share, (fusion.heads, frames, 1)))(keys)
    return np.where(drawn[..., 0], 1 / share, 0.0).transpose(0, 2, 1)
