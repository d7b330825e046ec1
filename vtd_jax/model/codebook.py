"""Turns class names into tokens, behind learned prompts or in templates; templates into codes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from vtd_jax.model.discretize import normalize
from vtd_jax.model.prompts import INIT_WORDS

if TYPE_CHECKING:
    # a benchmark on a bare machine has no tokenizer
    from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer


def class_tokens(
    names: Sequence[str],
    prompt_length: int,
    *,
    tokenizer: "GemmaTokenizer | None" = None,
    context_length: int = 77,
) -> Int32[np.ndarray, "k l"]:
    """Token ids of every class.

    Args:
      names: class names, as the codebook's entries.
      prompt_length: P_t, learned prompts before a name. 0 takes bare names, underscores kept
        (zero-shot mode). Otherwise a text is P_t stand-in words, whose embeddings the prompts
        replace, the name with spaces in place of underscores, and a full stop. As in the release
        the stand-ins are "a photo of a" up to 4 tokens, of which the first P_t are replaced, else
        "X X … X". Another tokenizer than CLIP's has no stand-in words, only their places.
      tokenizer: that comes with the CLIP; None for CLIP's own.
      context_length: L.

    Raises:
      UserError: a text that is too long.
    """
    # imported late: a benchmark on a bare machine has no tokenizer
    from vtd_jax.clip.tokenizer import tokenize

    if not prompt_length:
        return (tokenizer.tokenize if tokenizer else tokenize)(names, context_length=context_length)
    spaced = [f"{name.replace('_', ' ')}." for name in names]
    if tokenizer:
        return tokenizer.behind(prompt_length, spaced, context_length=context_length)
    stand_in = INIT_WORDS if prompt_length <= 4 else " ".join(["X"] * prompt_length)
    return tokenize([f"{stand_in} {text}" for text in spaced], context_length=context_length)


def trim(tokens: Int32[np.ndarray, "... l"]) -> Int32[np.ndarray, "... n"]:
    """Drops the positions after the longest text, which cannot reach a result (causal mask)."""
    return np.ascontiguousarray(tokens[..., : int(tokens.argmax(axis=-1).max()) + 1])


def template_tokens(
    names: Sequence[str],
    templates: Sequence[str],
    *,
    tokenizer: "GemmaTokenizer | None" = None,
    context_length: int = 77,
) -> Int32[np.ndarray, "k m l"]:
    """Token ids of every class in every template, for vanilla CLIP baselines.

    Args:
      names: K class names, taken as they are, underscores kept (as bare names).
      templates: M texts with `{}` where the name goes.
      tokenizer, context_length: as for `class_tokens`.

    Raises:
      UserError: a text that is too long.
    """
    # imported late: a benchmark on a bare machine has no tokenizer
    from vtd_jax.clip.tokenizer import tokenize

    texts = [template.replace("{}", name) for name in names for template in templates]
    rows = (tokenizer.tokenize if tokenizer else tokenize)(texts, context_length=context_length)
    return rows.reshape(len(names), len(templates), -1)


def ensemble(features: Float[Array, "m k d"]) -> Float[Array, "k d"]:
    """One raw code a class from the raw text features of its M templates, float32.

    Their directions are averaged, each template counting the same (the mean of unit vectors, as
    OpenAI's ensembles). The mean then takes the mean length of the raw features: the Euclidean
    assignment compares raw frames with raw codes, so codes must have the length that raw codes
    have. One template gives its own features.
    """
    lengths = jnp.linalg.norm(features.astype(jnp.float32), axis=-1, keepdims=True).mean(axis=0)
    return normalize(normalize(features).mean(axis=0)) * lengths
