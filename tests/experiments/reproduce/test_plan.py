"""Plans of every table: which runs, that each ablation is config fields only, what is missing, and
flags.
"""

import re
from pathlib import Path

import pytest

from experiments.reproduce import ablations, kept_plan, protocols, request
from experiments.reproduce import plan as _plan
from experiments.reproduce.plan import Planner, Settings
from experiments.reproduce.sources import SCENES, SHARES, Listed, RecordSource, SceneSource
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.scenes.benchmark import SceneBenchmark
from vtd_jax.train.config import flatten

pytestmark = pytest.mark.slow

B16 = Settings("ViT-B-16.pt", CLIPConfig.vit_b16())


class Everything:
    """Every list of every data set is there, but those in `lacking`."""

    def __init__(self, *lacking):
        self.lacking = lacking

    def folder(self, dataset):
        return Path("records") / dataset

    def find(self, dataset, name):
        return None if (dataset, name) in self.lacking else Listed(100, ("a", "b"))


def _plan_of(table, settings=B16, data=None):
    data = data or Everything()
    datasets = (SCENES,) if isinstance(data, SceneSource) else protocols.DATASETS[table]
    planner = Planner(data, settings)
    return protocols.make_plan(table, planner, datasets), planner


def _scenes(tmp_path):
    return SceneSource(tmp_path, SceneBenchmark(), noisy=True)


def test_base_to_novel_has_both_protocols_and_all_data_sets():
    plan, _ = _plan_of("base_to_novel")
    assert len(plan.runs) == 4 * (4 + 3 + 1)
    assert not plan.missing
    assert not plan.differs
    learnt = {run.name: run.config for run in plan.runs if run.learns}
    for dataset in protocols.DATASETS["base_to_novel"]:
        lists = [
            learnt[f"base_to_novel_{dataset}_16shot_s{split}"].data.train for split in (1, 2, 3)
        ]
        assert lists == ["fs_base_s1_train", "fs_base_s2_train", "fs_base_s3_train"]
        assert learnt[f"base_to_novel_{dataset}_all"].data.train == "base_train"
    rows = [(row.method, row.learnt_on) for row in plan.rows if row.dataset == "ssv2"]
    assert rows[-2:] == [("VTD-CLIP", "16 shots"), ("VTD-CLIP", "all base videos")]
    ensembles = {len(run.config.model.templates) for run in plan.runs if not run.learns}
    assert {0, 16} < ensembles
    assert len(ensembles) == 3


def test_few_shot_is_evaluated_on_the_same_list_as_vanilla_clip():
    plan, _ = _plan_of("few_shot")
    assert len(plan.runs) == 3 * (4 + 4)
    for run in plan.runs:
        assert list(run.config.data.evaluate) == ["val"], run.name
        assert run.config.data.evaluate["val"] == (
            "validation" if run.dataset == "ssv2" else "val1"
        )
    assert {column for row in plan.rows for column in row.cells} == {"0", "2", "4", "8", "16"}


def test_zero_shot_transfer_evaluates_what_kinetics_taught():
    plan, _ = _plan_of("zero_shot")
    lent = [run for run in plan.runs if run.source]
    assert [run.source for run in lent] == ["fully_supervised_kinetics400"] * 3
    assert [len(run.config.data.evaluate) for run in lent] == [3, 3, 3]
    source = next(run for run in plan.runs if run.name == "fully_supervised_kinetics400")
    assert source.learns
    assert all(run.config.model == source.config.model and not run.learns for run in lent)
    assert plan.runs.index(source) < plan.runs.index(lent[0])
    nothing, _ = _plan_of("zero_shot", Settings("x", CLIPConfig.vit_b16(), source="none"))
    assert not any(run.learns or run.source for run in nothing.runs)


def test_fully_supervised_has_twelve_views_for_all():
    plan, _ = _plan_of("fully_supervised")
    views = {
        (run.config.evaluate.temporal_views, run.config.evaluate.spatial_views) for run in plan.runs
    }
    assert views == {(4, 3)}
    assert {run.config.data.frames for run in plan.runs} == {16}


@pytest.mark.parametrize("dataset", ["hmdb51", "ssv2", SCENES])
def test_every_ablation_is_config_fields_and_nothing_else(dataset):
    reference = protocols._reference(dataset, 1)
    sizes = ablations.SCENES_SIZES if dataset == SCENES else ablations.RELEASE_SIZES
    found = ablations.ablations(reference, sizes)
    for one in found[1:]:
        before, after = (
            flatten(reference.to_dict()),
            flatten(reference.with_changes(one.changes).to_dict()),
        )
        changed = {field for field in before if before[field] != after[field]}
        assert changed, one
        assert changed <= set(one.changes)
    names = {one.slug for one in found}
    assert len(names) == len(found)
    assert {
        "full",
        "codebook_off",
        "confidence_off",
        "fusion_off",
        "visual_only",
        "cosine",
        "top3",
    } <= names
    assert {f"frames{n}" for n in sizes.frames} - names == {f"frames{reference.data.frames}"}
    # the reference itself is in no group
    assert f"length{reference.model.text_prompts}" not in names
    assert f"depth{reference.model.text_depth}" not in names
    assert ("text_only" in names) != ("text_and_visual" in names)


