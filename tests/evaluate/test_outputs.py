"""What an evaluation leaves behind."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import vtd_jax
from experiments.configs import base_to_novel, few_shot, scenes, zero_shot
from vtd_jax.backend import describe_devices
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.evaluate import outputs
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.train.config import RunConfig
from vtd_jax.train.workdir import read_training_list, save_training_list
from vtd_jax.video.stored_lists import StoredList

RESULT = {
    "val": SplitResult(
        ("a", "b"), np.array([[1, 0], [1, 0]], np.float32), np.array([0, 1], np.int32)
    )
}


def test_about_names_what_a_number_depends_on():
    config = RunConfig.from_dict(few_shot.get_config("hmdb51,shots=4").to_dict())
    message = outputs.about(config, CLIPConfig.vit_b16(), "checkpoint of step 3 (last)")
    assert message["training videos"] == "4 a class"
    assert message["CLIP"] == "ViT-B/16, float32"
    assert message["config"] == config.fingerprint
    assert message["versions"]["vtd_jax"] == vtd_jax.__version__
    assert message["class names"] == "behind 10 learnt tokens"
    assert "confidence" not in message
    assert message["device"] == "cpu"
    nothing = RunConfig.from_dict(zero_shot.get_config("hmdb51").to_dict())
    assert not {"training videos", "training list"} & set(
        outputs.about(nothing, CLIPConfig.vit_b16(), "nothing")
    )


def test_devices_in_words():
    class Device(NamedTuple):
        platform: str
        device_kind: str

    gpu = Device("gpu", "NVIDIA H100 80GB HBM3")
    assert describe_devices([Device("cpu", "cpu")]) == "cpu"
    assert describe_devices([gpu]) == "gpu NVIDIA H100 80GB HBM3"
    assert (
        describe_devices([gpu] * 8 + [Device("cpu", "cpu")]) == "8 × gpu NVIDIA H100 80GB HBM3, cpu"
    )


def stored(origin: str, source: str, left_out: int = 0) -> StoredList:
    some = np.arange(3)
    left = tuple({"file": "x"} for _ in range(left_out))
    return StoredList(
        Path("base_val.json"), "base_val", origin, source, ("a",), some, some, left, ""
    )


def test_lists_say_where_they_come_from_and_what_they_lack(tmp_path):
    config = RunConfig.from_dict(few_shot.get_config("hmdb51,shots=4").to_dict())
    own = stored("own split", "own split: frequent half of the classes of train1", 2)
    save_training_list(tmp_path, stored("official", "trainlist01.txt"))
    training = read_training_list(tmp_path)
    assert training == {"origin": "official", "told": "base_val (official list; 3 videos)"}
    table = outputs.results_table(config, CLIPConfig.vit_b16(), RESULT, "x", {"val": own}, training)
    assert (table.rows[0]["list"], table.rows[0]["left out"]) == ("own split", 2)
    assert table.about["training list"] == "base_val (official list; 3 videos)"
    message = (
        "base_val (own split: frequent half of the classes of train1; 3 videos, 2 more left out)"
    )
    assert table.about["lists"] == {"val": message}
    assert read_training_list(tmp_path / "none") == {}
    # numbers learnt on an own split are marked, whatever they are evaluated on
    learnt = save_training_list(tmp_path, own)
    table = outputs.results_table(
        config, CLIPConfig.vit_b16(), RESULT, "x", {"val": stored("official", "x")}, learnt
    )
    assert table.rows[0]["list"] == "official, learnt on own split"
    assert "left out" not in table.columns


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_there_is_no_table_of_scores_that_are_nan(value):
    config = RunConfig.from_dict(few_shot.get_config("hmdb51,shots=4").to_dict())
    broken = RESULT["val"].scores.copy()
    broken[1, 0] = value
    results = {"val": dataclasses.replace(RESULT["val"], scores=broken)}
    with pytest.raises(
        UserError, match=r"^split val: scores of 1 of 2 videos are NaN or infinite: no table"
    ):
        outputs.results_table(config, CLIPConfig.vit_b16(), results, "x")


def test_report_files(tmp_path):
    config = RunConfig.from_dict(few_shot.get_config("hmdb51,shots=4").to_dict())
    table = outputs.results_table(config, CLIPConfig.vit_b16(), RESULT, "x")
    written = outputs.save_report(tmp_path / "new", "results", table, RESULT)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        path.name for path in written
    )
    assert (
        tmp_path / "new" / "results_per_class.csv"
    ).read_text() == "split,class,videos,top-1\nval,a,1,1.0\nval,b,1,0.0\n"
    confusions = (tmp_path / "new" / "results_confusions.csv").read_text()
    assert confusions == "split,true,predicted,videos,share\nval,b,a,1,1.0\n"


@pytest.mark.parametrize("checkout", [True, False])
def test_commit_is_that_of_this_code_only(tmp_path, monkeypatch, checkout):
    monkeypatch.setattr(vtd_jax, "__file__", str(tmp_path / "vtd_jax" / "__init__.py"))
    if not checkout:
        assert outputs.commit() is None
        return
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = outputs.commit()
    assert len(clean) == 12
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    assert outputs.commit() == f"{clean}+"


@pytest.mark.parametrize(
    "config, ours",
    [
        (base_to_novel.get_config("hmdb51"), "all base videos"),
        (base_to_novel.get_config("hmdb51,shots=16,split=2"), "one list of 16 videos a base class"),
        (few_shot.get_config("hmdb51,shots=4"), None),
        (zero_shot.get_config("hmdb51,lists=base_to_novel"), None),
        # nothing is published of these
        (scenes.get_config("base_to_novel"), None),
    ],
)
def test_a_number_that_learnt_on_other_videos_than_published_ones_says_so(config, ours):
    config = RunConfig.from_dict(config.to_dict())
    splits = dict.fromkeys(config.data.evaluate, RESULT["val"])
    table = outputs.results_table(config, CLIPConfig.vit_b16(), splits, "x")
    published = "published numbers are means over 3 lists of 16 (shots=16 with split=1, 2 and 3)"
    message = f" (learnt on {ours}; {published})" if ours else ""
    assert table.title == f"{config.name}: top-1 in percent{message}"


@pytest.mark.parametrize("rule", ["frames", "release"])
def test_about_names_the_rule_of_ties(rule):
    config = few_shot.get_config("hmdb51,shots=4")
    config.model.ties = rule
    message = outputs.about(RunConfig.from_dict(config.to_dict()), CLIPConfig.vit_b16(), "nothing")
    assert message["ties"].startswith(f"{rule}: ")
    assert message["votes"].startswith("confidence: ")
    if rule == "frames":
        config.model.votes = "frames"
        counted = outputs.about(
            RunConfig.from_dict(config.to_dict()), CLIPConfig.vit_b16(), "nothing"
        )
        assert counted["votes"].startswith("frames: ")
        assert "ties" not in counted
    config.model.fusion = False
    # no video token takes part
    assert "ties" not in outputs.about(
        RunConfig.from_dict(config.to_dict()), CLIPConfig.vit_b16(), "nothing"
    )


def test_about_names_templates_and_uniform_confidence():
    config = zero_shot.get_config("hmdb51")
    clip = CLIPConfig.vit_b16()
    assert (
        outputs.about(RunConfig.from_dict(config.to_dict()), clip, "nothing")["class names"]
        == "bare"
    )
    config.model.update(templates=("a clip of {}", "{}"), confidence="uniform")
    message = outputs.about(RunConfig.from_dict(config.to_dict()), clip, "nothing")
    assert message["class names"] == "2 templates, e.g. 'a clip of {}'"
    assert message["confidence"] == "uniform, every frame weighs 1/T"


def test_a_table_of_an_earlier_version_is_of_its_scores(tmp_path):
    config = RunConfig.from_dict(few_shot.get_config("hmdb51,shots=4").to_dict())
    table = outputs.results_table(config, CLIPConfig.vit_b16(), RESULT, "step 3", step=3)
    outputs.save_report(tmp_path, "results", table, RESULT)
    path, scores = tmp_path / "results.json", tmp_path / "results_scores.npz"
    saved = json.loads(path.read_text())
    # version 0.1.0 noted twice as many digits
    before = "4f3bf0813a076be9cfc76bf0561e1b5a"
    assert saved["scores"] == before[:16]
    path.write_text(json.dumps(saved | {"scores": before}))
    assert outputs.table_step(path, scores) == 3
    assert outputs.read_table(path, RESULT)["scores"] == before
    path.write_text(json.dumps(saved | {"scores": "0" * 32}))
    assert outputs.table_step(path, scores) is None
    with pytest.raises(UserError, match="another evaluation"):
        outputs.read_table(path, RESULT)
