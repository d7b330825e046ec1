"""Class names in templates -> codebook: what vanilla CLIP baselines do in the place of learnt
prompts.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from vtd_jax.model.discretize import normalize


def template_tokens(names: Sequence[str], templates: Sequence[str]) -> Int32[np.ndarray, "k m 77"]:
    """Token ids of every class in every template.

    Args:
      names: K class names, which go in as they are, underscores kept (as bare names do).
      templates: M texts with `{}` where the name goes.

    Raises:
      UserError: a text that is too long.
    """
    # imported where it is needed: a benchmark on a bare machine has no tokenizer
    from vtd_jax.clip.tokenizer import tokenize

    texts = [template.replace("{}", name) for name in names for template in templates]
    return tokenize(texts).reshape(len(names), len(templates), -1)


def ensemble(features: Float[Array, "m k d"]) -> Float[Array, "k d"]:
    """One raw code a class from the raw text features of its M templates, float32.

    Their directions are averaged, each template counting the same (the mean of unit vectors, as
    OpenAI's ensembles). The mean then takes the mean length of the raw features: the Euclidean
    assignment compares raw frames with raw codes, so codes must have the length that raw codes
    have. One template gives its own features.
    """
    lengths = jnp.linalg.norm(features.astype(jnp.float32), axis=-1, keepdims=True).mean(axis=0)
    return normalize(normalize(features).mean(axis=0)) * lengths
