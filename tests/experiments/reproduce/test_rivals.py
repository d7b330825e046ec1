"""Rows of other methods: which files they take, what is missing, and a whole table."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.reproduce import kept_plan, paired, protocols, request, rivals
from experiments.reproduce.plan import Planner, Settings
from experiments.reproduce.sources import SCENES, Listed
from support import warm
from support.weights.rival_files import vifi_state, write_vifi
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.clip.weights.params import state_from_clip
from vtd_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
BOTH = ("vifi", "vifi_prompts")
PROMPTS = dict(text=(5, 2), visual=(2, 3))


class Everything:
    """Every list of every data set is there."""

    def folder(self, dataset):
        return Path("records") / dataset

    def find(self, dataset, name):
        return Listed(100, ("a", "b"))


@pytest.fixture(scope="module")
def tiny():
    clip = load_clip("tiny")
    return state_from_clip(clip), clip.config


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    """Some of the rivals' files."""
    found = tmp_path_factory.mktemp("checkpoints")
    for name, tables in {
        "vifi": ("zero_shot", "few_shot_scenes_2", "base_to_novel_ucf101_s2"),
        "vifi_prompts": ("few_shot_scenes_2",),
    }.items():
        (found / name).mkdir()
        state = vifi_state(*tiny, **(PROMPTS if name == "vifi_prompts" else {}))
        for table in tables:
            write_vifi(found / name / f"{table}.pth", state)
    return found


def planned(table, datasets, tiny, folder, methods=BOTH, **settings):
    settings = Settings("tiny", tiny[1], methods=methods, rivals=folder, **settings)
    everything: Any = Everything()
    planner = Planner(everything, settings)
    return protocols.make_plan(table, planner, datasets)


def test_rows_take_the_files_that_are_there_and_name_the_others(tiny, folder):
    plan = planned("base_to_novel", ("hmdb51", "ucf101", "kinetics400"), tiny, folder)
    (run,) = plan.runs
    assert run.name == "base_to_novel_ucf101_16shot_s2_vifi"
    assert run.source == str(folder / "vifi" / "base_to_novel_ucf101_s2.pth")
    assert run.rival == "vifi"
    assert not run.learns
    (row,) = plan.rows
    assert (row.method, row.learnt_on) == ("ViFi-CLIP (its checkpoint)", "16 shots")
    # 3 lists of 3 data sets, and of the prompts' 2, but for one
    assert len(plan.missing) == 3 * 3 + 2 * 3 - 1
    assert plan.missing[0] == (
        "base_to_novel_hmdb51_16shot_s1_vifi: no file "
        f"{folder}/vifi/base_to_novel_hmdb51_s1.pth, a checkpoint of ViFi-CLIP "
        "(published at https://github.com/muzairkhattak/ViFi-CLIP, section Model Zoo)"
    )
    (lacking, *_) = plan.absent["hmdb51"]
    assert lacking.endswith("section Model Zoo) (1 run left out)")


def test_one_file_serves_what_kinetics_taught(tiny, folder):
    plan = planned("zero_shot", ("hmdb51", "kinetics600"), tiny, folder)
    assert [run.name for run in plan.runs] == [
        "zero_shot_hmdb51_vifi",
        "zero_shot_kinetics600_vifi",
    ]
    assert {run.source for run in plan.runs} == {f"{folder}/vifi/zero_shot.pth"}
    assert {row.learnt_on for row in plan.rows} == {"Kinetics-400"}
    for run in plan.runs:
        # as its authors prepare frames, and not as this table's vanilla CLIP does
        assert run.config.data.preprocess == "release"
        assert run.config.model.normalization == "imagenet"
        assert run.config.model.templates == ("a photo of a {}.",)
        assert (run.config.model.pooling, run.config.model.fusion) == ("mean", False)
    assert (
        planned("fully_supervised", ("kinetics400",), tiny, folder)
        .missing[0]
        .startswith(
            f"fully_supervised_kinetics400_vifi: no file {folder}/vifi/fully_supervised.pth"
        )
    )
    assert not planned("ablations", ("hmdb51",), tiny, folder).runs


