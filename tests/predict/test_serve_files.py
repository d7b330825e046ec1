"""A served folder on disk: damage is reported, and only an earlier one is replaced."""

import json
import shutil

import numpy as np
import pytest

from support.helpers import served_example
from support.small_model import LEARNT, served_model
from support.small_run import SMALL
from vtd_jax.errors import UserError
from vtd_jax.predict import serve
from vtd_jax.predict.serve import write_served

LABELS = ("red", "a green thing", "grüne Wiese")


@pytest.fixture(scope="module")
def model():
    return served_model(**LEARNT, fusion=True, top_n=2)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Prompts of both towers, fusion of two tokens, for all platforms."""
    folder = tmp_path_factory.mktemp("served") / "new" / "small.served"
    write_served(folder, model, LABELS, 2, about={"source": "a test", "step": 7})
    return folder


def test_damage_is_reported(folder, tmp_path):
    for name in ("weights.npz", "program.jaxexport"):
        place = shutil.copytree(folder, tmp_path / name)
        data = (place / name).read_bytes()
        (place / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=f"{name} is damaged, copy it again"):
            served_example(place).Served(place)


def test_an_earlier_folder_is_replaced_and_nothing_else_is(model, folder, tmp_path, monkeypatch):
    # what is refused is refused before anything is computed
    monkeypatch.setattr(serve, "export_program", None)
    own, other, file = tmp_path / "own.served", tmp_path / "other.served", tmp_path / "file.served"
    shutil.copytree(folder, own)
    (own / "notes.txt").touch()
    other.mkdir()
    file.touch()
    for path, message in (
        (tmp_path / "x.zip", r"must end in \.served"),
        (own, r"other files .*notes\.txt"),
        (other, "not a served model"),
        (file, "not a served model"),
    ):
        with pytest.raises(UserError, match=f"^{path}: .*{message}"):
            write_served(path, model, LABELS, 2)


def test_a_failed_write_leaves_what_was_there(model, folder, tmp_path, monkeypatch):
    own = shutil.copytree(folder, tmp_path / "own.served")
    before = (own / "about.json").read_bytes()
    plain, code = served_model(), np.ones((1, SMALL.embed_dim), np.float32)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(serve.np, "savez", full)
        with pytest.raises(
            UserError, match=r"own\.served: cannot be written: No space left on device"
        ):
            write_served(own, plain, ("x",), 1, platforms=("cpu",), codebook=code)
    assert [path.name for path in tmp_path.iterdir()] == ["own.served"]
    assert (own / "about.json").read_bytes() == before
    write_served(own, plain, ("x",), 1, platforms=("cpu",), codebook=code)
    assert json.loads((own / "about.json").read_text())["labels"] == ["x"]
    with np.load(own / "weights.npz") as weights:
        np.testing.assert_array_equal(weights["codebook"], code)
    assert [path.name for path in tmp_path.iterdir()] == ["own.served"]


def test_refusals(model, tmp_path):
    path = tmp_path / "x.served"
    broken = served_model()
    broken.logit_scale[...] = np.float32(np.nan)
    for args, options, message in (
        ((model, (), 2), {}, "labels: an empty list"),
        ((model, ("a", " "), 2), {}, "labels: ' ' at place 1, expected a text that is not empty"),
        ((model, ("a", "b", "a"), 2), {}, "labels: 'a' is there twice"),
        ((model, LABELS, 0), {}, "frames=0: expected at least 1"),
        (
            (model, LABELS, 2),
            {"platforms": ("cpu", "gpu")},
            "platforms=cpu,gpu: expected one or more of cpu, cuda, tpu",
        ),
        ((model, LABELS, 2), {"platforms": ()}, "platforms=: expected one or more"),
        (
            (broken, LABELS, 2),
            {"codebook": np.ones((3, SMALL.embed_dim), np.float32)},
            "logit_scale has 1 values that are NaN or infinite",
        ),
    ):
        with pytest.raises(UserError) as caught:
            write_served(path, *args, **options)
        assert message in str(caught.value)
    assert not list(tmp_path.iterdir())