def test_ablations_run_on_all_three_lists_and_share_the_full_method():
    plan, _ = _plan_of("ablations")
    of_one = [row for row in plan.rows if row.dataset == "hmdb51"]
    assert all(len(row.cells[""]) == 3 for row in of_one)
    assert of_one[0].cells[""] == tuple(
        f"base_to_novel_hmdb51_16shot_s{split}" for split in (1, 2, 3)
    )
    assert len({run.name for run in plan.runs}) == len(plan.runs)
    configs = [run.config.fingerprint for run in plan.runs if run.dataset == "hmdb51"]
    assert len(set(configs)) == len(configs)


def test_a_smaller_clip_gets_fewer_prompted_layers_and_says_so():
    plan, _ = _plan_of("ablations", Settings("tiny", CLIPConfig.tiny()))
    assert all(
        run.config.model.text_depth <= 2 and run.config.model.visual_depth <= 4 for run in plan.runs
    )
    assert "model.text_depth at most 2, what a tiny takes" in plan.differs
    fingerprints = [run.config.fingerprint for run in plan.runs if run.dataset == "hmdb51"]
    assert len(set(fingerprints)) == len(fingerprints)
    assert "hmdb51, 12 layers: with this CLIP and --set the same as another row" in plan.missing
    resnet, _ = _plan_of("base_to_novel", Settings("RN50.pt", CLIPConfig.rn50()))
    assert all(run.config.model.visual_prompts == 0 for run in resnet.runs)


def test_lists_that_are_not_there_are_reported_and_the_rest_is_made():
    lacking = Everything(
        ("kinetics400", "base_train"), *(("ucf101", name) for name in ("base_val", "novel_val"))
    )
    plan, _ = _plan_of("base_to_novel", data=lacking)
    assert {row.dataset for row in plan.rows} == {"hmdb51", "ssv2", "kinetics400"}
    assert (
        "base_to_novel_kinetics400_all: no list base_train in records/kinetics400" in plan.missing
    )
    assert len(plan.missing) == 1 + 8
    nothing = Everything(
        *(("hmdb51", f"train1_few_shot_{k}") for k in (2, 4, 8, 16)), ("hmdb51", "val1")
    )
    empty, _ = _plan_of("few_shot", data=nothing)
    assert not [row for row in empty.rows if row.dataset == "hmdb51"]


def test_seeds_and_changes_reach_every_run():
    settings = Settings(
        "x", CLIPConfig.vit_b16(), {"optimizer.epochs": 3}, seeds=(0, 1), splits=(2,)
    )
    plan, _ = _plan_of("base_to_novel", settings)
    assert {run.config.optimizer.epochs for run in plan.runs if run.learns} == {3}
    assert all(run.config.optimizer.epochs != 3 for run in plan.runs if not run.learns)
    names = [run.name for run in plan.runs if run.learns and run.dataset == "hmdb51"]
    assert names == [
        "base_to_novel_hmdb51_16shot_s2",
        "base_to_novel_hmdb51_all",
        "base_to_novel_hmdb51_all_seed1",
    ]
    assert plan.differs == ("optimizer.epochs 3, set by --set",)
    with pytest.raises(
        UserError, match=r"unknown config field optimizer\.epoch: did you mean optimizer\.epochs"
    ):
        _plan_of("base_to_novel", Settings("x", CLIPConfig.vit_b16(), {"optimizer.epoch": 3}))


def test_an_ablation_that_is_set_away_is_reported():
    plan, _ = _plan_of("ablations", Settings("x", CLIPConfig.vit_b16(), {"data.frames": 4}))
    message = [line for line in plan.missing if line.startswith("ssv2, ")]
    assert message == [
        f"ssv2, {n} frames: with this CLIP and --set the same as another row" for n in (8, 16)
    ]


@pytest.mark.slow
def test_scenes_have_every_table_before_anything_is_rendered(tmp_path):
    counts = {}
    for table in protocols.TABLES:
        plan, planner = _plan_of(table, Settings("tiny", CLIPConfig.tiny()), _scenes(tmp_path))
        assert not plan.missing
        assert not plan.differs
        counts[table] = len(plan.runs)
        training, splits = planner.listed(plan.runs[-1])
        assert (training is not None) == plan.runs[-1].learns
        assert all(listed.videos > 0 for listed in splits.values())
    assert counts["irrelevant"] == 6 + 7 * len(SHARES)
    assert not list(tmp_path.iterdir())


def test_subset_takes_along_what_it_evaluates(tmp_path):
    plan, _ = _plan_of("irrelevant", Settings("tiny", CLIPConfig.tiny()), _scenes(tmp_path))
    chosen = _plan.selected(plan, (SCENES,), ("*16shot_s2_noise90",))
    assert [run.name for run in chosen] == [
        "base_to_novel_scenes_16shot_s2",
        "base_to_novel_scenes_16shot_s2_noise90",
    ]
    assert _plan.selected(plan, (), ()) == plan.runs
    assert _plan.selected(plan, ("hmdb51",), ()) == ()


