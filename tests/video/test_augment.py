"""Crops with hand-made boxes; pixels against a slow, plain reference."""

import colorsys

import cv2
import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.augment import (
    Augment,
    Draw,
    Jitter,
    apply_augment,
    apply_jitter,
    centre_crop,
    crop_boxes,
    crop_short_side,
    draw_augment,
    resize_short_side,
    short_side_size,
    spatial_views,
)

SCALES = (1, 0.875, 0.75, 0.66)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def slow_resize(image, height, width):
    """Bilinear, pixel centres aligned, edges repeated, no smoothing."""
    h, w = image.shape[:2]
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            sy, sx = (y + 0.5) * h / height - 0.5, (x + 0.5) * w / width - 0.5
            y0, x0 = int(np.floor(sy)), int(np.floor(sx))
            for dy in (0, 1):
                for dx in (0, 1):
                    share = (1 - abs(sy - y0 - dy)) * (1 - abs(sx - x0 - dx))
                    out[y, x] += (
                        share * image[min(max(y0 + dy, 0), h - 1), min(max(x0 + dx, 0), w - 1)]
                    )
    return out


def slow_jitter(image, jitter):
    """Colour jitter in floats, rounded after each step, one pixel at a time for hue."""
    x = image.astype(float)
    for step in jitter.order:
        grey = x @ [0.299, 0.587, 0.114]
        if step == 0:
            x = x * jitter.brightness
        elif step == 1:
            x = x * jitter.contrast + round(grey.mean()) * (1 - jitter.contrast)
        elif step == 2:
            x = x * jitter.saturation + grey[..., None] * (1 - jitter.saturation)
        else:
            turned = [colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in x.reshape(-1, 3)]
            turned = [colorsys.hsv_to_rgb((h + jitter.hue) % 1, s, v) for h, s, v in turned]
            x = np.array(turned).reshape(x.shape) * 255
        x = x.clip(0, 255).round()
    return x


def test_boxes_of_the_release_by_hand():
    boxes = crop_boxes(256, 340, SCALES, 1)
    assert len(boxes) == 10 * 5  # of 16 pairs of scales, 10 are at most one apart
    sides = {(w, h) for _, _, w, h in boxes}
    assert {s for pair in sides for s in pair} == {256, 224, 192, 168}
    assert (256, 192) not in sides
    assert (192, 168) in sides
    assert [b for b in boxes if b[2:] == (224, 192)] == [
        (0, 0, 224, 192),
        (116, 0, 224, 192),
        (0, 64, 224, 192),
        (116, 64, 224, 192),
        (58, 32, 224, 192),
    ]


def test_scale_gap_and_other_scales():
    assert {b[2:] for b in crop_boxes(100, 200, SCALES, 0)} == {
        (100, 100),
        (87, 87),
        (75, 75),
        (66, 66),
    }
    assert len({b[2:] for b in crop_boxes(100, 200, SCALES, 3)}) == 16
    assert crop_boxes(64, 64, (0.5,), 0) == [
        (0, 0, 32, 32),
        (32, 0, 32, 32),
        (0, 32, 32, 32),
        (32, 32, 32, 32),
        (16, 16, 32, 32),
    ]


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((240, 320), 256, (256, 341)),
        ((480, 454), 256, (271, 256)),
        ((256, 340), 256, (256, 340)),
        ((3, 1), 2, (6, 2)),
    ],
)
def test_short_side_size(size, short, expected):
    assert short_side_size(*size, short) == expected


def test_resize_matches_plain_bilinear():
    frames = noise(2, 9, 14)
    out = resize_short_side(frames, 6)
    assert out.shape == (2, 6, 9, 3)
    for a, b in zip(out, frames):
        assert np.abs(a - slow_resize(b, 6, 9)).max() <= 1
    assert resize_short_side(frames, 9) is frames


def test_crop_flip_and_resize_match_the_reference():
    frames = noise(3, 20, 24)
    out = apply_augment(frames, Draw((3, 2, 15, 18), flip=True), 12)
    assert out.shape == (3, 12, 12, 3)
    assert out.dtype == np.uint8
    for a, b in zip(out, frames):
        assert np.abs(a - slow_resize(b[2:20, 3:18], 12, 12)[:, ::-1]).max() <= 1


