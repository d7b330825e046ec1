"""Run settings: round trip, and one line for every value that makes no sense."""

import copy
import hashlib
import json
import re

import pytest

from experiments.configs import video_folder
from vtd_jax.errors import UserError
from vtd_jax.fields import flatten, unknown_field
from vtd_jax.train.config import FREE_ON_RESUME, RunConfig
from vtd_jax.train.workdir import read_config, save_config
from vtd_jax.video.records import open_records

FIELDS = video_folder.get_config().to_dict()


def _with(**changes):
    """Fields with changes by full name, dots written as two underscores."""
    fields = copy.deepcopy(FIELDS)
    for name, value in changes.items():
        *groups, last = name.split("__")
        group = fields
        for key in groups:
            group = group[key]
        group[last] = value
    return fields


def test_round_trip():
    run = RunConfig.from_dict(FIELDS)
    assert RunConfig.from_dict(run.to_dict()) == run
    assert run.augment.scales == tuple(FIELDS["augment"]["scales"])
    assert RunConfig.from_dict(_with(optimizer__lr=1)).optimizer.lr == 1.0


def test_a_saved_run_finds_its_files_from_any_folder(tmp_path, monkeypatch):
    run = RunConfig.from_dict(_with(clip__path="clips/ViT-B-16.pt", data__data_dir="records"))
    monkeypatch.chdir(tmp_path)
    save_config(tmp_path, run)
    monkeypatch.chdir("/")
    saved = read_config(tmp_path)
    assert (saved.clip.path, saved.data.data_dir) == (
        f"{tmp_path}/clips/ViT-B-16.pt",
        f"{tmp_path}/records",
    )
    # neither is a setting that a result depends on
    assert not saved.differences(run)
    assert saved.fingerprint == run.fingerprint
    assert {
        RunConfig.from_dict(_with(clip__path=path)).anywhere().clip.path for path in ("tiny", "")
    } == {"tiny", ""}
    with pytest.raises(
        UserError,
        match=r"^records: there is no such data folder in /; say where it is, or make records",
    ):
        open_records("records", "list")


@pytest.mark.parametrize("name", ["hf:org/model", "openai:ViT-B/16", "gs://bucket/clip.pt"])
def test_names_of_clips_stay_names_anywhere(name):
    run = RunConfig.from_dict(_with(clip__path=name))
    assert run.anywhere().clip.path == name
    assert RunConfig.from_saved(run.anywhere().to_dict()).clip.path == name


