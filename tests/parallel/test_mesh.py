"""One program, two spellings, one or eight devices: the same numbers; what each device is given."""

import jax
import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.parallel.mesh import DATA, DeviceMesh, Mapped, Over, pad_batch, round_up, run_devices

pytestmark = pytest.mark.mesh


def _centre(split, offset):
    """Subtracts the global mean: wrong on more than one device unless the mean is taken over all of
    them.
    """
    mean = jax.lax.psum(split["x"].sum(), DATA) / jax.lax.psum(split["x"].size, DATA)
    return {"y": split["x"] - mean + offset["by"]}, {"mean": mean}


@pytest.mark.parametrize("spelling", ["shard_map", "pmap"])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_both_spellings_on_any_number_of_devices(spelling, count):
    x = np.arange(16 * 3, dtype=np.float32).reshape(16, 3)
    mesh = DeviceMesh(run_devices(count))
    mapped = Mapped(_centre, mesh, (Over.VIDEOS, Over.SAME), (Over.VIDEOS, Over.SAME), spelling)
    offset = mapped.place(1, {"by": np.float32(2)})
    for _ in range(2):  # the second call reuses the program and takes the replicated array again
        per_example, common = mapped(mapped.place(0, {"x": x}), offset)
    np.testing.assert_allclose(mesh.local_rows(per_example["y"]), x - x.mean() + 2, rtol=1e-6)
    np.testing.assert_allclose(common["mean"], x.mean(), rtol=1e-6)
    assert common["mean"].shape == ()


@pytest.mark.parametrize("spelling", ["shard_map", "pmap"])
def test_donated_memory_is_taken_over(spelling):
    def add(x, split):
        return x + jax.lax.psum(split.sum(), DATA)

    mapped = Mapped(
        add, DeviceMesh(run_devices()), (Over.SAME, Over.VIDEOS), Over.SAME, spelling, donate=("x",)
    )
    first, split = (
        mapped.place(0, np.zeros((64, 64), np.float32)),
        mapped.place(1, np.ones(8, np.float32)),
    )
    second = mapped(first, split)
    assert first.is_deleted()
    np.testing.assert_array_equal(mapped(second, split), np.full((64, 64), 16))


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
@pytest.mark.parametrize("classes", [1, 3, 10, 51])
def test_every_class_is_encoded_where_its_shard_is(classes, shards):
    mesh = DeviceMesh(run_devices(), shards)
    tokens = np.arange(classes)[:, None] + np.zeros((1, 4), np.int32)
    rows = np.split(mesh.lay_out(tokens)[:, 0], shards)
    share = -(-classes // shards)
    for shard, there in enumerate(rows):
        expected = np.arange(shard * share, (shard + 1) * share)
        # behind the last class it is repeated
        assert there[:share].tolist() == np.minimum(expected, classes - 1).tolist()
        assert len(there) % mesh.data_shards == 0
    assert len(np.concatenate(rows)) < classes + share + 2 * 8 * shards


def test_what_each_device_is_given():
    mesh = DeviceMesh(run_devices(), 4)
    frames = mesh.place(np.arange(4 * 8).reshape(4, 8), Over.FRAMES)
    assert [shard.data.shape for shard in frames.addressable_shards] == [(2, 2)] * 8
    assert frames.addressable_shards[5].data.tolist() == [[18, 19], [26, 27]]
    labels = mesh.place({"label": np.arange(4)}, {"label": Over.VIDEOS})["label"]
    assert [shard.data.tolist() for shard in labels.addressable_shards] == [[0, 1]] * 4 + [
        [2, 3]
    ] * 4
    classes = mesh.place(np.arange(16), Over.CLASSES)
    assert classes.addressable_shards[1].data.tolist() == [4, 5]
    assert classes.addressable_shards[4].data.tolist() == [2, 3]


def test_shapes_stand_for_arrays():
    mesh = DeviceMesh(run_devices(), 2)
    mapped = Mapped(lambda x, y: (x, y), mesh, (Over.FRAMES, Over.SAME), (Over.FRAMES, Over.SAME))
    x, y = np.zeros((8, 4), np.uint8), {"a": np.zeros(3, np.float32)}
    lowered = mapped.jitted.lower(*mapped.abstract(x, y))
    compiled = lowered.compile()
    assert compiled.input_shardings[0][0].spec == Over.FRAMES.value
    args = [mapped.place(number, arg) for number, arg in enumerate((x, y))]
    np.testing.assert_array_equal(compiled(*args)[0], x)


def test_equal_meshes_are_equal():
    assert (
        DeviceMesh(run_devices(), 2) == DeviceMesh(run_devices(), 2) != DeviceMesh(run_devices(), 4)
    )
    assert (
        len({DeviceMesh(run_devices()), DeviceMesh(run_devices()), DeviceMesh(run_devices(2))}) == 2
    )


def test_more_devices_than_there_are():
    assert len(run_devices()) == 8
    with pytest.raises(UserError, match=r"devices: 9, but this machine has 8 cpu devices"):
        run_devices(9)


def test_padding_repeats_the_last_video_with_weight_0():
    batch = {
        "frames": np.arange(6, dtype=np.uint8).reshape(3, 2),
        "weight": np.array([1, 1, 0], np.float32),
    }
    padded = pad_batch(batch, 5)
    assert padded["weight"].tolist() == [1, 1, 0, 0, 0]
    assert padded["frames"][2:].tolist() == [[4, 5]] * 3
    assert pad_batch(batch, 3)["frames"] is batch["frames"]
    with pytest.raises(ValueError, match="cannot be padded to 2"):
        pad_batch(batch, 2)


def test_round_up():
    assert [round_up(count, 8) for count in (1, 8, 9)] == [8, 8, 16]


def test_what_is_called_the_same_must_be_so_by_its_type():
    mesh = DeviceMesh(run_devices())
    assert mesh.check_vma
    ins, x = (Over.VIDEOS,), np.arange(8, dtype=np.float32)
    for shards in (1, 2):
        mesh = DeviceMesh(run_devices(), shards)
        wrong = Mapped(lambda x: x + 1, mesh, ins, Over.SAME, check_vma=True)
        with pytest.raises(ValueError, match="out_specs"):
            wrong(wrong.place(0, x))
        total = Mapped(
            lambda x: jax.lax.psum(x.sum(), "data"), mesh, ins, Over.SAME, check_vma=True
        )
        assert float(total(total.place(0, x))) == x.sum()


def test_a_codebook_axis_of_one_part_splits_nothing():
    whole, split = DeviceMesh(run_devices()), DeviceMesh(run_devices(), 2)
    assert [tuple(whole.spec(over)) for over in Over] == [("data",), ("data",), ("data",), ()]
    assert [split.spec(over) for over in Over] == [over.value for over in Over]
