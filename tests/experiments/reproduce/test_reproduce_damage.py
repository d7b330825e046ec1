"""What `experiments.reproduce` finds in its workdir may be damaged, or another user's: one line,
with what to do.
"""

import json
import os
import re
import types
from dataclasses import replace

import numpy as np
import pytest

from experiments.reproduce import execute, kept_plan, request
from experiments.reproduce import plan as _plan
from experiments.reproduce import results as _results
from experiments.reproduce.request import Request
from hostile import harness
from hostile.corpus import plans
from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import save_report
from vtd_jax.evaluate.scores import save_scores
from vtd_jax.evaluate.tables import split_table

ABOUT = {
    "learnt": "step 3, the last",
    "lists": {"base": "b", "novel": "n"},
    "versions": {"jax": "1"},
}
DEEP = "[" * 100_000


def _halves(seed=0):
    rng, labels = np.random.default_rng(seed), np.arange(12, dtype=np.int32) % 3
    files = tuple(f"{i}.mp4" for i in range(12))
    scores = {
        split: rng.dirichlet(np.ones(3), 12).astype(np.float32) for split in ("base", "novel")
    }
    return {
        split: SplitResult(("a", "b", "c"), one, labels, files) for split, one in scores.items()
    }


def _save(folder, results, about=ABOUT):
    save_report(folder, "results", split_table("t", "mine", results, about), results)


@pytest.fixture
def workdir(tmp_path):
    """A finished run of a base-to-novel table, with its plan."""
    folder = execute.run_folder(tmp_path, "one")
    assert not execute._claim(folder, {"config": "f"})
    _save(folder, _halves())
    execute._finish(folder)
    (tmp_path / "plans").mkdir()
    row = _plan.Row("hmdb51", "VTD-CLIP", "16 shots", {"": ("one",)})
    plan = _plan.Plan("base_to_novel", (row,), (), (), ())
    kept_plan.save_plan(tmp_path / "plans" / "base_to_novel.json", plan, {})
    return tmp_path


def _tables(workdir):
    return request.tables("base_to_novel", workdir)


def test_a_whole_workdir(workdir):
    assert _tables(workdir) == [str(workdir / "base_to_novel.md")]
    assert execute._claim(workdir / "runs" / "one", {"config": "f"})


DAMAGED = (
    "",
    "{",
    DEEP,
    "3",
    "null",
    "[]",
    "{}",
    '{"finished": 1}',
    '{"finished": "true"}',
    '{"finished": NaN}',
    "\0",
    "\xff",
)


@pytest.mark.parametrize("text", DAMAGED, ids=[text[:20] for text in DAMAGED])
def test_a_damaged_identity(workdir, text):
    path = workdir / "runs" / "one" / "identity.json"
    path.write_bytes(text.encode("latin-1"))
    message = rf"{re.escape(str(path))}: .*; remove .*one to make the run again$"
    lent = types.SimpleNamespace(rival="", source="one")
    for act in (
        lambda: _tables(workdir),
        lambda: execute._claim(path.parent, {"config": "f"}),
        lambda: execute._lend(None, workdir, lent),
    ):
        with pytest.raises(UserError, match=message):
            act()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=message):
        _tables(workdir)


TABLES = (
    "", "{", DEEP, "3", '{"title": "t", "rows": []}', '{"title": "t", "rows": [], "about": {}}',
    json.dumps({"title": "t", "rows": [], "about": ABOUT | {"lists": []}}),
    json.dumps({"title": "t", "rows": [], "about": ABOUT | {"versions": {"jax": 1}}}),
    json.dumps({"title": "t", "rows": [], "about": ABOUT | {"training list": 3}}),
    json.dumps({"title": "t", "rows": [{"split": []}], "about": ABOUT}),
    json.dumps({"title": "t", "rows": [], "about": ABOUT, "scores": "0" * 32}),
)  # fmt: skip


@pytest.mark.parametrize("text", TABLES, ids=[text[-40:] for text in TABLES])
def test_a_damaged_table_of_a_run(workdir, text):
    path = workdir / "runs" / "one" / "results.json"
    path.write_text(text)
    with pytest.raises(
        UserError, match=rf"{re.escape(str(path))}: .*remove .*one to make the run again$"
    ):
        _tables(workdir)


def test_scores_of_another_evaluation_or_of_nan_or_of_other_splits(workdir):
    folder = workdir / "runs" / "one"
    save_scores(folder / "results_scores.npz", _halves(1))
    with pytest.raises(
        UserError, match=r"results\.json: of another evaluation than the scores beside it"
    ):
        _tables(workdir)
    nan = {
        split: replace(one, scores=one.scores * np.float32(np.nan))
        for split, one in _halves().items()
    }
    save_scores(folder / "results_scores.npz", nan)
    with pytest.raises(
        UserError, match=r"results_scores\.npz: base: scores of 12 of 12 videos are NaN"
    ):
        _tables(workdir)
    _save(folder, {"val": _halves()["base"]})
    row = _plan.Row("hmdb51", "VTD-CLIP", "16 shots", {"0.5": ("one",)})
    with pytest.raises(UserError, match="one: scores of other splits than table irrelevant has"):
        _results.make_table(_plan.Plan("irrelevant", (row,), (), (), ()), workdir, {})
    other = execute.run_folder(workdir, "two")
    execute._claim(other, {})
    _save(other, _halves())
    execute._finish(other)
    with pytest.raises(
        UserError, match="two: scores of the splits base, novel, those of one are of val"
    ):
        _results.Found(workdir).results(["one", "two"])


