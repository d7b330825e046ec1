"""The method in float64, for telling which of two float32 results is nearer; and features shaped like CLIP's."""

import jax
import jax.numpy as jnp
import numpy as np


def clip_like(videos, frames, classes, width=512, seed=0):
    """Raw features and codes: norms about 10, cosines about 0.2 between them, frames of a video and codes alike."""
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


def logits(parameters, features, codebook, tokens, *, temperature=0.01, uniform=False):
    """Logits of pooling "confidence" for given classes of the video tokens `[B]`, without dropout.

    Args:
      parameters: `{"fusion": {layer: {"kernel", "bias"}}, "logit_scale"}` of `nnx.to_pure_dict`; or no fusion.
      features, codebook: raw.
      tokens: `[B]` classes of the video tokens.
    """

    def cosine(x):
        return jnp.einsum("btd,kd->btk", x, codebook) / (_norm(x) * _norm(codebook)[:, 0])

    def dense(x, name):
        return x @ parameters["fusion"][name]["kernel"] + parameters["fusion"][name]["bias"]

    fused = features
    if "fusion" in parameters:
        token = codebook[tokens][:, None]
        fused = features + dense(jax.nn.relu(dense(dense(dense(token, "v"), "out"), "fc1")), "fc2")
    weights = jax.nn.softmax((0 if uniform else 1) * cosine(features) / temperature, axis=1)
    return jnp.exp(parameters["logit_scale"]) * (weights * cosine(fused)).sum(axis=1)


def _norm(x):
    return jnp.linalg.norm(x, axis=-1, keepdims=True)
