"""Settings that a file of a stranger may hold: every field has a type and an end, and is named
where it has not.
"""

import dataclasses
import json
import os
import struct

import pytest

from experiments.common import config_flag
from experiments.configs import video_folder
from experiments.parity import golden
from support import small_run
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.fields import flatten
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.saved import tuned
from vtd_jax.train.config import RunConfig
from vtd_jax.train.workdir import read_config

FIELDS = video_folder.get_config().to_dict()
NAMES = list(flatten(FIELDS))
# what is none of these types, or beyond any machine
WRONG = (
    None,
    10**300,
    -(10**18),
    1e308,
    "a\0b",
    "x" * 5000,
    [],
    [["a"]],
    {"a": {"b": 1}},
    {"": "x"},
    [1] * 500,
)
TEXTS = (
    b"",
    b"[" * 100_000,
    b"9" * 5000,
    b"[]",
    b"5",
    b'{"name": NaN}',
    b"\xff\xfe{\0}\0",
    b'{"name": "x"',
    b"\0" * 9,
)


def _changed(name, value):
    fields = json.loads(json.dumps(FIELDS))
    *groups, last = name.split(".")
    group = fields
    for key in groups:
        group = group[key]
    group[last] = value
    return fields


@pytest.mark.parametrize(
    "name", [*NAMES, "clip", "model", "data", "data.evaluate", "augment", "model.templates"]
)
def test_every_field_of_a_run(tmp_path, name):
    path = tmp_path / "config.json"
    for value in WRONG:
        if name in ("clip", "model", "augment") and isinstance(value, dict):
            # a group with unknown fields, which are named
            continue
        if name == "model.templates" and value == []:
            continue
        path.write_text(json.dumps(_changed(name, value)))
        with pytest.raises(UserError) as caught:
            read_config(tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), value
        assert name.removeprefix("data.") in message or name.partition(".")[0] in message, (
            value,
            message,
        )
        assert len(message) < 1500


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.frames": 10**9}, "data.frames: 1000000000, expected at most 4,096"),
        (
            {"model.text_prompts": 10**9},
            "model.text_prompts: 1000000000, expected a whole number from 0 to 1,000",
        ),
        ({"clip.path": 5}, "clip.path: 5, expected str"),
        ({"clip.dtype": "int8"}, "clip.dtype: 'int8', expected one of float32, bfloat16"),
        (
            {"data.batch_size": 10**6},
            "data.batch_size=1000000 with data.frames=8: 8,000,000 frames a batch",
        ),
        ({"evaluate.batch_size": 10**6}, "evaluate.batch_size=1000000 with data.frames=8"),
        ({"name": "../../evil"}, "name: '../../evil', expected a name without slashes"),
        (
            {"data.evaluate": {"../x": "list"}},
            "data.evaluate: '../x', expected a name without slashes",
        ),
        ({"data.evaluate": {"val": 5}}, "data.evaluate.val: 5, expected str"),
        (
            {"data.evaluate": {f"s{i}": "x" for i in range(2000)}},
            "data.evaluate: 2,000 fields, expected at most 1,000",
        ),
        (
            {"model.visual_prompts": 10_000, "model.visual_depth": 1000},
            "10,000,000 tokens, expected at most 100,000",
        ),
        (
            {"model.temperature": 10**300},
            "model.temperature: 1e+300, expected more than 0, at most 1e6",
        ),
        ({"augment.scales": [0.5] * 101}, "augment.scales: 101 numbers, expected at most 100"),
        ({"optimizer.epochs": 10**18}, "optimizer.epochs: 1000000000000000000, expected at most"),
        ({"seed": 2**63}, "seed: 9223372036854775808, expected at most"),
        (
            {"model.text_prompts": 0, "model.templates": ["{}" + "x" * 2000]},
            "has 2,002 characters, expected at most",
        ),
    ],
)
def test_what_no_machine_has(changes, message):
    fields = FIELDS
    for name, value in changes.items():
        fields = {**fields, **{key: value for key in [name] if "." not in name}}
        if "." in name:
            group, last = name.split(".")
            fields = {**fields, group: {**fields[group], last: value}}
    with pytest.raises(UserError) as caught:
        RunConfig.from_dict(fields)
    assert message in str(caught.value)


def test_generous_settings_are_taken():
    changes = {
        "data.frames": 256,
        "data.batch_size": 4096,
        "optimizer.epochs": 100_000,
        "evaluate.temporal_views": 100,
    }
    RunConfig.from_dict(FIELDS).with_changes(changes)
    ModelConfig(text_prompts=64, text_depth=48, visual_prompts=500, visual_depth=48)


