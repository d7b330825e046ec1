"""One batch at a time: what is in it, and that nothing but its number decides."""

import dataclasses

import numpy as np
import pytest

from support.video_files import frame_number
from vtd_jax.errors import UserError
from vtd_jax.video.augment import (
    Augment,
    apply_augment,
    draw_augment,
    resize_short_side,
    spatial_views,
)
from vtd_jax.video.batches import (
    BatchSource,
    BatchSpec,
    draw_train_clip,
    eval_views,
    train_clip,
    video_number,
)
from vtd_jax.video.records import Records, open_records
from vtd_jax.video.sampling import test_indices, train_indices, view_indices

PLAIN = Augment(enabled=False)


@pytest.fixture(scope="module")
def records(built):
    return open_records(built, "jpeg")


def spec(**fields) -> BatchSpec:
    return dataclasses.replace(
        BatchSpec("train", 4, 16, 2, shuffle=True, sample="segments", epochs=3), **fields
    )


def test_a_training_clip_is_sampling_decoding_and_augmentation(records):
    settings = spec(augment=Augment(), seed=7)
    for index, example in enumerate(records):
        rng = np.random.default_rng([7, 2, index])
        frames = example.frames(train_indices(example.num_frames, 4, rng))
        frames = resize_short_side(frames, 18)  # round(16 * 256 / 224)
        draw = draw_augment(Augment(), *frames.shape[1:3], 4, rng)
        expected = apply_augment(frames, draw, 16)
        assert np.array_equal(train_clip(example, settings, 2, index), expected)


def test_without_augmentation_clips_are_centre_crops(records):
    example = records[0]
    clip = train_clip(example, spec(augment=PLAIN, sample="centre"), 0, 0)
    expected = spatial_views(example.frames(test_indices(example.num_frames, 4)), 16, 1)[0]
    assert np.array_equal(clip, expected)


