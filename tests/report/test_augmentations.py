"""The picture of a clip's augmentations shows exactly what training and evaluation get, and says
how it was drawn.
"""

import dataclasses

import numpy as np
import pytest
from matplotlib import image, rc_context

from support.video_files import make_video
from vtd_jax.report.augmentations import augmentations_picture, clip_rows
from vtd_jax.video.augment import Augment
from vtd_jax.video.batches import BatchSpec, draw_train_clip, eval_views
from vtd_jax.video.records import Example

SPEC = BatchSpec("train", 4, 32, 1, seed=5, epochs=9, sample="segments", augment=Augment(grey=0.5))


def example(folder, width=96, height=64) -> Example:
    """A video of 20 frames."""
    path = make_video(folder / "clip.mp4", 20, width=width, height=height)
    return Example("clip.mp4", 0, 20, {"video": path.read_bytes()}, "clip.mp4")


def test_rows_are_what_training_and_evaluation_get(tmp_path):
    one = example(tmp_path)
    rows = clip_rows(one, SPEC, 0, [2, 3])
    assert [row.heading for row in rows] == [
        "evaluation, one view",
        *("training, epoch 2", "training, epoch 3"),
        *["evaluation, views"] * 3,
    ]
    evaluation = dataclasses.replace(SPEC, kind="eval")
    assert np.array_equal(rows[0].clip, eval_views(one, evaluation)[0])
    assert rows[0].indices.tolist() == [2, 7, 12, 17]
    views = eval_views(one, dataclasses.replace(evaluation, spatial_views=3))
    assert np.array_equal(np.stack([row.clip for row in rows[3:]]), views)
    assert [row.details[1].split()[0] for row in rows[3:]] == ["left", "right", "middle"]
    for row, epoch in zip(rows[1:3], (2, 3)):
        made = draw_train_clip(one, SPEC, epoch, 0)
        assert np.array_equal(row.clip, made.frames)
        assert np.array_equal(row.indices, made.indices)
        assert np.array_equal(row.whole, one.frames(made.indices[:1])[0])


def test_the_box_and_the_words_are_the_draw(tmp_path):
    one, seen = example(tmp_path), set()
    for row, epoch in zip(clip_rows(one, SPEC, 0, range(12))[1:13], range(12)):
        made = draw_train_clip(one, SPEC, epoch, 0)
        x, y, w, h = made.draw.box
        assert made.resized == (37, 56)  # short side round(32 * 256 / 224) of 64 x 96
        assert row.details[:2] == (f"box {w} × {h} at ({x}, {y})", "of 56 × 37")
        assert row.box == tuple(
            round(value * scale) for value, scale in zip((x, y, w, h), (96 / 56, 64 / 37) * 2)
        )
        message = ", ".join(row.details[2:])
        assert ("grey" in message) == made.draw.grey
        assert message.endswith("not flipped") != made.draw.flip
        assert message.startswith("colour jitter frame by frame") == bool(made.draw.jitters)
        seen.add((made.draw.grey, made.draw.flip, bool(made.draw.jitters)))
    assert len(seen) >= 4  # the words were put to the test
    calm = dataclasses.replace(SPEC, augment=Augment(jitter=1, per_frame_jitter=False))
    assert clip_rows(one, calm, 0, [0])[1].details[2] == "colour jitter of the clip"
    plain = clip_rows(one, dataclasses.replace(SPEC, augment=Augment(enabled=False)), 0, [0])[1]
    assert plain.details == ("centre crop, no augmentation",)
    assert plain.box is None


def test_views_of_a_tall_video_are_named_from_the_top(tmp_path):
    rows = clip_rows(example(tmp_path, 64, 96), SPEC, 0, [])
    assert [row.details[1].split()[0] for row in rows[1:]] == ["top", "bottom", "middle"]


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 16])
def test_png_of_any_number_of_frames(tmp_path, frames):
    rows = clip_rows(example(tmp_path), dataclasses.replace(SPEC, frames=frames), 0, [0])
    path = tmp_path / "out" / "clip.png"
    path.parent.mkdir()
    augmentations_picture(path, rows, "a title")
    assert image.imread(path).shape[1] >= 600
    assert [file.name for file in path.parent.iterdir()] == ["clip.png"]


def test_svg_holds_the_words(tmp_path):
    with rc_context({"svg.fonttype": "none"}):
        augmentations_picture(
            tmp_path / "clip.svg", clip_rows(example(tmp_path), SPEC, 0, [4]), "a title"
        )
    text = (tmp_path / "clip.svg").read_text()
    for words in ("a title", "training, epoch 4", "spatial view 2 of 3", ">17<"):
        assert words in text