def test_texts_that_are_no_config(tmp_path):
    path = tmp_path / "config.json"
    for text in TEXTS:
        path.write_bytes(text)
        for read in (lambda: read_config(tmp_path), lambda: config_flag.read_json(path)):
            with pytest.raises(UserError) as caught:
                read()
            assert str(caught.value).startswith(f"{path}: ")
    # a byte-order mark is what some editors write
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(FIELDS).encode())
    assert read_config(tmp_path) == RunConfig.from_dict(FIELDS)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="a pipe, expected a config of a run"):
        read_config(tmp_path)


def _tuned(path, fields):
    """A file without arrays that says this of itself."""
    text = fields if isinstance(fields, str) else json.dumps(fields)
    header = json.dumps({"__metadata__": {tuned.METADATA_KEY: text}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


@pytest.fixture
def about(tmp_path):
    config = small_run.run_config(tmp_path)
    clip = tuned.ClipReference("ViT", "abc", 32, "float32", "tiny")
    info = tuned.TunedInfo(
        config.model, clip, 8, ("a", "b"), "run", "f", 3, {"origin": "own"}, config.to_dict()
    )  # fmt: skip
    return {"format": tuned.FORMAT, **json.loads(json.dumps(dataclasses.asdict(info)))}


@pytest.mark.slow
def test_every_field_of_an_exported_model(tmp_path, about):
    path = _tuned(tmp_path / "x.safetensors", about)
    assert tuned.read_tuned(path).frames == 8
    names = [
        *about,
        *(f"clip.{name}" for name in about["clip"]),
        *(f"model.{name}" for name in about["model"]),
    ]
    for name in names:
        *group, last = name.split(".")
        for value in WRONG:
            fields = json.loads(json.dumps(about))
            (fields[group[0]] if group else fields)[last] = value
            if (name == "step" and value is None) or (
                name in ("class_names", "model.templates") and value == []
            ):
                continue
            if isinstance(value, dict) and (
                name == "settings" or (name == "learnt_on" and value == {"": "x"})
            ):
                continue
            with pytest.raises(UserError) as caught:
                tuned.read_tuned(_tuned(path, fields))
            assert str(path) in str(caught.value), (name, value)
            assert last in str(caught.value), (name, value)
    for text in TEXTS[:-1]:
        with pytest.raises(UserError) as caught:
            tuned.read_tuned(_tuned(path, text.decode(errors="replace")))
        assert str(path) in str(caught.value)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="a pipe, expected a safetensors file"):
        tuned.read_tuned(path)


def test_settings_of_an_exported_model_name_the_file(tmp_path, about):
    path = _tuned(
        tmp_path / "x.safetensors", about | {"settings": {**about["settings"], "seed": -1}}
    )
    with pytest.raises(
        UserError, match=r"x\.safetensors: its settings: seed: -1, expected 0 or more"
    ):
        config_flag.read_json(path)


def test_prompts_that_the_file_does_not_hold(tmp_path, about):
    path = _tuned(tmp_path / "x.safetensors", about)
    with pytest.raises(
        UserError, match=r"x\.safetensors: damaged: model\.text_prompts=1000 .* the file holds 0"
    ):
        tuned._check_prompts(
            ModelConfig(text_prompts=1000, text_depth=100), CLIPConfig.vit_b16(), path
        )


@pytest.mark.parametrize(
    "field", [*golden._WHOLE, *golden._NUMBERS, "prompt_model", "zs_eval", "classes"]
)
def test_every_field_of_a_golden_case(tmp_path, field):
    case = dict.fromkeys(golden._WHOLE, 1) | dict.fromkeys(golden._NUMBERS, 0.5)
    case |= {"prompt_model": True, "zs_eval": False, "classes": ["a"]}
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    assert golden.read_case(path) == {"name": "case"} | case
    for value in WRONG:
        path.write_text(json.dumps(case | {field: value}))
        with pytest.raises(UserError) as caught:
            golden.read_case(path)
        assert str(caught.value).startswith(f"{path}: case field '{field}'"), value


def test_texts_that_are_no_golden_case(tmp_path):
    for text in TEXTS:
        for path in (tmp_path / "case.json", tmp_path / "case.npz"):
            path.write_bytes(text)
            with pytest.raises(UserError) as caught:
                golden.read_case(path)
            assert str(caught.value).startswith(str(path))
