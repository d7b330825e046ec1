"""VTD-CLIP against other rows on the same videos, from made scores."""

import dataclasses

import numpy as np
import pytest

from experiments.reproduce import paired, rivals
from experiments.reproduce.plan import Plan, Row
from vtd_jax.evaluate.metrics import SplitResult


class Scores:
    """Finished runs by name, as `results.Found` has them."""

    of: dict[str, dict[str, SplitResult]]

    def __init__(self, workdir):
        pass

    def done(self, row):
        cells = {column: [n for n in names if n in self.of] for column, names in row.cells.items()}
        return {column: names for column, names in cells.items() if names}

    def results(self, names):
        return [self.of[name] for name in names]


def result(hits, videos="v"):
    scores = np.eye(2, dtype=np.float32)[1 - np.array(hits)]
    return SplitResult(
        ("a", "b"), scores, np.zeros(len(hits), np.int32), tuple(f"{videos}{i}" for i in range(8))
    )


def halves(base, novel, videos="v"):
    return {"base": result(base, videos), "novel": result(novel, videos)}


@pytest.fixture
def scores(monkeypatch):
    monkeypatch.setattr(paired, "Found", Scores)
    good, bad = [1] * 7 + [0], [1, 0] * 4
    Scores.of = {
        "x_s1": halves(good, good), "x_s2": halves(good, bad), "x_s3": halves(good, good),
        "x_s1_vifi": halves(bad, bad), "x_s2_vifi": halves(bad, good), "clip": halves(bad, bad),
    }  # fmt: skip
    lists = tuple(f"x_s{i}" for i in (1, 2, 3))
    rows = (
        Row("hmdb51", "CLIP, class names", "nothing", {"": ("clip",)}),
        Row("hmdb51", "VTD-CLIP", "16 shots", {"": lists}),
        Row("hmdb51", "VTD-CLIP", "all base videos", {"": ("x_all",)}),
        Row("hmdb51", "ViFi", "16 shots", {"": tuple(f"{n}_vifi" for n in lists)}, rival="vifi"),
    )
    return Plan("base_to_novel", rows, (), (), ())


def test_paired_tests_are_on_the_lists_that_both_have(scores, tmp_path):
    table = paired.make_table(scores, tmp_path)
    assert table is not None
    rows = {(row["other method"], row["split"]): row for row in table.rows}
    assert {key[1] for key in rows} == {"base", "novel", "HM"}
    base, novel = rows["ViFi", "base"], rows["ViFi", "novel"]
    # two lists each: the third has no file
    assert (base["other"], base["VTD-CLIP"], base["VTD-CLIP − other"]) == (0.5, 0.875, 0.375)
    assert novel["VTD-CLIP − other"] == 0
    assert 0 < base["p"] < novel["p"] <= 1
    assert "only other right" not in base
    # CLIP as it is has one run, against three lists: no test of exchanges
    assert "p" not in rows["CLIP, class names", "base"]
    assert rows["CLIP, class names", "base"]["videos"] == 8
    assert "shots" not in table.columns


def test_one_run_each_gets_the_exact_test(scores, tmp_path):
    Scores.of = {name: Scores.of[name] for name in ("x_s1", "x_s1_vifi")}
    table = paired.make_table(scores, tmp_path)
    assert table is not None
    base = table.rows[0]
    assert (base["only other right"], base["only VTD-CLIP right"]) == (0, 3)
    assert base["p"] == pytest.approx(0.25)
    assert table.about["p"][0].startswith("two-sided: McNemar's exact test for a split")


def test_other_videos_are_said_and_not_compared(scores, tmp_path):
    Scores.of["x_s1_vifi"] = halves([1] * 8, [1] * 8, "other")
    Scores.of = {name: Scores.of[name] for name in ("x_s1", "x_s1_vifi", "clip")}
    table = paired.make_table(scores, tmp_path)
    assert table is not None
    assert {row["other method"] for row in table.rows} == {"CLIP, class names"}
    assert table.about["not compared"] == ["x_s1_vifi, x_s1: other videos"]


def test_a_table_without_rivals_has_no_comparisons(scores, tmp_path):
    rows = tuple(row for row in scores.rows if not row.rival)
    assert paired.make_table(dataclasses.replace(scores, rows=rows), tmp_path) is None


def test_what_the_authors_evaluate_with_is_said(scores):
    told = rivals.own_protocols(scores.rows, "base_to_novel", {"vifi": (8, 1, 1)})
    assert told == "ViFi-CLIP by its authors 32 frames, 1 × 1 views, here 8 frames, 1 × 1 views"
    told = rivals.own_protocols(scores.rows, "fully_supervised", {"vifi": (16, 4, 3)})
    assert told == "ViFi-CLIP by its authors 16 frames, 4 × 3 views, as here"