def test_views_of_one_video(records):
    settings = dataclasses.replace(spec(), kind="eval", temporal_views=4, spatial_views=3)
    example = next(e for e in records if e.file == "wide.mp4")
    views = eval_views(example, settings)
    assert views.shape == (12, 4, 16, 16, 3)
    indices = view_indices(example.num_frames, 4, 4, video_number(example.file))
    assert indices[0].tolist() == [2, 7, 12, 17]  # 20 frames, segments of 5: floor(5 i + 2.5)
    assert ((indices[1:] // 5) == [0, 1, 2, 3]).all()  # other clips draw one frame a segment
    assert len({tuple(clip) for clip in indices.tolist()}) == 4
    for t in range(4):
        # 96 x 32 becomes 48 x 16: left, right and middle of the long side, for each temporal view
        # in turn
        clip = resize_short_side(example.frames(indices[t]), 16)
        assert clip.shape == (4, 16, 48, 3)
        for s, left in enumerate((0, 32, 16)):
            assert np.array_equal(views[3 * t + s], clip[:, :, left : left + 16])


def test_a_clip_shorter_than_wanted_repeats_frames(records):
    example = next(e for e in records if e.file == "a b.mp4")
    clip = eval_views(example, dataclasses.replace(spec(), kind="eval", frames=10))[0]
    assert [frame_number(f) for f in clip] == pytest.approx([0, 0, 1, 1, 2, 2, 3, 3, 4, 4], abs=1)


def test_an_epoch_has_every_video_once_and_its_own_order(records):
    source = BatchSource(records, spec(augment=PLAIN))
    assert (source.per_epoch, len(source)) == (3, 9)
    epochs = [np.concatenate([source[3 * e + b]["index"] for b in range(3)]) for e in range(3)]
    for order in epochs:
        assert sorted(order.tolist()) == [-1, 0, 1, 2, 3, 4]
        assert order[-1] == -1
    assert any(not np.array_equal(epochs[0], other) for other in epochs[1:])


def test_padding_has_weight_zero_and_no_picture(records):
    last = BatchSource(records, spec(augment=PLAIN))[2]
    assert last["weight"].tolist() == [1, 0]
    assert (last["frames"][1] == 0).all()
    assert last["frames"][0].any()
    assert (last["label"][1], last["index"][1]) == (0, -1)
    assert {k: v.dtype.name for k, v in last.items()} == {
        "frames": "uint8",
        "label": "int32",
        "weight": "float32",
        "index": "int64",
    }


def test_the_remainder_is_dropped_on_request(records):
    source = BatchSource(records, spec(augment=PLAIN, drop_remainder=True))
    assert (source.per_epoch, len(source)) == (2, 6)
    assert all(source[i]["weight"].all() for i in range(6))


def test_labels_belong_to_their_videos(records):
    batch = BatchSource(records, spec(batch_size=5, shuffle=False))[0]
    assert batch["label"].tolist() == [e.label for e in records]
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]


def test_draws_depend_on_seed_epoch_and_video_only(records):
    settings = spec(augment=Augment(), batch_size=5, shuffle=False)
    source = BatchSource(records, settings)
    assert not np.array_equal(source[0]["frames"], source[1]["frames"])
    other = BatchSource(records, dataclasses.replace(settings, seed=1))
    assert not np.array_equal(source[0]["frames"], other[0]["frames"])
    single = BatchSource(records, dataclasses.replace(settings, batch_size=1))
    for index in range(5):  # the same clip wherever it stands in a batch
        assert np.array_equal(single[5 + index]["frames"][0], source[1]["frames"][index])


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_every_batch(records, hosts):
    whole = BatchSource(records, spec(batch_size=4))
    parts = [
        BatchSource(records, spec(batch_size=4, host_index=h, host_count=hosts))
        for h in range(hosts)
    ]
    assert {part.per_epoch for part in parts} == {whole.per_epoch}
    for position in range(len(whole)):
        batches = [part[position] for part in parts]
        for key, value in whole[position].items():
            assert np.array_equal(np.concatenate([b[key] for b in batches]), value)


class Many(Records):
    """Records of which only the number matters."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize("hosts", [2, 3])
@pytest.mark.parametrize("kind", ["train", "eval"])
@pytest.mark.parametrize("count", [24, 23, 13, 5])
def test_hosts_see_disjoint_parts_that_make_up_every_epoch(hosts, kind, count):
    fields = {"train": {"shuffle": True, "epochs": 3}, "eval": {"shuffle": False, "epochs": 1}}[
        kind
    ]
    whole = spec(kind=kind, batch_size=6, **fields)
    parts = [dataclasses.replace(whole, host_index=host, host_count=hosts) for host in range(hosts)]
    whole, *parts = [BatchSource(Many(count), one) for one in (whole, *parts)]
    assert whole.per_epoch == -(-count // 6)
    orders = []
    for epoch in range(fields["epochs"]):
        batches = range(epoch * whole.per_epoch, (epoch + 1) * whole.per_epoch)
        seen = [{i for batch in batches for i in part.indices(batch)} for part in parts]
        assert sum(map(len, seen)) == count  # so that a union of all means disjoint
        assert set.union(*seen) == set(range(count))
        for batch in batches:
            # hosts in their order make the batch of one host: how many hosts there are changes no
            # training step
            assert [i for part in parts for i in part.indices(batch)] == whole.indices(batch)
        orders.append([i for batch in batches for i in whole.indices(batch)])
    if kind == "train":
        assert orders[0] != orders[1] != orders[2] != orders[0]
    else:
        assert orders == [list(range(count))]


def test_hosts_of_even_batches_see_halves_of_equal_size():
    parts = [spec(batch_size=6, epochs=2, host_index=host, host_count=2) for host in range(2)]
    parts = [BatchSource(Many(24), part) for part in parts]
    for epoch in range(2):
        seen = [
            [i for batch in range(4) for i in part.indices(4 * epoch + batch)] for part in parts
        ]
        assert [len(one) for one in seen] == [12, 12]


def test_what_was_drawn_for_a_clip_comes_with_it(records):
    example = records[2]
    message = draw_train_clip(example, spec(augment=Augment(), seed=7), 1, 2)
    assert np.array_equal(
        message.frames, train_clip(example, spec(augment=Augment(), seed=7), 1, 2)
    )
    again = resize_short_side(example.frames(message.indices), 18)
    assert message.resized == again.shape[1:3]
    assert np.array_equal(message.frames, apply_augment(again, message.draw, 16))
    plain = draw_train_clip(example, spec(augment=PLAIN), 1, 2)
    assert plain.draw is None
    assert plain.resized == again.shape[1:3]


def test_starting_later_skips_batches(records):
    source, later = BatchSource(records, spec()), BatchSource(records, spec(), start=4)
    assert len(later) == 5
    assert np.array_equal(later[0]["frames"], source[4]["frames"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frames": 0}, "frames=0: expected at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"seed": -1}, "seed=-1"),
        ({"sample": "all"}, "sample='all': expected one of segments, centre"),
        ({"host_index": 1}, "host_index=1: expected 0 to host_count - 1 = 0"),
        ({"batch_size": 3, "host_count": 2}, "batch_size=3 cannot be split evenly over 2 hosts"),
        ({"batch_size": 6, "drop_remainder": True}, "leaves no batch of 5 videos"),
        ({"spatial_views": 2}, "spatial_views=2"),
        ({"temporal_views": 0}, "temporal_views=0"),
    ],
)
def test_bad_settings(records, fields, words):
    with pytest.raises(UserError, match=words):
        BatchSource(records, spec(**fields))
