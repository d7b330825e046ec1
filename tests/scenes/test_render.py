"""Rendered scenes: names, determinism, what frames show, mp4 files."""

import subprocess
import sys
import zlib

import av
import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.scenes import render as scenes
from vtd_jax.scenes.objects import Pose, draw_object


def test_every_combination_has_one_name():
    names = scenes.class_names()
    assert len(names) == len(set(names)) == 8 * 4 * 8
    assert names[0] == "red solid circle"
    assert names[1] == "red solid square"
    assert "white checkered arrow" in names


def test_a_still_depends_on_its_seed_alone():
    first, again, other = (
        scenes.render_still("red striped star", np.random.default_rng(s)) for s in (3, 3, 4)
    )
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_another_process_renders_the_same_pixels():
    code = (
        "import zlib, numpy as np; from vtd_jax.scenes import render as scenes;clip, seen = "
        "scenes.render_clip('blue dotted moon', np.random.default_rng([7, 1]), frames=6, "
        "shift=0.5);print(zlib.crc32(clip.tobytes()), seen.astype(int).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    clip, seen = scenes.render_clip(
        "blue dotted moon", np.random.default_rng([7, 1]), frames=6, shift=0.5
    )
    assert done.stdout.strip() == f"{zlib.crc32(clip.tobytes())} {seen.astype(int).tolist()}"


@pytest.mark.parametrize("colour", scenes.COLOURS)
def test_an_object_has_its_colour(colour):
    grey = np.full((64, 64, 3), 100, np.float32)
    pose = Pose(x=0.5, y=0.5, radius=0.3, angle=0.0, dx=0.0, dy=0.0, spin=0.0, gain=1.0)
    paint = draw_object(grey, f"{colour} solid square", pose, 0)[32, 32]
    nearest = min(scenes.COLOURS, key=lambda other: np.abs(_paint(other) - paint).sum())
    assert nearest == colour
    assert len({tuple(_paint(other)) for other in scenes.COLOURS}) == 8


def _paint(colour):
    black = np.zeros((64, 64, 3), np.float32)
    pose = Pose(x=0.5, y=0.5, radius=0.3, angle=0.0, dx=0.0, dy=0.0, spin=0.0, gain=1.0)
    return draw_object(black, f"{colour} solid circle", pose, 0)[32, 32]


def test_shapes_and_textures_differ_in_many_pixels():
    black = np.zeros((64, 64, 3), np.float32)
    pose = Pose(x=0.5, y=0.5, radius=0.32, angle=0.1, dx=0.0, dy=0.0, spin=0.0, gain=1.0)
    names = [f"white {texture} {shape}" for texture in scenes.TEXTURES for shape in scenes.SHAPES]
    images = np.stack([draw_object(black, name, pose, 0)[..., 0] for name in names])
    assert images.max() <= 255
    apart = np.abs(images[:, None] - images[None]).mean((2, 3))
    assert apart[~np.eye(len(names), dtype=bool)].min() > 4


def test_an_object_stays_inside_and_moves():
    pose = Pose.draw(np.random.default_rng(0))
    places = np.array([pose.at(t)[:2] for t in range(100)])
    assert places.min() >= pose.radius - 1e-9
    assert places.max() <= 1 - pose.radius + 1e-9
    np.testing.assert_allclose(places[0], (pose.x, pose.y))
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() > 0.01


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_a_share_of_the_frames_is_irrelevant(kind):
    clip, relevant = scenes.render_clip(
        "red solid ring", np.random.default_rng(1), frames=8, size=48, kind=kind
    )
    assert clip.shape == (8, 48, 48, 3)
    assert clip.dtype == np.uint8
    assert relevant.sum() == 4
    red = [_red_pixels(frame) for frame in clip]
    assert min(np.array(red)[relevant]) > 100
    if kind == "empty":
        assert max(np.array(red)[~relevant]) < 60


def _red_pixels(frame):
    r, g, b = frame.astype(int).transpose(2, 0, 1)
    return int(((r > 150) & (g < 90) & (b < 90)).sum()) if frame.std() < 70 else 0


def test_other_objects_come_from_the_given_names():
    rng = np.random.default_rng(2)
    clip, relevant = scenes.render_clip(
        "blue solid ring", rng, frames=6, kind="one", others=["blue solid ring", "red solid square"]
    )
    red = np.array([_red_pixels(frame) for frame in clip])
    assert red[relevant].max() < 60
    assert red[~relevant].min() > 200


@pytest.mark.parametrize("irrelevant, expected", [(0.0, 8), (0.25, 6), (0.95, 1)])
def test_one_frame_stays_relevant(irrelevant, expected):
    _, relevant = scenes.render_clip(
        "red solid star", np.random.default_rng(0), frames=8, irrelevant=irrelevant
    )
    assert relevant.sum() == expected


def test_shift_lowers_contrast_and_warms():
    plain, _ = scenes.render_clip(
        "green solid star", np.random.default_rng(5), frames=3, irrelevant=0
    )
    shifted, _ = scenes.render_clip(
        "green solid star", np.random.default_rng(5), frames=3, irrelevant=0, shift=1.0
    )
    assert (shifted.std((0, 1, 2)) < 0.7 * plain.std((0, 1, 2))).all()
    assert (shifted[..., 0].mean() - shifted[..., 2].mean()) > (
        plain[..., 0].mean() - plain[..., 2].mean()
    ) + 20


def test_empty_scenes_and_noise_have_the_asked_size():
    rng = np.random.default_rng(0)
    for render in (scenes.render_empty, scenes.render_noise):
        image = render(rng, 40)
        assert image.shape == (40, 40, 3)
        assert image.std() > 3


def test_mp4_holds_the_frames(tmp_path):
    clip, _ = scenes.render_clip(
        "yellow solid cross", np.random.default_rng(0), frames=9, size=80, irrelevant=0
    )
    scenes.write_mp4(tmp_path / "a.mp4", clip, 8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 8
        decoded = np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )
    assert decoded.shape == clip.shape
    assert np.abs(decoded.astype(int) - clip).mean() < 12
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_failed_mp4_leaves_nothing(tmp_path):
    clip = np.zeros((2, 33, 32, 3), np.uint8)
    with pytest.raises(UserError, match="even sides"):
        scenes.write_mp4(tmp_path / "a.mp4", clip, 8)
    with pytest.raises(ZeroDivisionError):
        scenes.write_mp4(tmp_path / "a.mp4", _Breaks(np.zeros((2, 32, 32, 3), np.uint8)), 8)
    assert not list(tmp_path.iterdir())


class _Breaks(np.ndarray):
    """Frames whose reading fails halfway."""

    def __new__(cls, frames):
        return frames.view(cls)

    def __iter__(self):
        yield np.zeros((32, 32, 3), np.uint8)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "name",
    ["red star", "red striped", "mauve solid star", "solid red star", "red solid star two", ""],
)
def test_a_wrong_name_is_reported(name):
    with pytest.raises(UserError, match="expected 'colour texture shape'"):
        scenes.render_still(name, np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "blank"}, "kind 'blank', expected one of empty"),
        ({"irrelevant": 1.0}, "expected 0 <= irrelevant < 1"),
        ({"frames": 0}, "frames 0"),
        ({"others": ["red solid star"]}, "no other object"),
    ],
)
def test_wrong_settings_are_reported(settings, message):
    with pytest.raises(UserError, match=message):
        scenes.render_clip("red solid star", np.random.default_rng(0), **{"frames": 4, **settings})
