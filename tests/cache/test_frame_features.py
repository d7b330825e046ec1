"""Frame features on disk: what they are kept by, and that damage is reported and repaired."""

import dataclasses
import os
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from support import small_run
from support.helpers import SMALL, random_state
from support.small_model import small_model
from vtd_jax.cache import frame_features
from vtd_jax.cache.frame_features import FeatureStore
from vtd_jax.cache.shards import write_rows
from vtd_jax.cache.tower import tower_fingerprint
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.video.augment import Augment
from vtd_jax.video.batches import BatchSource, BatchSpec
from vtd_jax.video.records import open_records
from vtd_jax.video.scaling.fit import Fit

FROZEN = dict(visual_prompts=0, visual_depth=0)
TRAIN = BatchSpec(
    "train", 4, 32, 4, seed=3, epochs=9, shuffle=True, sample="segments", augment=Augment()
)
EVAL = BatchSpec("eval", 4, 32, 4, temporal_views=2, spatial_views=3)
RESNET = CLIPConfig(24, 64, (1, 2, 1, 1), 16, None, 64, text_layers=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture
def records(folder):
    return open_records(folder / "records", "base_train")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store below a folder of its own, in files of 4 videos."""
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(frame_features, "SHARD", 4)
    return FeatureStore(small_model(**FROZEN), jax.devices()[:1])


def _open(store, records, spec=TRAIN, views=(0,), batch_size=2, message=None, check=None):
    log = (lambda line: None) if message is None else message.append
    return store.open(records, spec, views, batch_size=batch_size, workers=0, log=log, check=check)


def _files(store):
    return sorted(store.folder.rglob("*.safetensors"))


def _changed(name, by):
    """The fingerprint where one tensor of the checkpoint is another."""
    state = random_state(SMALL)
    state[name] = state[name] + np.float32(by)
    model = VTDCLIP(
        clip_from_state(SMALL, state), ModelConfig(text_prompts=0, **FROZEN), rngs=nnx.Rngs(0)
    )
    return tower_fingerprint(model)


@pytest.mark.slow
def test_features_are_named_by_the_image_tower_and_what_it_is_shown():
    same = _changed("visual.proj", 0)
    assert len(same) == 16
    # what is said of classes, and what is learnt, changes no frame
    assert same == _changed("text_projection", 1) == _changed("logit_scale", 1)
    assert same == tower_fingerprint(small_model(**FROZEN))
    assert same == tower_fingerprint(
        small_model(**FROZEN, text_prompts=3, text_depth=1, pooling="mean")
    )
    others = [
        _changed("visual.proj", 1e-3),
        _changed("visual.transformer.resblocks.1.mlp.c_fc.bias", 1e-3),
    ]
    others.append(tower_fingerprint(small_model(**FROZEN, normalization="clip")))
    bfloat16 = clip_from_state(SMALL, random_state(SMALL), dtype="bfloat16")
    others.append(
        tower_fingerprint(
            VTDCLIP(bfloat16, ModelConfig(text_prompts=0, **FROZEN), rngs=nnx.Rngs(0))
        )
    )
    assert len({same, *others}) == 5


@pytest.mark.slow
def test_and_by_the_videos_and_the_view(store, records, folder):
    changes = [
        dict(seed=4), dict(frames=3), dict(size=16), dict(sample="centre"),
        dict(augment=Augment(flip=0.0)),
    ]  # fmt: skip
    specs = [TRAIN, *(dataclasses.replace(TRAIN, **change) for change in changes)]
    views = [
        EVAL,
        dataclasses.replace(EVAL, temporal_views=1),
        dataclasses.replace(EVAL, spatial_views=1),
        dataclasses.replace(EVAL, fit=Fit("clip")),
        dataclasses.replace(EVAL, fit=Fit("clip", interpolation="bilinear")),
    ]
    names = [store._key(records, spec, 0) for spec in specs + views]
    names += [
        store._key(records, TRAIN, 1),
        store._key(open_records(folder / "records", "base_val"), TRAIN, 0),
    ]
    assert len(set(names)) == len(names)
    # batches and their order do not matter
    for same in (
        dict(batch_size=2),
        dict(shuffle=False),
        dict(epochs=3),
        dict(drop_remainder=True),
    ):
        assert store._key(records, dataclasses.replace(TRAIN, **same), 0) == names[0]


@pytest.mark.slow
def test_what_other_records_say_of_themselves_finds_no_features_of_ours(
    store, records, folder, tmp_path
):
    """Records with our lists and fingerprints but other videos: a stranger's or damaged ones."""
    _open(store, records)
    shutil.copytree(folder / "records", tmp_path / "copy")
    same = open_records(tmp_path / "copy", "base_train")
    assert same.digest == records.digest
    shard = min(same.path.glob("*array_record*"))
    content = bytearray(shard.read_bytes())
    # a byte of the first record, which is a video of several kilobytes
    content[2000] ^= 1
    shard.write_bytes(content)
    other = open_records(tmp_path / "copy", "base_train")
    assert other.info["fingerprint"] == records.info["fingerprint"]
    assert store._key(other, TRAIN, 0) != store._key(records, TRAIN, 0)
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="build these records again"):
        _open(store, open_records(tmp_path / "copy", "base_train"))


@pytest.mark.parametrize("part", ["", "features"])
def test_a_folder_that_everybody_can_write_is_not_believed(store, records, tmp_path, part):
    _open(store, records)
    (tmp_path / part).chmod(0o777)
    with pytest.raises(UserError, match=f"{tmp_path / part}: others could"):
        _open(store, records)