def test_what_must_be_the_same_on_all_hosts():
    expected = RunConfig.from_dict(FIELDS).everywhere
    there = RunConfig.from_dict(
        _with(clip__path="/there/clip.pt", data__data_dir="/there", data__workers=7)
    )
    assert there.everywhere == expected
    for change in (
        dict(memory__frame_chunks=2),
        dict(optimizer__epochs=7),
        dict(seed=5),
        dict(devices=1),
    ):
        assert RunConfig.from_dict(_with(**change)).everywhere != expected


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(protocol="base"), "protocol: 'base', expected one of base_to_novel"),
        (dict(parallel="xmap"), "parallel: 'xmap', expected one of shard_map, pmap"),
        (dict(seed=-1), "seed: -1, expected 0 or more"),
        (dict(log_every=0), "log_every: 0, expected 1 or more"),
        (dict(clip__dtype="float16"), "clip.dtype: 'float16', expected one of float32, bfloat16"),
        (dict(data__frames=0), "data.frames: 0, expected 1 or more"),
        (dict(data__batch_size=0), "data.batch_size: 0"),
        (dict(data__workers=-1), "data.workers: -1"),
        (dict(data__evaluate={}), "data.evaluate: empty"),
        (dict(data__evaluate={"val": ""}), "data.evaluate.val: ''"),
        (
            dict(model__pooling="max"),
            "model.pooling: 'max', expected one of confidence, mean, softmax_mean",
        ),
        (dict(model__text_prompts=2.0), "model.text_prompts: 2.0, expected int"),
        (dict(model__fusion=1), "model.fusion: 1, expected bool"),
        (
            dict(model__confidence="max"),
            "model.confidence: 'max', expected one of softmax, uniform",
        ),
        (dict(model__templates="a {}"), "model.templates: 'a {}', expected a tuple"),
        (dict(model__templates=("a {}", 3)), "model.templates[1]: 3, expected str"),
        (dict(model__templates=("a {}",)), "with model.text_prompts=4"),
        (dict(augment__scales=("x",)), "augment.scales[0]: 'x', expected float"),
        (dict(data__evaluate=("val",)), "data.evaluate: ('val',), expected a group of fields"),
        (dict(data__stored_views=-1), "data.stored_views: -1, expected 0 or more"),
        (dict(data__preprocess="bicubic"), "data.preprocess: 'bicubic', expected one of release"),
        (
            dict(data__preprocess="clip", model__normalization="imagenet"),
            (
                "data.preprocess=clip: is CLIP's own preprocessing, its mean and deviation "
                "included, but model.normalization=imagenet; set `model.normalization=clip`, or "
                "`data.preprocess=release`"
            ),
        ),
        (
            dict(data__stored_views=2, model__visual_prompts=4, model__visual_depth=1),
            (
                "data.stored_views=2: frame features change while 4 visual prompts are learnt; set "
                "`data.stored_views=0`"
            ),
        ),
        (dict(optimizer__lr=-1e-3), "optimizer.lr: -0.001"),
        (dict(optimizer__lr=float("nan")), "optimizer.lr: nan, expected a finite number"),
        (dict(optimizer__epochs=0), "optimizer.epochs: 0"),
        (dict(augment__flip=2.0), "augment.flip=2.0"),
        (dict(augment="none"), "augment: 'none', expected a group of fields"),
        (dict(evaluate__spatial_views=2), "evaluate.spatial_views: 2, expected one of 1, 3"),
        (dict(evaluate__temporal_views=0), "evaluate.temporal_views: 0"),
        (dict(checkpoint__keep=0), "checkpoint.keep: 0"),
        (dict(optimizer__learning_rate=1.0), "unknown config field optimizer.learning_rate"),
        (dict(protocol="base_to_novel"), "data.evaluate: splits ['val'], expected base and novel"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nonsense_is_refused_by_name(change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        RunConfig.from_dict(_with(**change))


def test_a_missing_field_without_a_default_is_named():
    fields = _with()
    del fields["log_every"], fields["optimizer"]
    with pytest.raises(UserError, match="config: fields log_every, optimizer are missing"):
        RunConfig.from_dict(fields)


def test_fields_that_came_later_have_the_default_that_older_runs_ran_with():
    fields = _with()
    del fields["model"]["confidence"], fields["model"]["templates"], fields["model"]["ties"]
    del fields["model"]["votes"]
    del fields["data"]["stored_views"], fields["evaluate"]["store_features"]
    del fields["data"]["preprocess"], fields["data"]["features"]
    del fields["clip"]["activation"], fields["clip"]["head_width"]
    old = RunConfig.from_saved(fields)
    assert (old.model.confidence, old.model.templates, old.data.stored_views) == ("softmax", (), 0)
    assert old.data.preprocess == "release"
    # not the default: it is what they learnt with
    assert FIELDS["model"]["ties"] == "frames"
    assert old == RunConfig.from_dict(_with(model__ties="release"))
    # noted in their tables and exported files before these fields were there
    flat = flatten(fields)
    # its name then
    flat["optimizer.accumulation"] = flat.pop("optimizer.gradient_accumulation_steps")
    free = [key for key in flat if any(key.startswith(name) for name in FREE_ON_RESUME)]
    scores = ("optimizer.epochs", "evaluate.temporal_views", "evaluate.spatial_views")
    kept = {key: value for key, value in old_json(flat).items() if key not in free or key in scores}
    assert (
        old.fingerprint
        == hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
    )
    bare = dict(model__text_prompts=0, model__text_depth=0)
    changed = (
        {}, dict(model__confidence="uniform"), bare, bare | dict(model__templates=("a {}",)),
        dict(data__stored_views=1), dict(data__stored_views=2), dict(clip__activation="gelu"),
        dict(clip__head_width=8),
    )  # fmt: skip
    assert (
        len(
            {
                old.fingerprint,
                *(RunConfig.from_dict(_with(**change)).fingerprint for change in changed),
            }
        )
        == 9
    )


def _of_earlier_versions(accumulation=4, microbatches=1):
    """FIELDS as earlier versions saved them."""
    fields = copy.deepcopy(FIELDS)
    del fields["optimizer"]["gradient_accumulation_steps"]
    fields["optimizer"]["accumulation"] = accumulation
    fields["memory"]["microbatches"] = microbatches
    return fields


def test_what_earlier_versions_saved_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(_of_earlier_versions()))
    now = RunConfig.from_dict(_with(optimizer__gradient_accumulation_steps=4))
    assert read_config(tmp_path) == now
    assert not read_config(tmp_path).differences(now)
    save_config(tmp_path, now)
    assert "accumulation" not in json.loads((tmp_path / "config.json").read_text())["optimizer"]


@pytest.mark.parametrize("parts", [2, 0, "1", None])
def test_microbatches_of_earlier_versions_are_refused(tmp_path, parts):
    (tmp_path / "config.json").write_text(json.dumps(_of_earlier_versions(microbatches=parts)))
    with pytest.raises(
        UserError, match=r"config\.json: memory\.microbatches: .*set it to 1 here"
    ) as message:
        read_config(tmp_path)
    assert "optimizer.gradient_accumulation_steps" in str(message.value)


@pytest.mark.parametrize(
    "name, instead",
    [
        ("optimizer.accumulation", "optimizer.gradient_accumulation_steps"),
        ("memory.microbatches", "data.batch_size"),
    ],
)
def test_fields_of_earlier_versions_are_not_set(name, instead):
    with pytest.raises(UserError, match=rf"{name}: .* set .*{instead}"):
        RunConfig.from_dict(_with(**{name.replace(".", "__"): 1}))
    with pytest.raises(UserError, match=rf"{name}: .* set .*{instead}"):
        RunConfig.from_dict(FIELDS).with_changes({name: 1})


def old_json(flat):
    return json.loads(json.dumps(flat))


def test_templates_are_texts_not_a_path():
    run = RunConfig.from_dict(_with(model__text_prompts=0, model__templates=["a {}", "the {}."]))
    assert run.model.templates == ("a {}", "the {}.")
    assert run.to_dict()["model"]["templates"] == ["a {}", "the {}."]
    assert RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_templates_are_not_for_what_a_run_learnt():
    learnt = RunConfig.from_dict(FIELDS)
    other = RunConfig.from_dict(
        _with(name="other", model__text_prompts=0, model__templates=("a {}", "{}"))
    )
    with pytest.raises(UserError, match="config other: its 2 templates are for zero-shot CLIP"):
        learnt.on_other_videos(other, {})
    with pytest.raises(UserError, match="learnt tokens take the place of templates"):
        learnt.on_other_videos(other, {"model.templates": ("a {}", "{}")})
    visual = RunConfig.from_dict(_with(model__text_prompts=0))
    assert visual.on_other_videos(other, {"model.templates": ("a {}", "{}")}).model.templates == (
        "a {}",
        "{}",
    )
    assert learnt.on_other_videos(learnt, {}).model == learnt.model


def test_unknown_field_names_the_closest():
    known = flatten(FIELDS)
    assert unknown_field("optimizer.lrr", known).startswith(
        "unknown config field optimizer.lrr: did you mean optimizer.lr"
    )
    assert "optimizer.lr" in unknown_field("lr", known)
    assert "expected one of" in unknown_field("qqqqqq", ["seed", "name"])


def test_what_a_continuation_may_change():
    run = RunConfig.from_dict(FIELDS)
    free = _with(
        clip__path="elsewhere.pt",
        data__data_dir="elsewhere",
        optimizer__epochs=50,
        evaluate__every_epochs=1,
        checkpoint__keep=5,
        log_every=1,
        data__evaluate={"val": "other"},
    )
    assert run.differences(RunConfig.from_dict(free)) == []
    other = RunConfig.from_dict(_with(optimizer__lr=1.0, data__frames=4))
    assert run.differences(other) == ["data.frames: 8 -> 4", "optimizer.lr: 0.002 -> 1.0"]


def test_the_fingerprint_changes_with_what_changes_results():
    run = RunConfig.from_dict(FIELDS).fingerprint
    assert re.fullmatch("[0-9a-f]{16}", run)
    assert run == RunConfig.from_dict(_with(data__data_dir="elsewhere", log_every=3)).fingerprint
    for change in (
        dict(seed=1),
        dict(evaluate__temporal_views=2),
        dict(optimizer__epochs=3),
        dict(model__top_n=2),
    ):
        assert RunConfig.from_dict(_with(**change)).fingerprint != run
