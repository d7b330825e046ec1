"""What a missing folder of records says: the command that makes them, to be pasted."""

import re

import pytest

from experiments.common import runs
from experiments.common.spelling import flag_names
from experiments.configs import base_to_novel, scenes, video_folder, zero_shot
from vtd_jax.errors import UserError, named_by
from vtd_jax.train.config import RunConfig


def _said(config, tmp_path, monkeypatch, data_dir=""):
    """The message, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    made = RunConfig.from_dict(config.to_dict())
    if data_dir:
        made = made.with_changes({"data.data_dir": data_dir})
    with named_by(flag_names(["config"])), pytest.raises(UserError) as caught:
        runs.prepare(made)
    return str(caught.value)


@pytest.mark.parametrize(
    "config, data_dir, command",
    [
        (scenes.get_config(), "", "demo --seeds=100"),
        (
            scenes.get_config(),
            "mine",
            "demo --seeds=100, and give --config.data.data_dir=demo_output/seed100/records",
        ),
        (
            scenes.get_config("few_shot,shots=4"),
            "a b/scenes/records",
            "reproduce --table=few_shot --only=few_shot_scenes_4 --workdir='a b'",
        ),
        (
            scenes.get_config("few_shot,shots=4"),
            "",
            "reproduce --table=few_shot --only=few_shot_scenes_4 --workdir=runs/scenes, and give -",
        ),
        (
            base_to_novel.get_config("hmdb51,shots=16"),
            "",
            "build_data --dataset=hmdb51 --source=DOWNLOADED --data_dir=records",
        ),
        (
            base_to_novel.get_config("ssv2"),
            "else",
            "build_data --dataset=ssv2 --source=DOWNLOADED --data_dir=else",
        ),
        (zero_shot.get_config("kinetics600"), "", "build_data --source=VIDEOS --data_dir=records"),
        (video_folder.get_config(), "", "build_data --source=VIDEOS --data_dir=records"),
    ],
)
def test_missing_records_name_the_command_that_makes_them(
    tmp_path, monkeypatch, config, data_dir, command
):
    said = _said(config, tmp_path, monkeypatch, data_dir)
    folder = data_dir or config.data.data_dir
    assert said.startswith(f"{folder}: there is no such data folder in {tmp_path}; say where")
    assert re.search(rf"make records with python -m experiments\.{re.escape(command)}", said)


def test_a_folder_without_records_does_too(tmp_path, monkeypatch):
    (tmp_path / "records").mkdir()
    said = _said(video_folder.get_config(), tmp_path, monkeypatch)
    make = "python -m experiments.build_data --source=VIDEOS --data_dir=records"
    assert said == f"records: no records in this folder; make some with {make}"
