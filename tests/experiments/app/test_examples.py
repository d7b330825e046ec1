"""What `vtd app` shows to who has neither weights nor videos."""

import pytest

import vtd_jax
from experiments.app.examples import LABELS, SCENES, examples


@pytest.mark.slow
def test_examples_show_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))
    folder = examples()
    assert folder == tmp_path / "app_examples"
    model = vtd_jax.load("tiny")
    for scene in SCENES[:2]:
        seen = model.explain(folder / f"{scene}.mp4", LABELS)
        assert (seen.label, len({words[0] for words in seen.words}) > 1) == (scene, True)
    found = model.timeline(folder / "three scenes.mp4", LABELS, window=2.0, frames=4)
    shown = dict.fromkeys(segment.label for segment in found.segments if segment.score > 0.8)
    assert [*shown] == [*SCENES]


def test_examples_are_rendered_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))
    folder = tmp_path / "app_examples"
    folder.mkdir()
    names = [f"{name}.mp4" for name in (*SCENES[:2], "three scenes")]
    for name in names:
        (folder / name).write_bytes(b"kept")
    assert examples() == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(
        names, b"kept"
    )


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "file"))
    assert examples() is None
    assert "no examples could be written" in capsys.readouterr().err