@pytest.mark.mesh
@pytest.mark.parametrize("spec, views", [(TRAIN, (0, 3)), (EVAL, (0,))], ids=["train", "eval"])
@pytest.mark.parametrize(
    "devices, spelling, batch_size", [(1, "shard_map", 3), (8, "shard_map", 64), (2, "pmap", 1)]
)
def test_they_are_those_of_the_clips(store, records, spec, views, devices, spelling, batch_size):
    model = small_model(**FROZEN)
    store = FeatureStore(model, jax.devices()[:devices], parallel=spelling)
    stored = _open(store, records, spec, views, batch_size)
    for view, found in zip(views, stored, strict=True):
        plain = BatchSource(
            records, dataclasses.replace(spec, shuffle=False, batch_size=10, epochs=view + 1)
        )
        clips = plain[view]
        expected = clips["frames"].reshape(-1, *clips["frames"].shape[-4:])
        expected = np.asarray(jax.jit(model.encode_frames)(expected)).reshape(10, *found.shape)
        rows = found.batch(range(10), 10)
        np.testing.assert_allclose(
            rows["features"], expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )
        assert rows["features"].dtype == np.float32
        for name in ("label", "weight", "index"):
            np.testing.assert_array_equal(rows[name], clips[name])
            assert rows[name].dtype == clips[name].dtype


@pytest.mark.slow
def test_a_resnet_has_no_prompts(tmp_path, monkeypatch, records):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))
    clip = clip_from_state(RESNET, random_state(RESNET))
    model = VTDCLIP(clip, ModelConfig(text_prompts=0, fusion=False, **FROZEN), rngs=nnx.Rngs(0))
    spec = dataclasses.replace(EVAL, size=64, temporal_views=1, spatial_views=1)
    found = _open(FeatureStore(model, jax.devices()[:1]), records, spec, batch_size=16)[0].batch(
        range(10), 10
    )
    # as many at once: convolutions round by the size of their batch
    clips = BatchSource(records, dataclasses.replace(spec, batch_size=16))[0]
    expected = np.asarray(jax.jit(model.encode_frames)(clips["frames"]))[:10]
    np.testing.assert_allclose(
        found["features"], expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )


def test_batches_of_one_pass_hold_every_video_once(store, records):
    batches = list(_open(store, records)[0].batches(4))
    assert [batch["index"].tolist() for batch in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, -1, -1],
    ]
    assert batches[-1]["weight"].tolist() == [1, 1, 0, 0]
    assert all(batch["features"].shape == (4, 4, 32) for batch in batches)
    # padding is ordinary numbers
    np.testing.assert_array_equal(batches[-1]["features"][2], batches[0]["features"][0])


def _cut(file):
    with file.open("r+b") as damaged:
        damaged.truncate(file.stat().st_size // 2)


def _flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _other_shape(file):
    write_rows(file, np.zeros((4, 3, 32), np.float32), "rows")


def _pipe(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "damage, why",
    [
        (_cut, "truncated or damaged safetensors file of "),
        (_flip, "other bytes than were written"),
        (_other_shape, "rows of float32 (4, 3, 32), expected float32 (4, 4, 32)"),
        (lambda file: file.write_bytes(b""), "not a shard of rows"),
        (_pipe, "a pipe"),
    ],
)
def test_a_damaged_file_is_reported_and_computed_again(store, records, damage, why, capsys):
    before, message = _open(store, records)[0].batch(range(10), 10)["features"], []
    damaged, whole = _files(store)[1], _files(store)[0].stat().st_mtime_ns
    damage(damaged)
    looks = []
    again = _open(store, records, message=message, check=lambda: looks.append(1))[0]
    np.testing.assert_array_equal(again.batch(range(10), 10)["features"], before)
    errors = capsys.readouterr().err
    assert errors.startswith(f"warning: {damaged}: damaged frame features ({why}")
    assert errors.endswith("); computing them again\n")
    assert errors.count("\n") == 1
    # two batches of two videos
    assert (len(looks), len(message)) == (2, 1)
    assert _files(store)[0].stat().st_mtime_ns == whole
    _open(store, records, message=message)
    assert (capsys.readouterr().err, len(message)) == ("", 1)


def test_files_are_mapped_not_read(store, records):
    assert all(isinstance(rows, np.memmap) for rows in _open(store, records)[0]._shards)


@pytest.mark.slow
def test_progress_is_logged(store, records, monkeypatch):
    monkeypatch.setattr(frame_features, "PAUSE", 0.0)
    message = []
    _open(store, records, views=(0, 1), batch_size=4, message=message)
    assert [line.split(",")[0] for line in message[:-1]] == [
        f"frame features of base_train: {done} of 20 clips" for done in (4, 8, 10, 14, 18, 20)
    ]
    assert message[-1] == (
        "frame features of 10 videos of base_train in 2 epochs, 0.0 MiB, are kept in "
        f"{store.folder}"
    )


def test_a_folder_that_cannot_be_written(store, records, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "file" / "cache"))
    elsewhere = FeatureStore(small_model(**FROZEN), jax.devices()[:1])
    with pytest.raises(
        UserError,
        match=r"frame features cannot be kept there \(Not a directory\); set VTD_JAX_CACHE",
    ):
        _open(elsewhere, records)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="no permission"):
        _open(store, records)


def test_a_full_disk(store, records, monkeypatch):
    def full(temporary, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        UserError, match=r"frame features cannot be kept there \(No space left on device\); set VTD"
    ):
        _open(store, records)
    assert _files(store) == []


def test_learnt_visual_prompts_have_no_store():
    with pytest.raises(ValueError, match="without visual prompts"):
        FeatureStore(small_model(), jax.devices()[:1])
