"""The lines of Python, run as they are, give the numbers of the page."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from app.conftest import TOKEN, Client
from flax import nnx

import vtd_jax
from support import small_run
from support.helpers import random_state
from support.small_model import LABELS, WORDS
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.clip.weights.checkpoints import load_clip, save_clip
from vtd_jax.model.saved.tuned import save_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import describe

CLOSE = dict(rtol=1e-5, atol=2e-5)
NASTY = ("it's", 'a "b"', "back\\slash", "\u202eevil", "綱引き", "x" * 100)
EDITS = {
    "as it is": {},
    "temperature and frames": {"temperature": 0.37, "frames": 7},
    "vocabulary": {"vocabulary": [*WORDS, *NASTY]},
    "timeline": {"window": 0.8, "threshold": 0.2},
    "timeline, warmer": {"window": 0.7, "stride": 0.35, "temperature": 0.5, "frames": 3},
    "timeline, vocabulary": {"window": 0.8, "vocabulary": list(WORDS)},
}
# source, and arguments of `load`
MODELS = {
    "plain": (
        "clip.safetensors",
        {"activation": "quick_gelu", "pooling": "mean", "head_width": None},
    ),
    "templates": ("clip.safetensors", {"templates": ("a {}", "one {}, seen"), "pooling": None}),
    "release": ("clip.safetensors", {"preprocess": "release", "dtype": "float32"}),
    "tuned": ("tuned.safetensors", {"clip": "moved.safetensors", "checkpoint": "last"}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a CLIP, a tuned file, and its CLIP, which has moved."""
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip.safetensors", small_run.SMALL, random_state(small_run.SMALL))
    config = RunConfig.from_dict(small_run.config(folder).to_dict())
    model = VTDCLIP(load_clip(folder / "clip.safetensors"), config.model, rngs=nnx.Rngs(3))
    about = describe(model, config, step=12, class_names=("red", "shoot_bow"), learnt_on={})
    save_tuned(folder / "tuned.safetensors", model, about)
    (folder / "moved.safetensors").write_bytes((folder / "clip.safetensors").read_bytes())
    return folder


@contextlib.contextmanager
def served(source: str, settings, folder: Path, **more) -> Iterator[Client]:
    """The page of a model that was loaded as the command loads it."""
    loaded = {name: value for name, value in settings.items() if name != "templates"}
    model = vtd_jax.load(source, **settings)
    with Service(model, folder, loaded=loaded, **more) as service:

        async def app():
            return guarded(Routes(service), TOKEN)

        yield Client(asyncio.run(app()))


def ran(lines: str) -> dict:
    scope: dict = {}
    exec(compile(lines, "lines", "exec"), scope)
    return scope


def check_same(told, seen, name: str) -> None:
    if "windows" in told:
        expected = seen.to_dict()
        assert [one["word"] for one in told["windows"]] == [
            one["word"] for one in expected["windows"]
        ]
        assert (told["window"], told["stride"], told["threshold"]) == (
            expected["window"],
            expected["stride"],
            expected["threshold"],
        )
        for mine, theirs in zip(told["windows"], expected["windows"], strict=True):
            found, wanted = ([one["score"] for one in w["top"]] for w in (mine, theirs))
            np.testing.assert_allclose(found, wanted, **CLOSE, err_msg=name)
        assert len(told["segments"]) == len(expected["segments"])
        return
    np.testing.assert_allclose(told["scores"], seen.scores, **CLOSE, err_msg=name)
    own = seen.confidence[:, told["order"]]
    np.testing.assert_allclose(told["confidence"], own, **CLOSE, err_msg=name)
    words = [[word for word, _ in one["words"]] for one in told["frames"]]
    assert words == [list(row) for row in seen.words]


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_the_lines_give_the_numbers_of_the_page(kind, models, clips, monkeypatch, capsys):
    monkeypatch.chdir(models)
    (name, settings), beside = MODELS[kind], kind == "tuned"
    # the folder is where the command was started
    (models / kind).symlink_to(clips)
    with served(name, settings, Path(kind)) as client:
        video = next(v for v in client("GET", "/videos").json["videos"] if v["name"] == "b.mp4")
        for what, edit in EDITS.items():
            asked = {"video": video["id"], "labels": list(LABELS), "frames": 4, "beside": beside}
            asked |= edit
            encode = {key: asked[key] for key in ("frames", "beside", "window") if key in asked}
            assert client.encoded(video["id"], **encode)[0] == "done"
            lines = client("POST", "/python", asked).body.decode()
            told = client("POST", "/answer", asked).json
            scope = ran(lines)
            check_same(told["model"], scope["seen"], what)
            if beside:
                check_same(told["beside"], scope["seen_beside"], what)
            assert max(map(len, lines.splitlines())) < 130


def test_what_the_command_was_given_is_in_the_lines(client, ids):
    asked = {"video": ids["b.mp4"], "labels": ["a"], "frames": 4}
    lines = client("POST", "/python", asked).body.decode()
    assert lines.startswith("import vtd_jax\n\nmodel = vtd_jax.load('small.safetensors')\n")
    assert "None" not in lines
    # a long path breaks the line
    assert re.search(r"/b.mp4',\s+labels,\s+frames=4,?\s*\)", lines)


def test_labels_are_texts_of_a_program(client, ids):
    labels = [*NASTY, "'); import os #", "\n", "\\"]
    asked = {"video": ids["b.mp4"], "labels": labels, "frames": 4}
    lines = client("POST", "/python", asked).body.decode()
    assert eval(lines.split("labels = ")[1].split("\nseen")[0]) == labels
    assert "\u202e" not in lines


def test_an_upload_is_named_as_it_was_called_and_strangers_see_no_folder(predictor, clips):
    for public in (False, True):
        with Service(predictor, clips, public=public) as service:

            async def app(service=service):
                return guarded(Routes(service), TOKEN)

            client = Client(asyncio.run(app()))
            upload = client.uploaded(clips / "a.mp4").json["id"]
            folder = client("GET", "/videos").json["videos"][0]["id"]
            for video, name in ((upload, "a.mp4"), (folder, str(clips / "a.mp4"))):
                asked = {"video": video, "labels": ["a"], "frames": 4}
                lines = client("POST", "/python", asked).body.decode()
                shown = "a.mp4" if public else name
                assert f"model.explain({shown!r}, labels, frames=4)" in lines or (
                    f"    {shown!r},\n" in lines
                )
