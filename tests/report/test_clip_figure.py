"""The picture of one clip: it shows the words, the classes and the scores, and is written whole."""

import dataclasses
import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.text import Text

from browser import scenes
from vtd_jax.predict.results import Prediction
from vtd_jax.printable import printable
from vtd_jax.report.clip_figure import clip_picture, evenly, explanation_figure
from vtd_jax.report.timeline_figure import timeline_figure

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


@pytest.mark.parametrize("t", [1, 4])
def test_png_of_any_number_of_frames(tmp_path, t):
    clip_picture(tmp_path / "clip.png", **_arguments(t))
    pixels = image.imread(tmp_path / "clip.png")
    assert pixels.shape[0] > 200
    assert pixels.shape[1] > 400
    assert len(np.unique(pixels[..., 0])) > 50
    assert [path.name for path in tmp_path.iterdir()] == ["clip.png"]


def test_svg_holds_the_words_and_the_true_class_even_when_it_scores_low(tmp_path):
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        clip_picture(tmp_path / "clip.svg", **_arguments(), top=3)
    text = (tmp_path / "clip.svg").read_text()
    assert "red thing 2" in text  # the label, not among the best three
    assert "red thing 3" not in text.replace("red\nthing\n3", "")
    assert "30 %" in text
    assert "a clip" in text


def _svg(path):
    """Texts of a figure, whole lines."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def test_explanation_without_a_truth_has_no_verdict_colours(tmp_path):
    result = scenes.explanation(scenes.pictures(20, 32))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        explanation_figure(tmp_path / "clip.svg", result, top=3)
    texts = _svg(tmp_path / "clip.svg")
    assert [result.labels[k] in texts for k in result.order(4)] == [True, True, True, False]
    assert f"arm_wrestling.mp4: {result.label}" in texts
    assert (
        "frame: its confidence for each class (a row sums to 1 over the 20 frames, 16 are shown)"
        in texts
    )
    assert [f"{result.seconds[i]:.1f} s" in texts for i in (0, 19)] == [True, True]
    assert len([text for text in texts if text.endswith(" s")]) == 16
    assert not any(color in (tmp_path / "clip.svg").read_text() for color in ("#1b7f4d", "#b3261e"))


def test_a_pdf_holds_its_text_as_text(tmp_path):
    explanation_figure(tmp_path / "clip.pdf", scenes.explanation(scenes.pictures(2, 32)), top=2)
    data = (tmp_path / "clip.pdf").read_bytes()
    assert b"/Subtype /TrueType" in data or b"/CIDFontType2" in data
    assert b"/Type3" not in data


@pytest.mark.slow
def test_any_text_is_drawn_or_boxed_and_never_read_as_formulas(tmp_path):
    labels = (*scenes.HOSTILE, "$a$ b$ \\frac", "")
    # nor is a file's name of any bytes
    result = scenes.explanation(scenes.pictures(3, 32), labels, video="caf\udce9\x1b.mp4")
    explanation_figure(tmp_path / "clip.png", result, top=10)
    timeline_figure(
        tmp_path / "long.png",
        scenes.timeline(scenes.pictures(3, 32), labels, windows=20),
        title="$x 綱引き",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.png", "long.png"]


def test_timeline_figure_shows_the_labels_with_most_time(tmp_path):
    long = scenes.timeline(scenes.pictures(30, 32), windows=120)
    with matplotlib.rc_context({"svg.fonttype": "none", "image.composite_image": False}):
        timeline_figure(tmp_path / "long.svg", long, top=4)
    times = {}
    for segment in long.segments:
        times[segment.label] = times.get(segment.label, 0) + segment.end - segment.start
    order = sorted(times, key=lambda label: -times[label])
    texts = _svg(tmp_path / "long.svg")
    assert [label for label in order if label in texts] == order[:4]
    assert [text for text in texts if ":" in text] == [f"{minute}:00" for minute in range(10)]
    assert (tmp_path / "long.svg").read_text().count("<image") == 12
    timeline_figure(
        tmp_path / "none.png", dataclasses.replace(long, segments=(), video="caf\udce9.mp4")
    )


def test_columns_are_evenly_chosen():
    assert evenly(5, 16).tolist() == [0, 1, 2, 3, 4]
    chosen = evenly(64, 16)
    assert (chosen[0], chosen[-1], len(set(chosen.tolist()))) == (0, 63, 16)
    assert set(np.diff(chosen)) <= {4, 5}


# escape sequences, lines, formulas, letters that no font has, and labels without an end
ODD = (
    "\x1b[31mred\x1b[0m", "two\nlines\tand \u202e", "$x_1$ \\frac{1}{2} $", "綱引き 🎉 ไทย",
    "\udcff\0", "very " * 300, "W" * 3000, "<b>&lt;",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("title", ["", "my\nown \x1b $t$ title"])
def test_what_a_user_saves_is_in_one_line_and_warns_of_nothing(title):
    explained = scenes.explanation(scenes.pictures(6, 32), ODD, video="\x1b$a$\n\udcff.mp4")
    fields = [field.name for field in dataclasses.fields(Prediction)]
    predicted = Prediction(**{name: getattr(explained, name) for name in fields})
    for result in (explained, predicted, scenes.timeline(scenes.pictures(3, 32), ODD, windows=20)):
        figure = result.plot(top=8, title=title)
        for kind in ("png", "pdf", "svg"):
            figure.savefig(io.BytesIO(), format=kind, bbox_inches="tight")
        figure.canvas.draw()
        lines = [text.get_text().split("\n") for text in figure.findobj(Text)]
        assert all(printable(line) == line for text in lines for line in text)
        assert max(len(line) for text in lines for line in text) <= 110
        shown = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        assert shown
        assert not any(text.get_parse_math() for text in shown)
        if title:
            assert ["my", r"own \x1b $t$ title"] in lines
