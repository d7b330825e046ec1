"""Rotary positions against the formula with complex numbers."""

import jax.numpy as jnp
import numpy as np

from vtd_jax.clip.towers.rotary import Rotation, grid_rotation, turned


def _formula(x: np.ndarray, grid: int, class_token: bool) -> np.ndarray:
    """Each pair of channels is a complex number that turns by its column, then by its row."""
    channels = x.shape[-1]
    pairs = x[..., ::2] + 1j * x[..., 1::2]
    quarter = channels // 4
    for token in range(class_token, grid**2 + class_token):
        row, column = divmod(token - class_token, grid)
        for pair in range(2 * quarter):
            place = column if pair < quarter else row
            angle = (place + class_token) * 10_000.0 ** (-(pair % quarter) / quarter)
            pairs[:, token, :, pair] *= np.exp(1j * angle)
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


def test_turns_are_those_of_complex_numbers():
    for class_token in (True, False):
        tokens = 9 + class_token
        x = np.random.default_rng(0).standard_normal((2, tokens, 3, 16))
        rotation = grid_rotation(3, 16, class_token)
        ours = turned(jnp.asarray(x.reshape(2, tokens, 48), jnp.float32), rotation)
        expected = _formula(x.copy(), 3, class_token).reshape(2, tokens, 48)
        np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_of_three_parts_values_stay_and_tokens_behind_do_not_turn():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 14, 96)), jnp.float32)
    rotation = grid_rotation(3, 16, True).padded(14)
    whole = turned(x, rotation, 3)
    for place in (0, 1):
        part = slice(32 * place, 32 * place + 32)
        np.testing.assert_array_equal(whole[..., part], turned(x[..., part], rotation))
    np.testing.assert_array_equal(whole[..., 64:], x[..., 64:])
    np.testing.assert_array_equal(whole[:, 10:], x[:, 10:])
    np.testing.assert_array_equal(whole[:, 0], x[:, 0])
    assert isinstance(rotation, Rotation)
    assert whole.astype(jnp.bfloat16).dtype == turned(x.astype(jnp.bfloat16), rotation, 3).dtype
