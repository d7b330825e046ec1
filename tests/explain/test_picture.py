"""The picture of one clip: it shows the words, the classes and the scores, and is written whole."""

import numpy as np
import pytest
from matplotlib import image

from vtd_jax.explain.picture import clip_picture

NAMES = [f"red thing {i}" for i in range(8)]


def _arguments(t=4, label=2):
    rng = np.random.default_rng(0)
    confidence = rng.random((t, 8)).astype(np.float32)
    return dict(
        frames=rng.integers(0, 256, (t, 32, 32, 3), dtype=np.uint8),
        words=[NAMES[i % 8] for i in range(t)],
        confidence=confidence / confidence.sum(0),
        scores=np.float32([0.3, 0.2, 0.01, 0.15, 0.14, 0.1, 0.06, 0.04]),
        names=NAMES,
        label=label,
        title="a clip",
    )


@pytest.mark.parametrize("t", [1, 4, 16])
def test_png_of_any_number_of_frames(tmp_path, t):
    clip_picture(tmp_path / "clip.png", **_arguments(t))
    pixels = image.imread(tmp_path / "clip.png")
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 400
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["clip.png"]


def test_svg_holds_the_words_and_the_true_class_even_when_it_scores_low(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        clip_picture(tmp_path / "clip.svg", **_arguments(), top=3)
    text = (tmp_path / "clip.svg").read_text()
    assert "red thing 2" in text  # the label, not among the best three
    assert "red thing 3" not in text.replace("red\nthing\n3", "")
    assert "30 %" in text
    assert "a clip" in text
