"""Results of an index as people look at them, and what videos it can be made of."""

import fsspec
import pytest

from support.small_model import LABELS
from support.video_files import make_video
from vtd_jax.predict.loading import load
from vtd_jax.retrieval import Index


def test_an_explanation_without_pictures_is_shown(tmp_path, made, plain):
    index = Index.build(tmp_path / "index", [made / "0.mp4"], plain)
    [shown] = index.classify(LABELS, runner_ups=1)
    assert shown.pictures.size == 0
    assert "<img" not in shown._repr_html_()
    assert shown.label in shown._repr_html_()
    assert shown.label in shown.save_html(tmp_path / "page.html").read_text()
    assert shown.plot().axes


@pytest.mark.slow
def test_a_model_that_was_loaded_is_found_again(tmp_path, made):
    Index.build(tmp_path / "index", [made / "0.mp4"], load("tiny"), frames=2)
    assert len(Index.open(tmp_path / "index").search("red ring", top=1)) == 1


def test_one_path_is_a_list_of_one(tmp_path, made, plain):
    assert len(Index.build(tmp_path / "text", str(made), plain)) == 7
    assert len(Index.build(tmp_path / "path", made, plain)) == 7


def test_copies_of_addresses_have_one_name_wherever_it_is_called(tmp_path, plain, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    make_video(tmp_path / "a.mp4", 9)
    system = fsspec.filesystem("memory")
    system.pipe_file("/b/c/1.mp4", (tmp_path / "a.mp4").read_bytes())
    try:
        for place in ("here", "there"):
            (tmp_path / place).mkdir()
            monkeypatch.chdir(tmp_path / place)
            index = Index.build(tmp_path / "index", ["memory://b/c"], plain)
            assert len(index) == 1
    finally:
        system.store.clear()
        system.pseudo_dirs[:] = [""]
    assert [one.clip.name for one in index] == ["memory://b/c/1.mp4"]