def test_crop_of_the_right_size_is_exact():
    frames = noise(2, 20, 24)
    assert np.array_equal(apply_augment(frames, Draw((4, 1, 16, 16)), 16), frames[:, 1:17, 4:20])


@pytest.mark.parametrize(
    "jitter",
    [
        Jitter(1.3, 1, 1, 0, (0, 1, 2, 3)),
        Jitter(0.6, 1, 1, 0, (0, 1, 2, 3)),
        Jitter(1, 1.4, 1, 0, (1, 0, 2, 3)),
        Jitter(1, 0.6, 1, 0, (3, 1, 2, 0)),
        Jitter(1, 1, 1.2, 0, (2, 0, 1, 3)),
        Jitter(1, 1, 0.8, 0, (2, 0, 1, 3)),
    ],
)
def test_single_jitters_match_the_reference(jitter):
    image = noise(13, 17)
    image[:4] = 128, 90, 90
    # hue is in the order with no shift: its way through HSV alone may cost a few levels
    steps = tuple(step for step in jitter.order if step != 3)
    plain = Jitter(jitter.brightness, jitter.contrast, jitter.saturation, 0, steps)
    assert np.abs(apply_jitter(image, plain) - slow_jitter(image, plain)).max() <= 1


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.0, 0.05, 0.1])
def test_hue_matches_the_reference(hue):
    image = noise(13, 17)
    difference = np.abs(
        apply_jitter(image, Jitter(1, 1, 1, hue, (3,)))
        - slow_jitter(image, Jitter(1, 1, 1, hue, (3,)))
    )
    assert difference.max() <= 12  # 256 steps of hue and saturation
    assert difference.mean() < 1.5


def test_red_turned_by_a_third_is_green():
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    assert apply_jitter(red, Jitter(1, 1, 1, 1 / 3, (3,)))[0, 0].tolist() == pytest.approx(
        [0, 255, 0], abs=6
    )
    assert apply_jitter(red, Jitter(1, 1, 1, -1 / 3, (3,)))[0, 0].tolist() == pytest.approx(
        [0, 0, 255], abs=6
    )


def plain_jitter(image, jitter):
    """The same arithmetic in the plainest form, for comparing bits."""
    for step in jitter.order:
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        if step in (0, 1):
            factor = (jitter.brightness, jitter.contrast)[step]
            constant = int(grey.mean() + 0.5) if step else 0
            table = (
                np.rint(np.arange(256) * factor + constant * (1 - factor))
                .clip(0, 255)
                .astype(np.uint8)
            )
            image = table[image]
        elif step == 2:
            image = cv2.addWeighted(
                image, jitter.saturation, np.dstack([grey] * 3), 1 - jitter.saturation, 0
            )
        else:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
            hsv[..., 0] = (hsv[..., 0].astype(int) + round(jitter.hue * 256)) % 256
            image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image


@pytest.mark.parametrize("seed", range(40))
def test_augmentation_equals_the_plain_form_bit_for_bit(seed):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (3, 60, 70, 3), np.uint8)
    if seed % 2:
        frames = np.stack([cv2.GaussianBlur(frame, (9, 9), 3) for frame in frames])
    strong = Augment(jitter=1, brightness=1.5, contrast=1.5, saturation=1.5, hue=0.5)
    draw = draw_augment(strong if seed % 4 > 1 else Augment(jitter=1), 60, 70, 3, rng)
    x, y, w, h = draw.box
    for out, frame, jitter in zip(apply_augment(frames, draw, 48), frames, draw.jitters):
        image = cv2.resize(frame[y : y + h, x : x + w], (48, 48), interpolation=cv2.INTER_LINEAR)
        image = plain_jitter(image[:, ::-1] if draw.flip else image, jitter)
        if draw.grey:
            image = np.dstack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3)
        assert np.array_equal(out, image)


def test_order_of_steps_matters_and_is_kept():
    image = noise(8, 8)
    first = apply_jitter(image, Jitter(1.4, 0.6, 1, 0, (0, 1)))
    second = apply_jitter(image, Jitter(1.4, 0.6, 1, 0, (1, 0)))
    assert not np.array_equal(first, second)
    assert np.abs(first - slow_jitter(image, Jitter(1.4, 0.6, 1, 0, (0, 1)))).max() <= 1


