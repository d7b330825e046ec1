"""Predictors on a small CLIP with seeded weights, and videos for them."""

import jax
import numpy as np
import pytest

from support.small_model import LABELS, small_model
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.predict.predictor import Predictor


@pytest.fixture(scope="session")
def learnt() -> Predictor:
    """A model with all that can be learnt, on one device."""
    about = dict(class_names=LABELS, description="small", weights="0", cache=TextCache(None))
    return Predictor(small_model(), frames=4, devices=jax.devices()[:1], **about)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Four small videos of 1, 9, 25 and 50 frames."""
    folder = tmp_path_factory.mktemp("clips")
    return [make_video(folder / f"{frames}.mp4", frames) for frames in (1, 9, 25, 50)]


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """Uint8 frames `[12, 40, 48, 3]` that differ from each other."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 5, 6, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)
