"""Rows of votes by frames: beside the faithful ones, on the same lists, with paired tests."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiments.reproduce import by_frames, paired, protocols, rivals
from experiments.reproduce.plan import Plan, Planner, Row, Settings
from experiments.reproduce.sources import SCENES, Listed
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult

METHODS = ("vtd", "vtd_frames", "clip")


class Everything:
    """Every list of every data set is there."""

    def folder(self, dataset):
        return Path("records") / dataset

    def find(self, dataset, name):
        return Listed(100, ("a", "b"))


def planned(table, dataset, **others):
    settings = Settings("tiny", CLIPConfig.tiny(), **({"methods": METHODS} | others))
    return protocols.make_plan(table, Planner(Everything(), settings), (dataset,))


@pytest.mark.parametrize(
    "table, dataset",
    [
        ("base_to_novel", "hmdb51"),
        ("few_shot", "ssv2"),
        ("zero_shot", SCENES),
        ("fully_supervised", "kinetics400"),
    ],
)
def test_every_faithful_row_has_one_that_differs_in_its_votes(table, dataset):
    plan = planned(table, dataset, seeds=(0, 1))
    runs = {run.name: run for run in plan.runs}
    ours = [row for row in plan.rows if row.method == by_frames.TITLE]
    faithful = [row for row in plan.rows if row.method == "VTD-CLIP"]
    assert len(ours) == len(faithful) > 0
    for row, other in zip(ours, faithful, strict=True):
        assert row.learnt_on == other.learnt_on
        assert row.cells.keys() == other.cells.keys()
        for column, names in row.cells.items():
            assert [by_frames.faithful_name(name) for name in names] == list(other.cells[column])
            for name in names:
                mine, theirs = runs[name], runs[by_frames.faithful_name(name)]
                same = {"name": name, "model.votes": "frames"}
                assert theirs.config.with_changes(same) == mine.config
                assert (theirs.config.model.votes, mine.learns) == ("confidence", theirs.learns)
                # what is lent learnt with these votes, too
                assert by_frames.faithful_name(mine.source) == theirs.source
                if mine.source:
                    assert runs[mine.source].config.model.votes == "frames"
    without = planned(table, dataset, seeds=(0, 1), methods=("vtd", "clip"))
    assert [row for row in plan.rows if row not in ours] == list(without.rows)


def test_ablations_share_these_runs_and_have_no_second_rows():
    plan, table = planned("ablations", "hmdb51"), planned("base_to_novel", "hmdb51")
    (row,) = [row for row in plan.rows if row.method == "one for each frame"]
    assert not [row for row in plan.rows if row.method == by_frames.TITLE]
    ours = {run.name: run.config for run in table.runs}
    assert [ours[name] for name in row.cells[""]] == [
        run.config for run in plan.runs if run.name in row.cells[""]
    ]


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("model.votes", "frames", "--methods=vtd_frames with --set=model.votes='frames': leave"),
        ("model.ties", "release", "model.votes='frames' with model.ties='release': the release"),
    ],
)
def test_fields_of_all_runs_that_do_not_go_with_it(field, value, message):
    with pytest.raises(UserError, match=message):
        planned("base_to_novel", "hmdb51", changes={field: value})


@pytest.mark.parametrize(
    "field, value, lacking, same",
    [
        ("model.ties", "release", "one for each frame", "the last bit of the votes (release)"),
        ("model.votes", "frames", "the last bit of the votes (release)", "one for each frame"),
    ],
)
def test_an_ablation_that_set_excludes_is_noted_and_the_others_stay(field, value, lacking, same):
    plan, whole = (
        planned("ablations", "ssv2", methods=("vtd",), changes=changes)
        for changes in ({field: value}, {})
    )
    assert {row.method for row in whole.rows} - {row.method for row in plan.rows} == {lacking, same}
    (line,) = [line for line in plan.missing if line.startswith(f"ssv2, {lacking}: ")]
    assert "model.votes='frames' with model.ties='release'" in line
    with pytest.raises(UserError, match="unknown config field"):
        planned("ablations", "ssv2", changes={"model.nothing": 1})


def test_it_stands_beside_the_faithful_one():
    with pytest.raises(UserError, match="--methods=vtd_frames,clip: vtd_frames stands beside vtd"):
        rivals.check_methods(("vtd_frames", "clip"), None)
    rivals.check_methods(METHODS, None)


class Scores:
    """Finished runs by name, as `results.Found` has them."""

    def __init__(self, workdir):
        pass

    def done(self, row):
        return row.cells

    def results(self, names):
        return [
            split_of([1, 1, 1, 1] if by_frames.SUFFIX in name else [1, 0, 0, 1]) for name in names
        ]


def split_of(hits):
    scores, videos = np.eye(2, dtype=np.float32)[1 - np.array(hits)], ("a", "b", "c", "d")
    return {"val": SplitResult(("x", "y"), scores, np.zeros(4, np.int32), videos)}


def test_pairs_are_runs_of_one_list_and_seed(monkeypatch, tmp_path):
    monkeypatch.setattr(paired, "Found", Scores)
    names = ("x_seed1", "x_seed2")
    rows = (
        Row("ssv2", "VTD-CLIP", "shots", {"2": names}),
        Row(
            "ssv2",
            by_frames.TITLE,
            "shots",
            {"2": ("x_votes_frames_seed1", "x_votes_frames_seed2")},
        ),
    )
    plan = Plan("few_shot", rows, (), (), ())
    table = paired.make_table(plan, tmp_path)
    assert table is not None
    (row,) = table.rows
    assert (row["other method"], row["shots"]) == (by_frames.TITLE, "2")
    assert (row["VTD-CLIP"], row["other"], row["VTD-CLIP − other"]) == (0.5, 1.0, -0.5)
    assert paired.make_table(dataclasses.replace(plan, rows=rows[:1]), tmp_path) is None


def test_what_was_learnt_elsewhere_has_no_row_and_is_noted(monkeypatch):
    learnt = planned("base_to_novel", "hmdb51", methods=("vtd",)).runs[0].config
    monkeypatch.setattr(protocols, "read_source", lambda source: learnt)
    plan = planned("zero_shot", "hmdb51", source="runs/k400")
    assert [row.method for row in plan.rows if row.method.startswith("VTD")] == ["VTD-CLIP"]
    (line,) = [line for line in plan.missing if by_frames.SUFFIX in line]
    assert line.endswith("runs/k400 did not learn with votes by frames")
