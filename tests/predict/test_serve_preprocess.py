"""A served model prepares frames as CLIP's own images were, without this package and Pillow."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest

from support.helpers import served_example
from support.images.pillow import pictures, prepared, scaled
from support.small_model import served_model
from support.small_run import SMALL
from support.video_files import make_video
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.predict import serve_example
from vtd_jax.predict.serve import write_served
from vtd_jax.video.clip import read_clip
from vtd_jax.video.scaling.fit import Fit


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_frames_are_pillows_to_the_last_bit(interpolation):
    way = {"preprocess": "clip", "interpolation": interpolation}
    for image in pictures(30, 200):
        found = serve_example.crop(image, image.shape[:2], 33, way)
        np.testing.assert_array_equal(found, prepared(image, 33, interpolation))
        found = serve_example.crop(image, image.shape[:2], 33, way | {"squash": True})
        np.testing.assert_array_equal(found, scaled(image, 33, 33, interpolation))


@pytest.mark.parametrize("height, width", [(2, 200_000), (200_000, 2), (2200, 3800), (412, 351)])
def test_large_and_long_frames_take_little_memory(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    image = image.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    way = {"preprocess": "clip", "interpolation": "bicubic"}
    tracemalloc.start()
    found = serve_example.crop(image, (height, width), 224, way)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 16e6 + 2 * image.nbytes
    np.testing.assert_array_equal(found, Fit("clip").views(image[None], 224)[0, 0])


@pytest.mark.parametrize("squash", [False, True])
def test_a_folder_says_how_frames_are_prepared(squash, tmp_path):
    own = Preprocessing(resize="squash" if squash else "shortest", interpolation="bilinear")
    config = dataclasses.replace(SMALL, preprocessing=own)
    model = served_model(config=config, preprocess="clip", normalization="clip")
    place = tmp_path / "x.served"
    about = write_served(place, model, ("red", "blue"), 2, platforms=("cpu",))
    said = about["preprocessing"]
    assert (said["preprocess"], said["interpolation"], said["squash"], about["short_side"]) == (
        *("clip", "bilinear", squash),
        32,
    )
    assert "bilinear with smoothing (as Pillow before 12.2: first along the rows" in said["scale"]
    video = make_video(tmp_path / "wide.mp4", 5)
    found = served_example(place).Served(place).read_clip(video)
    fit = Fit("clip", squash, "bilinear")
    np.testing.assert_array_equal(found, read_clip(video, 2, 32, fit=fit).frames)
    assert np.abs(found.astype(int) - read_clip(video, 2, 32).frames).max() > 1


def test_folders_of_earlier_versions_are_the_releases(tmp_path):
    place = tmp_path / "x.served"
    write_served(place, served_model(), ("red", "blue"), 2, platforms=("cpu",))
    about = json.loads((place / "about.json").read_text())
    for name in ("preprocess", "interpolation"):
        del about["preprocessing"][name]
    # digests came later too
    del about["about_sha256"]
    (place / "about.json").write_text(json.dumps(about))
    video = make_video(tmp_path / "wide.mp4", 5)
    found = served_example(place).Served(place).read_clip(video)
    np.testing.assert_array_equal(found, read_clip(video, 2, 32).frames)