def test_jitter_per_frame_or_per_clip_and_grey():
    frames = np.repeat(noise(1, 8, 8), 3, axis=0)
    dark, light = Jitter(0.5, 1, 1, 0, (0,)), Jitter(1.5, 1, 1, 0, (0,))
    out = apply_augment(frames, Draw((0, 0, 8, 8), jitters=(dark, light, dark)), 8)
    assert out[0].mean() < out[1].mean()
    assert np.array_equal(out[0], out[2])
    same = apply_augment(frames, Draw((0, 0, 8, 8), jitters=(dark,)), 8)
    assert np.array_equal(same[0], same[1])
    grey = apply_augment(frames, Draw((0, 0, 8, 8), grey=True), 8)
    assert np.abs(grey[0, ..., 0] - frames[0] @ [0.299, 0.587, 0.114]).max() <= 1
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()


def test_draws_follow_the_settings():
    draws = [draw_augment(Augment(), 256, 340, 4, np.random.default_rng(i)) for i in range(1000)]
    assert np.mean([d.flip for d in draws]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([bool(d.jitters) for d in draws]) == pytest.approx(0.8, abs=0.05)
    assert np.mean([d.grey for d in draws]) == pytest.approx(0.2, abs=0.05)
    assert {len(d.jitters) for d in draws} == {0, 4}
    assert len({d.box for d in draws}) == len(set(crop_boxes(256, 340, SCALES, 1)))
    jitters = [j for d in draws for j in d.jitters]
    for name, strength, centre in (
        ("brightness", 0.4, 1),
        ("contrast", 0.4, 1),
        ("saturation", 0.2, 1),
        ("hue", 0.1, 0),
    ):
        values = np.array([getattr(j, name) for j in jitters])
        assert values.min() == pytest.approx(centre - strength, abs=0.01)
        assert values.max() == pytest.approx(centre + strength, abs=0.01)
    assert len({j.order for j in jitters}) == 24


def test_draws_are_fixed_by_the_generator_and_options_work():
    plain = Augment(flip=0, jitter=0, grey=0, scales=(1.0,))
    draw = draw_augment(plain, 32, 32, 2, np.random.default_rng(0))
    assert draw == Draw((0, 0, 32, 32))
    one = draw_augment(
        Augment(jitter=1, per_frame_jitter=False), 32, 40, 8, np.random.default_rng(0)
    )
    assert len(one.jitters) == 1
    assert one == draw_augment(
        Augment(jitter=1, per_frame_jitter=False), 32, 40, 8, np.random.default_rng(0)
    )


def test_views_by_hand():
    wide, tall = noise(2, 8, 20), noise(2, 20, 8)
    assert np.array_equal(
        spatial_views(wide, 8, 3), np.stack([wide[:, :, :8], wide[:, :, 12:], wide[:, :, 6:14]])
    )
    assert np.array_equal(
        spatial_views(tall, 8, 3), np.stack([tall[:, :8], tall[:, 12:], tall[:, 6:14]])
    )
    assert crop_short_side(224) == 256
    assert crop_short_side(64) == 73
    big = noise(1, 256, 341)
    assert np.array_equal(spatial_views(big, 224, 1)[0], big[:, 16:240, 58:282])
    assert np.array_equal(centre_crop(big, 224), big[:, 16:240, 58:282])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flip": 1.5}, r"augment.flip=1.5: expected a number from 0 to 1"),
        ({"hue": 0.6}, r"augment.hue=0.6"),
        ({"brightness": -0.1}, r"augment.brightness=-0.1"),
        ({"scales": ()}, r"augment.scales"),
        ({"scales": (1.2,)}, r"augment.scales"),
        ({"scale_gap": -1}, r"augment.scale_gap=-1"),
    ],
)
def test_bad_settings(fields, words):
    with pytest.raises(UserError, match=words):
        Augment(**fields)


def test_bad_number_of_views():
    with pytest.raises(UserError, match="spatial_views=2"):
        spatial_views(noise(1, 8, 8), 8, 2)