@pytest.mark.parametrize(
    "change",
    [
        {"table": 3},
        {"table": "few_shot"},
        {"rows": [{}]},
        {"missing": "x"},
        {"notes": []},
        {"rows": {"dataset": "../../x"}},
        {"rows": {"dataset": "a/b"}},
        {"rows": {"cells": {"": ["../one"]}}},
        {"rows": {"cells": {"x": ["one"]}}},
        {"rows": {"cells": {"": "one"}}},
        {"rows": {"ablation": {"group": "g"}}},
    ],
    ids=str,
)
def test_a_damaged_plan(workdir, change):
    path = workdir / "plans" / "base_to_novel.json"
    plan = json.loads(path.read_text())
    (key, value) = next(iter(change.items()))
    plan[key] = [plan["rows"][0] | value] if isinstance(value, dict) else value
    path.write_text(json.dumps(plan))
    with pytest.raises(UserError, match=r"base_to_novel\.json: .*; run this table again"):
        _tables(workdir)
    for text in ("", DEEP, "\0"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"base_to_novel\.json: .*; run this table again"):
            _tables(workdir)


@pytest.mark.parametrize("name", plans.REFUSED)
def test_a_plan_is_no_larger_than_a_table(workdir, name):
    change, message = plans.REFUSED[name]
    path = workdir / "plans" / "base_to_novel.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    harness.check_call_refused(
        lambda: _tables(workdir), texts=[str(path), message, "run this table again"]
    )


@pytest.mark.parametrize("name", plans.ODD)
def test_texts_of_a_plan_are_shown_as_they_are(workdir, name):
    text = plans.ODD[name]
    # a name of a file has no control characters, and an end
    dataset = text if name in ("formula", "roots") else "d" * 200
    rows = tuple(
        _plan.Row(dataset.replace("\\", ""), text, text, {shots: ("one",)}) for shots in ("2", "4")
    )
    _save(workdir / "runs" / "one", {"val": _halves()["base"]})
    kept_plan.save_plan(
        workdir / "plans" / "few_shot.json", _plan.Plan("few_shot", rows, (), (), ()), {}
    )
    flags = ["--table=few_shot", f"--workdir={workdir}", "--tables_only"]
    harness.check_right("reproduce", flags, folder=workdir.parent, outputs=[workdir])
    assert list(workdir.glob("few_shot_*.png"))


def test_the_end_of_a_long_source_is_reported(workdir):
    row = _plan.Row("hmdb51", "VTD-CLIP", "/folder" * 500 + "/run", {"": ("one",)})
    kept_plan.save_plan(
        workdir / "plans" / "base_to_novel.json",
        _plan.Plan("base_to_novel", (row,), (), (), ()),
        {},
    )
    _tables(workdir)
    message = (workdir / "base_to_novel.md").read_text()
    assert "/run" in message
    assert "/folder" * 100 not in message


def test_an_ablation_table_has_ablations(workdir):
    row = _plan.Row("hmdb51", "VTD-CLIP", "16 shots", {"": ("one",)})
    path = workdir / "plans" / "ablations.json"
    kept_plan.save_plan(path, _plan.Plan("ablations", (row,), (), (), ()), {})
    with pytest.raises(
        UserError, match=r"ablations\.json: rows\[0\]: no ablation; run this table again"
    ):
        kept_plan.load_plan(path)


def test_tables_are_no_inputs(tmp_path):
    clip = tmp_path / "few_shot.json"
    clip.write_text("x")
    asked = Request("few_shot", tmp_path, None, str(clip), (), (1,), (0,), (), "auto", {})
    with pytest.raises(
        UserError, match=r"^--workdir=.*few_shot\.json: is --clip=.*, which would be overwritten"
    ):
        request.check_outputs_of(asked)
    request.check_outputs_of(replace(asked, table="ablations"))


def test_the_log_of_a_run_is_no_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run.log").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(UserError, match=r"run\.log: a link"),
        execute._output_to(tmp_path / "run.log"),
    ):
        print("x")
    assert (tmp_path / "victim").read_text() == "precious"


# as version 0.1.0 noted them
BEFORE = {
    "config": "56fdba852b63",
    "views": "1 x 1",
    "CLIP weights": "46a701de",
    "training list": None,
    "lists": {"base": "53d91e42d1d248363875ac765eeb5a9f0e545d941c8a872a995c335a5f8a223b"},
    "source": {"config": "590883a8c217", "CLIP weights": "46a701de", "source": ""},
}
NOW = {
    "config": "56fdba852b63515d",
    "views": "1 x 1",
    "CLIP weights": "9d3f2c135a7f3b1b",
    "training list": None,
    "lists": {"base": "53d91e42d1d24836"},
    "source": {"config": "590883a8c217013b", "CLIP weights": "9d3f2c135a7f3b1b", "source": ""},
}


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_an_earlier_version_is_known(tmp_path, finished):
    path = tmp_path / "identity.json"
    path.write_text(json.dumps({"finished": finished} | BEFORE, indent=2) + "\n")
    assert execute.is_finished(tmp_path) == finished
    with pytest.raises(UserError, match="a run with other CLIP weights, source;"):
        execute._claim(tmp_path, NOW, "00000000")
    for change in (
        {"config": "56fdba852b64515d"},
        {"views": "3 x 1"},
        {"training list": "53d91e42d1d24836"},
        {"lists": {"base": "53d91e42d1d24837"}},
        {"source": ""},
    ):
        with pytest.raises(UserError, match=f"a run with other {next(iter(change))};"):
            execute._claim(tmp_path, NOW | change, "46a701de")
    # it is noted again, and is the same run from then on
    for legacy in ("46a701de", "00000000"):
        assert execute._claim(tmp_path, NOW, legacy) == finished
        assert execute.is_finished(tmp_path) == finished
    execute._finish(tmp_path)
    assert execute._claim(tmp_path, NOW)
