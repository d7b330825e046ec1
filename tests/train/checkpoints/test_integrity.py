"""The digest of a checkpoint: everything counts but the order."""

import jax.numpy as jnp
import numpy as np
import pytest

from vtd_jax.train.checkpoints.integrity import Damaged, Stored, digest, read, read_metric, sealed

STORED = Stored(
    {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(3)},
    {"a": np.zeros(2, np.int32), "c": np.asarray(jnp.ones(3, jnp.bfloat16))},
    {"step": 3, "batches": {"scales": [1.0, 0.875]}, "best": None},
)


def test_order_does_not_count():
    other = Stored(*({name: part[name] for name in reversed(part)} for part in STORED))
    assert digest(other) == digest(STORED)


def test_sealing_is_stable_and_as_json_has_it():
    once = sealed(STORED._replace(progress=STORED.progress | {"batches": {"scales": (1.0, 0.875)}}))
    assert once.progress["batches"] == {"scales": [1.0, 0.875]}
    assert (
        once.progress["digest"] == digest(STORED) == digest(once) == sealed(once).progress["digest"]
    )


@pytest.mark.parametrize(
    "part, changes",
    [
        ("learnable", {"a": np.arange(6, dtype=np.float32).reshape(3, 2)}),
        ("learnable", {"a": np.arange(6, dtype=np.int32).reshape(2, 3)}),
        ("learnable", {"a": -np.arange(6, dtype=np.float32).reshape(2, 3)}),
        ("learnable", {"b": np.float32([3])}),
        ("learnable", {"d": np.float32(3)}),
        ("optimizer", {"c": np.asarray(jnp.ones(3, jnp.float16))}),
        ("optimizer", {"a": np.array([-0.0, 0], np.float32).view(np.int32)}),
        ("progress", {"step": 4}),
        ("progress", {"batches": {"scales": [1.0, 0.8750000000000001]}}),
    ],
)
def test_everything_else_counts(part, changes):
    changed = STORED._replace(**{part: getattr(STORED, part) | changes})
    assert digest(changed) != digest(STORED)


def test_an_array_that_moves_to_the_other_item_counts():
    moved = STORED._replace(
        learnable={"a": STORED.learnable["a"]},
        optimizer=STORED.optimizer | {"b": STORED.learnable["b"]},
    )
    assert digest(moved) != digest(STORED)


def test_folders_that_are_no_checkpoints(tmp_path):
    with pytest.raises(Damaged, match="learnable is missing"):
        read(tmp_path / "nowhere")
    assert read_metric(tmp_path) is None


def test_the_digest_has_the_first_digits_of_earlier_versions():
    # as version 0.1.0 sealed it
    before = "db67b9b8a6d7cb514dac8307be1a6a19f7d6a9eb185c3c5f79d6e7dccbbb5198"
    assert digest(STORED) == before[:16]