def test_videos_and_frames_are_ours_and_the_model_is_the_files(tiny, folder):
    changes = {"data.frames": 4, "model.normalization": "clip"}
    plan = planned("few_shot", (SCENES,), tiny, folder, (*BOTH, "vtd"), changes=changes)
    runs = {run.name: run.config for run in plan.runs}
    ours = runs["few_shot_scenes_2"]
    for name in BOTH:
        config = runs[f"few_shot_scenes_2_{name}"]
        assert config.data.frames == 4
        assert config.data.evaluate == ours.data.evaluate
        assert config.model.normalization == "imagenet"
        assert not config.data.train
    prompts = runs["few_shot_scenes_2_vifi_prompts"].model
    assert (prompts.text_prompts, prompts.text_depth) == PROMPTS["text"]
    assert (prompts.visual_prompts, prompts.visual_depth) == PROMPTS["visual"]


def test_few_shot_is_evaluated_on_the_same_lists_as_ours(tiny, tmp_path):
    (tmp_path / "vifi").mkdir()
    for dataset in ("hmdb51", "ssv2"):
        write_vifi(tmp_path / "vifi" / f"few_shot_{dataset}_2.pth", vifi_state(*tiny))
    for way in ("split1", "mean"):
        plan = planned(
            "few_shot", ("hmdb51", "ssv2"), tiny, tmp_path, ("vtd", "vifi"), few_shot_val=way
        )
        runs = {run.name: run.config for run in plan.runs}
        rows = {(row.dataset, row.rival): row.cells["2"] for row in plan.rows}
        for dataset in ("hmdb51", "ssv2"):
            (ours,), (theirs,) = rows[dataset, ""], rows[dataset, "vifi"]
            assert runs[ours].data.evaluate == runs[theirs].data.evaluate
            # so that seeds of ours stand against the one file of theirs
            for seed in ("", "_seed1"):
                seeded = ours.replace("_2", f"_2{seed}", 1)
                found = paired._aligned([theirs, "another"], [seeded], "vifi")
                assert found == ([theirs], [seeded])


def test_methods_choose_rows(tiny, folder):
    def methods(*names):
        plan = planned("few_shot", ("hmdb51",), tiny, folder, names)
        return {row.method for row in plan.rows}

    assert methods("vtd") == {"VTD-CLIP"}
    assert "CLIP, class names" in methods("clip")
    assert methods("vtd", "clip") == methods("vtd") | methods("clip")
    assert not planned("zero_shot", ("hmdb51",), tiny, folder, ("vifi_prompts",)).rows


@pytest.mark.parametrize(
    "methods, given, message",
    [
        ((), None, "--methods=: none, expected some of vtd, clip, vtd_frames, vifi"),
        (
            ("vtd", "x"),
            None,
            "--methods=vtd,x: no method 'x', expected some of vtd, clip, vtd_frames, vifi",
        ),
        (("tc_clip",), None, "--methods=tc_clip: TC-CLIP, which is not computed here: it needs"),
        (("vifi",), None, "say where these are, --rivals=DIR with DIR/vifi/…"),
        (("vtd",), ".", "--rivals=.: read by no row; add one to --methods, as vtd,clip,vifi"),
        (("vifi",), "none", "--rivals=none: no such folder"),
    ],
)
def test_methods_that_are_none(methods, given, message):
    with pytest.raises(UserError) as caught:
        rivals.check_methods(methods, given and Path(given))
    assert message in str(caught.value)


def test_a_table_without_rows_of_these_methods_says_so(tmp_path, folder):
    asked = request.Request(
        "ablations",
        tmp_path,
        None,
        None,
        (),
        (1,),
        (0,),
        (),
        "auto",
        {},
        methods=BOTH,
        rivals=folder,
    )
    message = "--methods=vifi,vifi_prompts: table ablations has no rows of these here"
    with pytest.raises(UserError, match=message):
        request.make(asked, dry=True)