def test_a_plan_is_kept_and_read_again(tmp_path):
    plan, _ = _plan_of("ablations")
    kept_plan.save_plan(tmp_path / "plan.json", plan, {"CLIP weights": "x"})
    again, notes = kept_plan.load_plan(tmp_path / "plan.json")
    assert again.rows[1:] == tuple(plan.rows[1:])
    assert (again.missing, again.differs, notes) == (
        plan.missing,
        plan.differs,
        {"CLIP weights": "x"},
    )
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match="run this table again"):
        kept_plan.load_plan(tmp_path / "plan.json")
    with pytest.raises(UserError, match="run this table first"):
        kept_plan.load_plan(tmp_path / "other.json")


def _request(tmp_path, **fields):
    asked = dict(
        table="base_to_novel", workdir=tmp_path, data_dir=None, clip=None, datasets=(), splits=(1,),
        seeds=(0,), only=(), source="auto", changes={},
    )  # fmt: skip
    return request.Request(**(asked | fields))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"data_dir": "there"}, "--clip is needed with --data_dir"),
        ({"data_dir": "/nowhere", "clip": "tiny"}, "--data_dir=/nowhere: no such folder"),
        ({"datasets": ("hmdb51",)}, "--datasets=hmdb51: table base_to_novel has scenes"),
        ({"only": ("nothing*",)}, "--only=nothing*: matches no run of table base_to_novel"),
        ({"table": "irrelevant", "data_dir": "/tmp", "clip": "tiny"}, "is about rendered scenes"),
    ],
)
def test_what_cannot_be_planned(tmp_path, fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        request.make(_request(tmp_path, **fields))


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A machine without any weights, and without a network."""
    for name, place in (("HOME", "home"), ("HF_HOME", "hf"), ("VTD_JAX_CACHE", "cache")):
        monkeypatch.setenv(name, str(tmp_path / place))
    for name in ("HF_ENDPOINT", "VTD_JAX_OPENAI_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["ViT-B/16", "hf:google/siglip2-base-patch16-224", "open_clip:ViT-H-14/dfn5b"]
)
def test_a_dry_run_needs_no_weights(no_weights, tmp_path, monkeypatch, capfd, name):
    only = "base_to_novel_hmdb51_all"
    asked = _request(tmp_path, data_dir="records", clip=name, datasets=("hmdb51",), only=(only,))
    monkeypatch.setattr(request, "RecordSource", lambda folder: Everything())
    made = request.make(asked, dry=True)
    assert request.show(made, "H100", 8, 0.3).startswith("1 run, about ")
    said = capfd.readouterr().out
    get = f"python -m experiments.weights get {name} downloads it"
    assert f"- {name}: not on this machine, planned from its published sizes; {get}" in said
    # what is run needs them
    with pytest.raises(UserError, match="not on this machine"):
        request.make(asked)


def test_a_dry_run_is_that_of_the_weights(no_weights, tmp_path, capfd):
    asked = _request(tmp_path)
    shown = []
    for dry in (True, False):
        shown.append(
            (request.show(request.make(asked, dry=dry), "H100", 1, 0.3), capfd.readouterr())
        )
    assert shown[0] == shown[1]


def test_an_empty_data_folder_says_what_was_looked_for(tmp_path):
    there = tmp_path / "records"
    (there / "ucf101").mkdir(parents=True)
    message = (
        f"nothing to run: hmdb51: there is no folder {there}/hmdb51 (6 runs left out); ucf101: no "
        "list base_val, novel_"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        request.make(_request(tmp_path, data_dir=str(there), clip="tiny"))
    assert RecordSource(there).find("hmdb51", "base_val") is None


@pytest.mark.parametrize("table", ["few_shot", "base_to_novel", "all"])
def test_only_what_is_requested_is_complained_of(tmp_path, table):
    with pytest.raises(UserError) as caught:
        request.make(
            _request(
                tmp_path,
                table=table,
                data_dir=str(tmp_path),
                clip="tiny",
                datasets=("hmdb51",),
                source="none",
            )
        )
    message = str(caught.value)
    assert f"hmdb51: there is no folder {tmp_path}/hmdb51" in message
    assert not any(other in message for other in ("kinetics", "ucf101", "ssv2"))
    plan, _ = _plan_of(
        "base_to_novel", data=Everything(("kinetics400", "base_train"), ("ssv2", "base_val"))
    )
    assert _plan.lacking(plan, ("hmdb51",)) == []
    assert _plan.lacking(plan, ("kinetics400",)) == [
        "kinetics400: no list base_train in records/kinetics400 (1 run left out)"
    ]


@pytest.mark.parametrize("texts", [["optimizer.epochs"], ["=3"]])
def test_bad_changes(texts):
    with pytest.raises(UserError, match="expected FIELD=VALUE"):
        request.changes(texts)


def test_changes_are_read():
    read = request.changes(["optimizer.lr=1e-3", "model.assignment=cosine", "model.fusion=False"])
    assert read == {"optimizer.lr": 1e-3, "model.assignment": "cosine", "model.fusion": False}
