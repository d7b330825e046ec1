"""Predictors whose features an index keeps, and videos for them."""

import os
import shutil

import jax
import pytest

from support.small_model import LABELS, NONE, small_model
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.predict.predictor import Predictor
from vtd_jax.retrieval import store


def predictor(**settings) -> Predictor:
    """A small model on one device; `settings` are of `ModelConfig`, nothing learnt by default."""
    about = dict(description="small", weights="0", cache=TextCache(None))
    about |= dict(class_names=LABELS) if settings.get("fusion") else {}
    model = small_model(**(NONE | settings))
    return Predictor(model, frames=4, devices=jax.devices()[:1], **about)


@pytest.fixture(scope="session")
def plain() -> Predictor:
    """Nothing is learnt."""
    return predictor()


@pytest.fixture(scope="session")
def fused() -> Predictor:
    """With fusion, text and visual prompts, and the names of its classes."""
    learnt = dict(text_prompts=2, text_depth=2, visual_prompts=2, visual_depth=2)
    return predictor(fusion=True, **learnt)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder of seven small videos, one in a folder of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    for number in range(7):
        name = "more/6.mp4" if number == 6 else f"{number}.mp4"
        make_video(folder / name, 3 + 9 * number)
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of three clips."""
    monkeypatch.setattr(store, "_CLIPS", 3)


@pytest.fixture
def clips(made, tmp_path):
    """A copy of the videos."""
    shutil.copytree(made, tmp_path / "clips")
    return tmp_path / "clips"


@pytest.fixture
def seen(plain, monkeypatch):
    """The videos that are encoded."""
    found, encode = [], type(plain).encode_videos

    def noting(self, videos, **options):
        for one in encode(self, videos, **options):
            found.append(os.path.basename(getattr(one, "video", "") or one.clip.name))
            yield one

    monkeypatch.setattr(type(plain), "encode_videos", noting)
    return found
