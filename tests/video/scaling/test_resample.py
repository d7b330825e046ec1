"""Resizing equal to Pillow's, as is the plain form, also where sums are nearly halves."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from support.images.pillow import pictures, scaled
from vtd_jax.video.scaling.fit import clip_size
from vtd_jax.video.scaling.resample import Axis, kernels, plain, resample


def part(source, whole, rng, most=96):
    """A random part of a side that is scaled to `whole` pixels."""
    count = int(rng.integers(1, min(whole, most) + 1))
    return Axis(source, source / whole, int(rng.integers(0, whole - count + 1)), count)


def cases(images):
    """Every image with a random size and part of it, and Pillow's pixels there."""
    rng = np.random.default_rng(1)
    for number, image in enumerate(images):
        name = ("bicubic", "bilinear")[number % 4 == 3]
        height, width = (int(size) for size in rng.integers(1, 300, 2))
        rows, columns = part(image.shape[0], height, rng), part(image.shape[1], width, rng)
        whole = scaled(image, height, width, name)
        expected = whole[
            rows.first : rows.first + rows.count, columns.first : columns.first + columns.count
        ]
        yield image, rows, columns, name, expected


def test_the_plain_form_is_pillows_to_the_last_bit():
    for image, rows, columns, name, expected in cases(pictures(60, 200)):
        np.testing.assert_array_equal(plain(image, rows, columns, name), expected)


def test_it_is_pillows_to_the_last_bit():
    for image, rows, columns, name, expected in cases(pictures(200)):
        (found,) = resample(image[None], rows, columns, name)
        np.testing.assert_array_equal(found, expected, f"{image.shape} {rows} {columns} {name}")


@pytest.mark.parametrize("height, width", [(412, 351), (361, 405), (223, 225), (336, 672)])
@pytest.mark.parametrize("size", [224, 336])
def test_hard_blocks_near_their_own_size_are_exact(height, width, size):
    # wrong sums of neighbours lie on the same side here, so that they would add up
    blocks = np.random.default_rng(3).integers(0, 2, (height // 4 + 1, width // 4 + 1, 3))
    image = 255 * blocks.repeat(4, axis=0).repeat(4, axis=1)[:height, :width].astype(np.uint8)
    high, wide = clip_size(height, width, size)
    rows, columns = Axis(height, height / high, 0, high), Axis(width, width / wide, 0, wide)
    (found,) = resample(image[None], rows, columns)
    np.testing.assert_array_equal(found, scaled(image, high, wide))


def test_sums_that_are_all_in_doubt_are_exact_and_take_little_memory():
    # twice the size by lines: weights are 1/4 and 3/4, and every sum of 127 and 129 a half
    image = np.full((120, 300, 3), 127, np.uint8)
    image[1::2] = 129
    rows, columns = Axis(120, 0.5, 0, 240), Axis(300, 0.5, 0, 600)
    tracemalloc.start()
    found = resample(image[None], rows, columns, "bilinear")[0]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, scaled(image, 240, 600, "bilinear"))
    assert found[1, 0, 0] == 128
    assert most < 32e6


def test_a_long_filter_is_exact():
    # the more products a sum has, the more float32 is off
    image = pictures(8, 300)[7].repeat(30, axis=0)[:4000, :64]
    rows, columns = Axis(len(image), len(image) / 5, 0, 5), Axis(image.shape[1], 4.0, 0, 16)
    for name in ("bicubic", "bilinear"):
        expected = plain(image, rows, columns, name)
        np.testing.assert_array_equal(resample([image], rows, columns, name)[0], expected)


def test_large_frames_go_in_bands():
    image = pictures(7)[6].repeat(3, axis=0).repeat(2, axis=1)
    rows, columns = Axis(1500, 1500 / 224, 0, 224), Axis(1400, 1400 / 224, 0, 224)
    (found,) = resample([image], rows, columns)
    np.testing.assert_array_equal(found, scaled(image, 224, 224))


@pytest.mark.parametrize("turned", [False, True])
def test_a_side_that_keeps_its_size_is_copied(turned):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    if turned:
        # memory that is not in rows
        image = image.transpose(1, 0, 2)
    height, width = image.shape[:2]
    rows, columns = Axis(height, 1.0, 3, 20), Axis(width, 1.0, 5, 30)
    np.testing.assert_array_equal(resample(image[None], rows, columns)[0], image[3:23, 5:35])
    half = Axis(width, width / 25, 0, 25)
    np.testing.assert_array_equal(plain(image, rows, half), scaled(image, height, 25)[3:23])
    np.testing.assert_array_equal(
        resample(image[None], rows, half)[0], scaled(image, height, 25)[3:23]
    )


def test_threads_do_not_share_their_arrays():
    found = list(cases(pictures(12, 300)))
    expected = [resample([image], *axes, name) for image, *axes, name, _ in found]

    def work(number):
        image, *axes, name, _ = found[number]
        return resample([image], *axes, name)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for mine, theirs in zip(pool.map(work, range(12)), expected, strict=True):
                np.testing.assert_array_equal(mine, theirs)


def test_weights_sum_to_one_and_stay_in_the_image():
    for axis in (Axis(5, 5 / 64, 0, 64), Axis(500, 500 / 7, 0, 7), Axis(9, 0.3, 0, 20, 1.7)):
        first, weights = kernels(axis, "bicubic")
        np.testing.assert_allclose(weights.sum(axis=1) / 2**22, 1, atol=1e-4)
        reached = first[:, None] + np.arange(weights.shape[1])
        assert (weights[reached >= axis.source] == 0).all()
        assert (first >= 0).all()
