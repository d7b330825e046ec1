"""Fingerprints of weights, and those that earlier versions noted of the same weights."""

from flax import nnx

from support.helpers import random_state
from support.small_run import SMALL
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.saved.fingerprint import (
    are_weights,
    legacy_weights_fingerprint,
    weights_fingerprint,
)

# of `random_state(SMALL)`: as version 0.1.0 noted it, a CRC-32, and as it is noted now
BEFORE, NOW = "38ae04d7", "b2937bd798a328ef"


def _state(seed=0, layers="list"):
    return nnx.state(clip_from_state(SMALL, random_state(SMALL, seed), layers=layers))


def test_they_stay_what_they_are():
    for layers in ("list", "scan"):
        state = _state(layers=layers)
        assert weights_fingerprint(state) == NOW
        assert legacy_weights_fingerprint(state) == BEFORE


def test_another_clip_is_reported_by_either():
    for noted in (BEFORE, NOW):
        assert are_weights(noted, _state())
        assert not are_weights(noted, _state(seed=1))
    assert not are_weights(NOW[:8], _state())
