"""What `import vtd_jax` offers: names found when they are used, with examples that run."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vtd_jax
from support.video_files import make_video
from vtd_jax.errors import UserError
from vtd_jax.predict.batching.options import How

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = sorted(set(vtd_jax.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds `clip.mp4`, which examples read."""
    made = tmp_path_factory.mktemp("examples")
    make_video(made / "clip.mp4", 25)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(vtd_jax, name), name, module=False, globs={})
    assert example.examples, f"{name} has no example"
    said = []
    failed, _ = doctest.DocTestRunner().run(example, out=said.append)
    assert not failed, "".join(said)


def test_names_are_found_when_they_are_used():
    code = (
        "import sys, vtd_jax; names = dir(vtd_jax); "
        "print([n for n in vtd_jax.__all__ if n not in names], 'jax' in sys.modules); "
        "from vtd_jax import *; print('jax' in sys.modules, load.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] False\nTrue load\n"


def test_dir_lists_public_names_only():
    assert dir(vtd_jax) == sorted(vtd_jax.__all__)


@pytest.mark.slow
def test_models_and_indexes_are_printed_in_a_few_words(folder, tmp_path):
    model = vtd_jax.load("tiny")
    assert repr(model) == "<Predictor: tiny, zero-shot; 16 frames>"
    index = vtd_jax.Index.build(tmp_path / "clips.index", folder / "clip.mp4", model, frames=4)
    assert repr(index) == f"<Index: {tmp_path / 'clips.index'}; 1 clip, 4 frames each>"


def test_the_help_of_predict_names_every_option():
    for option in How.__annotations__:
        assert f"`{option}=" in vtd_jax.Predictor.predict.__doc__


def test_type_checkers_see_what_is_looked_up():
    tree = ast.parse(Path(vtd_jax.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"vtd_jax.{where}" for name, where in vtd_jax._MODULES.items()}
    assert sorted(seen) == PUBLIC
    for name, module in seen.items():
        assert getattr(vtd_jax, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(AttributeError, match=r"no attribute 'laod'. Did you mean: 'load'\?$"):
        _ = vtd_jax.laod
    with pytest.raises(AttributeError, match=r"no attribute 'zzzzzz'$"):
        _ = vtd_jax.zzzzzz
    assert not hasattr(vtd_jax, "__wrapped__")


def test_every_architecture_has_a_config():
    for name in vtd_jax.list_architectures():
        assert vtd_jax.CLIPConfig.named(name).architecture == name
    assert {"ViT-B/16", "tiny"} <= set(vtd_jax.list_architectures(weights=True))


def test_a_video_is_read_whole_or_to_a_size(folder):
    path = folder / "clip.mp4"
    whole = vtd_jax.read_video(path, 3)
    assert whole.frames.shape == (3, 48, 64, 3)
    assert whole.total == 25
    assert "array" not in repr(whole).partition("indices")[0]
    scaled = vtd_jax.read_video(path, 3, size=24)
    released = vtd_jax.read_video(path, 3, size=24, preprocess="release")
    assert scaled.frames.shape == released.frames.shape == (3, 24, 24, 3)
    assert not np.array_equal(scaled.frames, released.frames)
    np.testing.assert_array_equal(scaled.indices, whole.indices)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(frames=0), "frames=0`: expected 1 or more"),
        (dict(size=0), "size=0`: expected pixels, 1 to 4096"),
        (dict(preprocess="clip"), "preprocess=clip: without size nothing is scaled"),
        (dict(size=8, preprocess="no"), "preprocess: 'no', expected one of release, clip"),
    ],
)
def test_a_wrong_option_of_a_video_is_one_line(folder, options, message):
    with pytest.raises(UserError, match=message):
        vtd_jax.read_video(folder / "clip.mp4", **options)