def test_a_file_of_another_method_ends_the_plan(tiny, tmp_path):
    (tmp_path / "vifi").mkdir()
    write_vifi(tmp_path / "vifi" / "zero_shot.pth", {"mit.x": np.zeros(2, np.float32)})
    with pytest.raises(UserError, match="is of X-CLIP, which is not computed here"):
        planned("zero_shot", ("hmdb51",), tiny, tmp_path)


def test_a_plan_keeps_which_rows_are_rivals(tmp_path, tiny, folder):
    plan = planned("zero_shot", ("hmdb51",), tiny, folder)
    path = tmp_path / "zero_shot.json"
    kept_plan.save_plan(path, plan, {})
    assert [row.rival for row in kept_plan.load_plan(path)[0].rows] == ["vifi"]
    # as earlier versions kept it
    kept = json.loads(path.read_text())
    del kept["rows"][0]["rival"]
    path.write_text(json.dumps(kept))
    assert [row.rival for row in kept_plan.load_plan(path)[0].rows] == [""]
    kept["rows"][0]["rival"] = "xclip"
    path.write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"zero_shot\.json: .*rows"):
        kept_plan.load_plan(path)


@pytest.mark.command
def test_a_table_of_rivals_from_end_to_end(tiny, folder, tmp_path):
    """Small scenes; a training of one epoch, the same videos for all, and the tests beside them."""
    script = tmp_path / "small_reproduce.py"
    script.write_text("""
import functools
from experiments.common import hosts
from experiments.reproduce import __main__ as reproduce
from experiments.reproduce import request
from vtd_jax.scenes.benchmark import SceneBenchmark
if __name__ == "__main__":
    fields = dict(classes=4, pool=16, val=6, unseen=2, unseen_val=2, size=32)
    request.SceneBenchmark = functools.partial(SceneBenchmark, **fields)
    hosts.run(reproduce.main, reproduce.__doc__, catch_sigterm=True)
""")
    environment = dict(
        os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", PYTHONPATH=str(ROOT)
    )
    workdir = tmp_path / "tables"
    flags = [
        "--table=few_shot", "--methods=vtd,vifi,vifi_prompts", f"--rivals={folder}",
        "--only=few_shot_scenes_2,few_shot_scenes_2_vifi*", "--set=optimizer.epochs=1",
        "--set=data.batch_size=8", f"--workdir={workdir}",
    ]  # fmt: skip
    dry = warm.run([str(script), *flags, "--dry_run"], environment, timeout=500)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    lacking = f"no file {folder}/vifi/few_shot_scenes_4.pth, a checkpoint of ViFi-CLIP (its authors"
    assert lacking in dry.stdout
    done = warm.run([str(script), *flags], environment, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"{workdir}/few_shot_paired.md")
    table = json.loads((workdir / "few_shot_paired.json").read_text())
    assert [row["other method"] for row in table["rows"]] == [
        "ViFi-CLIP (its checkpoint)",
        "ViFi-CLIP prompts (its checkpoint)",
    ]
    for row, name in zip(table["rows"], BOTH):
        folders = [workdir / "runs" / f"few_shot_scenes_2{end}" for end in ("", f"_{name}")]
        vtd, other = (json.loads((run / "results.json").read_text()) for run in folders)
        assert row["VTD-CLIP"] == vtd["rows"][0]["top-1"]
        assert row["other"] == other["rows"][0]["top-1"]
        assert 0 < row["p"] <= 1
        assert other["about"]["learnt"].startswith(f"{folder}/{name}/few_shot_scenes_2.pth (ViFi-")
    about = json.loads((workdir / "few_shot.json").read_text())["about"]
    assert (
        "ViFi-CLIP by its authors 32 frames, 1 × 1 views, here 8 frames" in about["other methods"]
    )
    assert "few_shot_scenes_16_vifi: no file" in about["not made"]
    # from what lies on disk, without checkpoints
    again = warm.run([str(script), *flags, "--tables_only"], environment, timeout=500)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((workdir / "few_shot_paired.json").read_text()) == table
