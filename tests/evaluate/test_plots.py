"""Plots hold the numbers that they were given, and the same numbers make the same file."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from vtd_jax.errors import UserError
from vtd_jax.evaluate.plots import bar_figure, bars, line_figure, lines

NAN = math.nan
SERIES = {
    "VTD-CLIP": [(16, 70.0, 0.5), (2, 40.0, 2.0), (4, 52.0, NAN), (8, 61.0, 0.0)],
    "mean pooling": [(2, 38.0, NAN), (16, 60.0, NAN)],
}
ROWS = [("full", 70.0, NAN), ("uniform confidence", 64.25, 1.1), ("top-n 2", 71.5, 0.0)]


def shots(series=SERIES, **changes):
    return line_figure(series, **dict(title="title", x_label="shots", log2_x=True) | changes)


def ablation(rows=ROWS, **changes):
    return bar_figure(rows, **dict(title="title", x_label="top-1, %", reference=70.0) | changes)


def draw_lines(path):
    lines(path, SERIES, title="Few-shot", x_label="training videos a class", log2_x=True)


def draw_bars(path):
    bars(
        path,
        ROWS,
        title="Ablations",
        x_label="top-1, %",
        reference=70.0,
        groups=["method", "parts", "parts"],
    )


@pytest.mark.parametrize("draw, height", [(draw_lines, 546), (draw_bars, 330)])
def test_a_picture_of_readable_size_and_the_same_twice(draw, height, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    draw(first)
    draw(second)
    picture = imread(first)
    assert picture.shape[1] == 910
    assert abs(picture.shape[0] - height) < 40
    np.testing.assert_array_equal(picture[0, :, :3], 1.0)
    assert picture[..., :3].min() < 0.2
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.__version__.encode() not in first.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.slow
def test_pdf_by_the_ending(tmp_path):
    draw_bars(tmp_path / "first.pdf")
    draw_bars(tmp_path / "second.pdf")
    assert (tmp_path / "first.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "first.pdf").read_bytes() == (tmp_path / "second.pdf").read_bytes()


def test_lines_hold_their_points_from_left_to_right():
    (axes,) = shots().axes
    named = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert named["VTD-CLIP"] == [[2, 40], [4, 52], [8, 61], [16, 70]]
    assert named["mean pooling"] == [[2, 38], [16, 60]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(SERIES)
    assert axes.get_xticks().tolist() == [2, 4, 8, 16]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "4", "8", "16"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "shots", "top-1, %")


def test_error_bars_stand_where_a_deviation_is_known():
    (axes,) = shots().axes
    (container,) = axes.containers
    (segments,) = container[2]
    found = [segment.tolist() for segment in segments.get_segments()]
    assert found == [[[2, 38], [2, 42]], [[16, 69.5], [16, 70.5]]]


def test_the_share_of_frames_is_no_logarithm():
    points = [(share, 90.0 - share / 2, 1.0) for share in range(0, 91, 10)]
    (axes,) = shots({"a": points}, log2_x=False).axes
    assert axes.get_xscale() == "linear"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [
        str(share) for share in range(0, 91, 10)
    ]


def test_bars_hold_their_values_and_show_them():
    (axes,) = ablation().axes
    assert [bar.get_width() for bar in axes.patches] == [70.0, 64.25, 71.5]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "full",
        "uniform confidence",
        "top-n 2",
    ]
    assert [text.get_text() for text in axes.texts] == ["70.0", "64.2 ± 1.1", "71.5"]
    bottom, top = axes.get_ylim()
    assert bottom > top
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] == colors[1] != colors[2]
    assert [line.get_xdata() for line in axes.get_lines() if line.get_linestyle() == "--"] == [
        [70.0, 70.0]
    ]


def test_groups_stand_apart_and_without_a_reference_there_is_no_line():
    groups = ["method", "parts", "parts"]
    (axes,) = ablation(groups=groups, reference=None).axes
    first, second, third = axes.get_yticks()
    assert second - first > 1.5 > third - second
    assert {"method", "parts"} < {text.get_text() for text in axes.texts}
    assert not [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 1


def test_differences_may_be_negative():
    (axes,) = ablation([("worse", -3.0, 0.5), ("better", 1.0, NAN)], reference=0.0).axes
    left, right = axes.get_xlim()
    assert left < -3.5
    assert right > 1.0
    assert [text.get_text() for text in axes.texts] == ["-3.0 ± 0.5", "1.0"]


def test_many_rows_get_a_taller_picture():
    rows = [(f"row {place}", 40.0 + place, 0.5) for place in range(25)]
    assert ablation(rows).get_size_inches()[1] > 2 * ablation().get_size_inches()[1]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: shots({}), "plot 'title': no lines, expected at least one"),
        (lambda: shots({"a": []}), "plot 'title', line 'a': no points, expected at least one"),
        (
            lambda: shots({"a": [(2, NAN, 0.0)]}),
            "line 'a': a point is not finite; leave out what is not known",
        ),
        (
            lambda: shots({"a": [(0, 5.0, 0.0)]}),
            "line 'a': x=0 on an axis that doubles; set log2_x=False",
        ),
        (lambda: ablation([]), "plot 'title': no bars, expected at least one"),
        (
            lambda: ablation([("a", NAN, 0.0)]),
            "bar 'a': nan is not finite; leave out what is not known",
        ),
        (lambda: ablation(reference=NAN), "reference nan is not finite; leave it out"),
        (lambda: ablation(groups=["one"]), "1 groups of 3 bars, expected one a bar"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(UserError) as error:
        draw()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_left_of_a_picture_that_cannot_be_drawn(tmp_path):
    with pytest.raises(UserError):
        bars(tmp_path / "bars.png", [], title="title", x_label="x")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["b$\\foo$", r"$\frac{a}{$", "$" + r"\sqrt{" * 200 + "x" + "}" * 200 + "$", "綱引き $", "\x00"],
)
@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_names_are_no_formulas(name, ending, tmp_path):
    lines(
        tmp_path / f"lines{ending}",
        {name: [(1, 2, 0)], "b": [(2, 3, 1)]},
        title=name,
        x_label=name,
        y_label=name,
    )
    bars(tmp_path / f"bars{ending}", [(name, 2.0, NAN)], title=name, x_label=name, groups=[name])
    assert len(list(tmp_path.iterdir())) == 2
