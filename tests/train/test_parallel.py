"""One program, two spellings, one or eight devices: the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.train.parallel import Mapped, local_devices, pad_batch, round_up


def _centre(split, offset, *, axis_name):
    """Subtracts the global mean: wrong on more than one device unless the mean is taken over all of them."""
    mean = jax.lax.psum(split["x"].sum(), axis_name) / jax.lax.psum(split["x"].size, axis_name)
    return {"y": split["x"] - mean + offset["by"]}, {"mean": mean}


@pytest.mark.parametrize("spelling", ["shard_map", "pmap"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_both_spellings_on_any_number_of_devices(spelling, count):
    x = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    mapped = Mapped(_centre, local_devices(count), spelling)
    offset = mapped.replicate({"by": jnp.float32(2)})
    for _ in range(2):  # the second call reuses the program and takes the replicated array again
        per_example, common = mapped({"x": x}, offset)
    np.testing.assert_allclose(per_example["y"], x - x.mean() + 2, rtol=1e-6)
    np.testing.assert_allclose(common["mean"], x.mean(), rtol=1e-6)
    assert common["mean"].shape == ()


@pytest.mark.parametrize("spelling", ["shard_map", "pmap"])
def test_keys_and_none_pass_through(spelling):
    def draw(split, key, nothing, *, axis_name):
        assert nothing is None
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, split)
        return jax.vmap(jax.random.uniform)(keys), jax.lax.psum(1, axis_name)

    expected, _ = Mapped(draw, local_devices(1))(np.arange(8), jax.random.key(3), None)
    found, _ = Mapped(draw, local_devices(8), spelling)(np.arange(8), jax.random.key(3), None)
    np.testing.assert_array_equal(found, expected)


def test_more_devices_than_there_are():
    assert len(local_devices()) == 8
    with pytest.raises(UserError, match=r"devices: 9, but this machine has 8 cpu device\(s\)"):
        local_devices(9)


def test_padding_repeats_the_last_video_with_weight_0():
    batch = {"frames": np.arange(6, dtype=np.uint8).reshape(3, 2), "weight": np.array([1, 1, 0], np.float32)}
    padded = pad_batch(batch, 5)
    assert padded["weight"].tolist() == [1, 1, 0, 0, 0]
    assert padded["frames"][2:].tolist() == [[4, 5]] * 3
    assert pad_batch(batch, 3)["frames"] is batch["frames"]
    with pytest.raises(ValueError, match="cannot be padded to 2"):
        pad_batch(batch, 2)


def test_round_up():
    assert [round_up(count, 8) for count in (1, 8, 9)] == [8, 8, 16]
