"""Few-shot on the validation list of split 1, or the mean over those of three splits."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.reproduce import execute, kept_plan, protocols, request
from experiments.reproduce import plan as _plan
from experiments.reproduce.sources import Listed
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import save_report
from vtd_jax.evaluate.tables import split_table

THREE = {"split1": "val1", "split2": "val2", "split3": "val3"}


class Everything:
    """Every list of every data set is there."""

    def folder(self, dataset):
        return Path("records") / dataset

    def find(self, dataset, name):
        return Listed(100, ("a", "b"))


def _few_shot(way):
    settings = _plan.Settings("ViT-B-16.pt", CLIPConfig.vit_b16(), few_shot_val=way)
    return protocols.make_plan(
        "few_shot", _plan.Planner(Everything(), settings), ("hmdb51", "ssv2")
    )


def test_the_mean_over_three_splits_evaluates_what_split_one_taught():
    one, three = _few_shot("split1"), _few_shot("mean")
    # what is learnt is the same, so that a workdir can have both tables
    learnt = {run.name: run.config for run in one.runs if run.learns}
    assert learnt == {run.name: run.config for run in three.runs if run.learns}
    shown = {
        name
        for row in three.rows
        if row.dataset == "hmdb51"
        for names in row.cells.values()
        for name in names
    }
    for run in three.runs:
        if run.name in shown:
            assert run.config.data.evaluate == THREE
            assert not run.learns
            assert run.source == ("" if run.name.startswith("zero") else run.name[: -len("_val3")])
    assert len(shown) == 4 + 4
    # a single validation list
    ours = [[row for row in plan.rows if row.dataset == "ssv2"] for plan in (one, three)]
    assert ours[0] == ours[1]
    assert not any(run.name.endswith("_val3") for run in one.runs)


@pytest.mark.parametrize("splits", [{"val": "val1"}, THREE], ids=["one", "three"])
def test_tables_say_which_lists_a_number_is_of(tmp_path, splits):
    rng, labels = np.random.default_rng(0), np.arange(12, dtype=np.int32) % 3
    files = tuple(f"{i}.mp4" for i in range(12))
    results = {
        split: SplitResult(
            ("a", "b", "c"), rng.dirichlet(np.ones(3), 12).astype(np.float32), labels, files
        )
        for split in splits
    }
    folder = execute.run_folder(tmp_path, "run")
    execute._claim(folder, {"config": "f"})
    described = {split: f"{name} (given list; 12 videos)" for split, name in splits.items()}
    about = {"learnt": "step 3", "lists": described, "versions": {"jax": "1"}}
    save_report(folder, "results", split_table("t", "few_shot", results, about), results)
    execute._finish(folder)
    (tmp_path / "plans").mkdir()
    row = _plan.Row("hmdb51", "VTD-CLIP", "shots", {"16": ("run",)})
    plan = _plan.Plan("few_shot", (row,), (), (), ())
    kept_plan.save_plan(tmp_path / "plans" / "few_shot.json", plan, {})
    request.tables("few_shot", tmp_path)
    table = json.loads((tmp_path / "few_shot.json").read_text())
    ours, *theirs = table["rows"]
    assert ours["16"] == pytest.approx(np.mean([one.top1 for one in results.values()]))
    assert ours["evaluated on"] == ", ".join(splits.values())
    assert "3 splits" in table["about"]["evaluated on"]
    for one in theirs:
        assert one["read in"]
        assert one["status"] in ("authors", "third party", "unverified")
        assert f"{one['status']}:" in table["about"]["status"]


@pytest.mark.shared
@pytest.mark.parametrize(
    "folder, shared", [("hmdb_splits", (0, 233, 254)), ("ucf_splits", (0, 627, 623))]
)
def test_lists_of_splits_two_and_three_hold_videos_that_are_learnt_on(shared_dir, folder, shared):
    """The numbers of docs/reproduce.md."""
    at = shared_dir / "splits" / "datasets_splits" / folder

    def videos(name):
        lines = (at / f"{name}.txt").read_text().splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if line}

    learnt = videos("train1_few_shot_16")
    assert tuple(len(learnt & videos(f"val{split}")) for split in (1, 2, 3)) == shared
    page = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text()
    text = " ".join(page.split())
    for split in (2, 3):
        whole = len(videos(f"val{split}"))
        assert f"{shared[split - 1]} of {whole}" in text
