"""Frames as Pillow and torchvision prepare images for CLIP."""

import numpy as np
import pytest
from PIL import Image

from support.images.pillow import pictures, prepared, scaled
from vtd_jax.errors import UserError
from vtd_jax.video import augment
from vtd_jax.video.scaling.fit import Fit, clip_size
from vtd_jax.video.scaling.resample import plain

CLIP = Fit("clip")
SIZE = 64


def off(found, expected):
    return int(np.abs(found.astype(int) - expected).max())


# bilinear weights are often simple fractions, so that more sums are halves
@pytest.mark.slow
@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_the_middle_is_torchvisions(name):
    for number, image in enumerate(pictures(200)):
        size = (32, 33, SIZE, 48, 32, 33, SIZE, 224)[number % 8]
        found = Fit("clip", interpolation=name).views(image[None], size)
        assert found.shape == (1, 1, size, size, 3)
        np.testing.assert_array_equal(
            found[0, 0], prepared(image, size, name), f"{image.shape}, {size}"
        )


@pytest.mark.parametrize("height, width", [(90, 131), (131, 90), (64, 64)])
def test_three_views_are_the_ends_and_the_middle(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    whole = scaled(image, *clip_size(height, width, SIZE))
    along = whole if width >= height else whole.transpose(1, 0, 2)
    long = along.shape[1]
    middle = round((long - SIZE) / 2)
    for place, view in zip((0, long - SIZE, middle), CLIP.views([image], SIZE, 3)[:, 0]):
        view = view if width >= height else view.transpose(1, 0, 2)
        np.testing.assert_array_equal(view, along[:, place : place + SIZE])
    np.testing.assert_array_equal(CLIP.views([image], SIZE, 3)[2], CLIP.views([image], SIZE)[0])


def test_squashed_frames_are_whole():
    image = pictures(9)[6]
    found = Fit("clip", squash=True).views(image[None], SIZE)[0, 0]
    np.testing.assert_array_equal(found, scaled(image, SIZE, SIZE))
    with pytest.raises(UserError, match="spatial_views=3"):
        Fit("clip", squash=True).views(image[None], SIZE, 3)


def test_a_side_beyond_all_videos_is_averaged_first():
    ramp = np.linspace(0, 255, 200_000).astype(np.uint8)
    tall = np.repeat(ramp[:, None, None], 3, axis=2)
    found = Fit("clip", squash=True).views(tall[None], 16)[0, 0]
    assert off(found, scaled(tall, 16, 16)) <= 1


@pytest.mark.parametrize("height, width", [(120, 171), (50, 40)])
def test_a_training_crop_is_scaled_once(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    high, wide = CLIP.resized(height, width, SIZE)
    assert min(high, wide) == augment.crop_short_side(SIZE)
    for box in augment.crop_boxes(high, wide, (1.0, 0.75, 0.66), 1):
        (found,) = CLIP.crop([image], box, SIZE)
        x, y, w, h = box
        place = (
            x * width / wide,
            y * height / high,
            (x + w) * width / wide,
            (y + h) * height / high,
        )
        np.testing.assert_array_equal(found, plain(image, *CLIP.axes(height, width, box, SIZE)))
        # Pillow keeps the place in float32, so that it may lie a little beyond the image, and
        # pixels are not always the same
        place = tuple(min(side, edge) for side, edge in zip(place, (width, height) * 2))
        method = Image.Resampling.BICUBIC
        across = Image.fromarray(image).resize(
            (SIZE, height), method, (place[0], 0, place[2], height)
        )
        expected = across.resize((SIZE, SIZE), method, (0, place[1], SIZE, place[3]))
        assert off(found, np.asarray(expected)) <= 1


def test_the_release_is_as_it_was():
    image = np.random.default_rng(0).integers(0, 256, (90, 131, 3), np.uint8)
    for views in (1, 3):
        np.testing.assert_array_equal(
            Fit().views([image], SIZE, views), augment.spatial_views(image[None], SIZE, views)
        )
    whole = augment.resize_short_side(image[None], augment.crop_short_side(SIZE))
    box = (3, 5, 40, 48)
    np.testing.assert_array_equal(
        Fit().crop([image], box, SIZE),
        augment.apply_augment(whole, augment.Draw(box), SIZE),
    )


def test_unknown_ways_are_refused():
    with pytest.raises(UserError, match="preprocess: 'clop', expected one of release, clip"):
        Fit("clop")
    with pytest.raises(UserError, match="interpolation: 'nearest', expected one of"):
        Fit("clip", interpolation="nearest")
