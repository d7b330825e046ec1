"""Rendered scenes of a table: nothing of others is written over, and earlier ones are known."""

import json
import os
from dataclasses import asdict, replace

import pytest

from experiments.reproduce import sources
from vtd_jax.errors import UserError
from vtd_jax.scenes.benchmark import SceneBenchmark

DEEP = "[" * 100_000


def test_scenes_write_over_no_videos_of_others(tmp_path):
    made, folder = SceneBenchmark(classes=4, pool=16), tmp_path / "scenes"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "holiday.mp4").write_text("mine")
    with pytest.raises(UserError, match=r"scenes/videos: exists and is not a rendered data set"):
        sources._claim(made, folder)
    for text in ("", DEEP, "3"):
        (folder / "scenes.json").write_text(text)
        for act in (sources._claim, sources._is_whole):
            with pytest.raises(
                UserError, match=r"scenes\.json: .*; remove .*scenes to render again"
            ):
                act(made, folder)
    assert (folder / "videos" / "holiday.mp4").read_text() == "mine"
    # what we rendered with other settings goes
    (folder / "scenes.json").write_text('{"seed": 9}')
    sources._claim(made, folder)
    assert not (folder / "videos").exists()
    assert not sources._is_whole(made, folder)


@pytest.mark.parametrize("part", ["videos", "records"])
@pytest.mark.parametrize("settings", ["", '{"seed": 9}'])
def test_scenes_are_not_rendered_through_a_link(settings, part, tmp_path):
    made, folder, disk = SceneBenchmark(classes=4, pool=16), tmp_path / "scenes", tmp_path / "disk"
    folder.mkdir()
    disk.mkdir()
    (disk / "old.mp4").write_text("of other settings")
    (folder / part).symlink_to(disk)
    (folder / "scenes.json").write_text(settings or json.dumps(asdict(made)))
    before = (folder / "scenes.json").read_text()
    with pytest.raises(UserError, match=rf"scenes/{part}: .*link"):
        sources._claim(made, folder)
    assert (folder / "scenes.json").read_text() == before
    assert os.listdir(disk) == ["old.mp4"]


def test_scenes_are_ours_once_the_old_ones_are_gone(tmp_path, monkeypatch):
    made, folder = SceneBenchmark(classes=4, pool=16), tmp_path / "scenes"
    folder.mkdir()
    (folder / "scenes.json").write_text('{"seed": 9}')
    os.mkfifo(folder / "videos")
    sources._claim(made, folder)
    assert os.listdir(folder) == ["scenes.json"]

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "records").mkdir()
    (folder / "scenes.json").write_text('{"seed": 9}')
    monkeypatch.setattr(sources, "remove_tree", refuse)
    with pytest.raises(PermissionError):
        sources._claim(made, folder)
    assert (folder / "scenes.json").read_text() == '{"seed": 9}'


def test_scenes_of_an_earlier_version_are_ours(tmp_path):
    made, folder = SceneBenchmark(classes=4, pool=16), tmp_path / "scenes"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "a.mp4").write_text("rendered")
    # version 0.1.0 noted the settings alone
    (folder / "scenes.json").write_text(json.dumps(asdict(made), indent=2) + "\n")
    sources._claim(made, folder)
    assert (folder / "videos" / "a.mp4").exists()
    assert not sources._is_whole(made, folder)
    sources._claim(replace(made, seed=9), folder)
    assert not (folder / "videos").exists()
