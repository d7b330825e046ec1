import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.model import discretize, fusion
from vtd_jax.model.attribution import attribute


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["confidence", "mean", "softmax_mean"])
def test_contributions_of_frames_are_the_logits_taken_apart(pooling):
    rng = np.random.default_rng(0)
    fused = jnp.asarray(rng.standard_normal((2, 5, 16)), jnp.float32)
    codebook = jnp.asarray(rng.standard_normal((7, 16)), jnp.float32)
    scale = jnp.float32(20.0)
    weights = discretize.confidence(discretize.cosine(fused + 0.3, codebook), 0.1)
    found = attribute(fused, codebook, weights, scale, pooling)
    np.testing.assert_allclose(found.weight.sum(axis=1), 1, rtol=1e-5)
    total = found.contribution.sum(axis=1)
    if pooling == "confidence":
        expected = fusion.confidence_logits(fused, codebook, weights, scale)
        np.testing.assert_allclose(found.weight, weights, rtol=1e-5)
    elif pooling == "mean":
        expected = fusion.mean_logits(fused, codebook, scale)
    else:
        expected = jax.nn.softmax(fusion.softmax_mean_logits(fused, codebook, scale), axis=-1)
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5 * float(abs(expected).max()))
