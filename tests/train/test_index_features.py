"""Training on the frame features of an index: those that the run would compute, as float16."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from support import small_run
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.retrieval import Index
from vtd_jax.retrieval.for_training import IndexFeatures
from vtd_jax.retrieval.store import read_contents, write_contents
from vtd_jax.train import from_config
from vtd_jax.train.batches import open_batches
from vtd_jax.video import batches as clips
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.pipeline import train_batches
from vtd_jax.video.scaling.fit import Fit

FROZEN = dict(
    model__visual_prompts=0, model__visual_depth=0, data__frames=4, augment__enabled=False
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records that hold the files as they are, and an index of these files."""
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    shutil.rmtree(folder / "records")
    for name in small_run.LISTS:
        videos = folder / name
        lists = ((str(videos / f"{name}.txt"), str(videos / "labels.csv")),)
        build_records(
            BuildConfig(name=name, lists=lists, video_dir=str(videos), storage="video", workers=1),
            folder / "records",
        )
    model = from_config.build_model(small_run.run_config(folder, **FROZEN))
    about = dict(description="small", weights="0", cache=TextCache(None))
    predictor = Predictor(model, frames=4, devices=jax.devices()[:1], **about)
    # other videos are before them
    for name in ("novel_val", "base_train"):
        Index.build(folder / "index", [folder / name], predictor, frames=4)
    return folder


def _config(folder, **changes):
    given = dict(data__features=str(folder / "index"))
    return small_run.run_config(folder, **FROZEN | given | changes)


def _batches(folder, **changes):
    """The batches of a run, its model and its records."""
    run = _config(folder, **changes)
    records, model = from_config.open_training(run), from_config.build_model(run)
    found = open_batches(run, model, records, IndexFeatures)
    found.fill([0], lambda line: None)
    return found, model, records


@pytest.mark.slow
def test_features_are_those_of_the_middle_of_each_segment(folder):
    found, model, records = _batches(folder)
    batch = next(found)
    assert batch["features"].dtype == np.float32
    frames = next(
        train_batches(
            records, frames=4, size=model.clip.config.image_resolution, batch_size=4, seed=0,
            augment=_config(folder).augment, workers=0, sample="centre", fit=Fit(**model.scaling),
        )
    )  # fmt: skip
    for name in ("index", "label", "weight"):
        np.testing.assert_array_equal(batch[name], frames[name])
    expected = np.asarray(model.encode_frames(frames["frames"]))
    # the rounding of float16
    np.testing.assert_allclose(batch["features"], expected, rtol=2**-10, atol=1e-5)


@pytest.mark.slow
def test_a_run_learns_without_decoding_a_clip(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clips, "train_clip", None)
    small_run.train(_config(folder), tmp_path / "run", open_index=IndexFeatures)
    losses = [float(row["loss"]) for row in small_run.rows(tmp_path / "run")]
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    said = capsys.readouterr().out
    assert f"frame features of 10 videos of base_train: from {folder / 'index'}" in said


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(data__frames=2), r"has 4 frames of each video; set `data.frames=4`"),
        (dict(data__features="none"), r"none: not an index: there is no such folder"),
        (dict(model__normalization="clip"), r"`data.features=.*index`: was made with .*another"),
        (
            dict(data__preprocess="clip", model__normalization="clip"),
            r"its frames are prepared as clip",
        ),
    ],
)
def test_an_index_of_something_else_is_refused(folder, changes, said):
    with pytest.raises(UserError, match=said):
        _batches(folder, **changes)


def test_videos_that_the_index_lacks_are_named(folder, tmp_path):
    shutil.copytree(folder / "index", tmp_path / "index")
    contents = read_contents(tmp_path / "index")
    [shard] = contents.shards
    # the first three are of another list
    fewer = dataclasses.replace(shard, dropped=[3, 4])
    write_contents(tmp_path / "index", dataclasses.replace(contents, shards=(fewer,)))
    with pytest.raises(UserError, match=r"has no features of 2 of 10 videos of base_train, such "):
        _batches(folder, data__features=str(tmp_path / "index"))


@pytest.mark.parametrize(
    "changes, said",
    [
        (dict(augment__enabled=True), "no augmented frames; set `augment.enabled=False`"),
        (dict(data__stored_views=1), "is there beside data.stored_views=1"),
        (dict(model__visual_prompts=1, model__visual_depth=1), "while 1 visual prompts are learnt"),
    ],
)
def test_settings_that_contradict_an_index(folder, changes, said):
    with pytest.raises(UserError, match=said):
        _config(folder, **changes)


def test_several_processes_are_refused(folder, monkeypatch):
    monkeypatch.setattr("vtd_jax.train.batches.process_count", lambda: 2)
    with pytest.raises(UserError, match=r'data.features=.*set `data.features=""`'):
        _batches(folder)
