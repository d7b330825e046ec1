"""A served folder's files form a whole: each is compared with the others and with what was
written.
"""

import json
import shutil

import numpy as np
import pytest
from flax import nnx

from support.helpers import random_state, served_example
from support.small_model import NONE
from support.small_run import SMALL
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.serve import write_served

LABELS = ("red", "a green thing", "grüne Wiese")
# bytes of a path that are no UTF-8, what JSON writes otherwise, and keys that become texts
ORIGIN = {"path": "caf\udce9\x1b", 5: (1, 2.5), "10": None, "é": "\U0001f600"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three labels, two frames of 32 pixels."""
    path = tmp_path_factory.mktemp("served") / "small.served"
    model = VTDCLIP(
        clip_from_state(SMALL, random_state(SMALL)), ModelConfig(**NONE), rngs=nnx.Rngs(0)
    )
    write_served(path, model, LABELS, 2, platforms=("cpu",), about=ORIGIN)
    return path


def reversed_labels(about):
    about["labels"] = about["labels"][::-1]


@pytest.mark.parametrize(
    "change, message",
    [
        (reversed_labels, "about.json is damaged"),
        (lambda about: about["preprocessing"].update(squash=True), "about.json is damaged"),
        (lambda about: about.update(size=65535), "about.json is damaged"),
        # as of an earlier version, which wrote no digest of it
        (
            lambda about: about.update(size=65535, about_sha256=None),
            "about.json is of another program",
        ),
        (
            lambda about: about.update(size=64, about_sha256=None),
            "about.json is of another program",
        ),
        (
            lambda about: about.update(frames=5, about_sha256=None),
            "about.json is of another program",
        ),
        (
            lambda about: about.update(labels=["a"], about_sha256=None),
            "about.json is of another program",
        ),
        (
            lambda about: about.update(weights_sha256="0" * 64, about_sha256=None),
            "weights.npz is damaged",
        ),
    ],
)
def test_about_is_held_against_itself_and_the_program(change, message, folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "changed.served")
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    change(about)
    (place / "about.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        served_example(place).Served(place)


def test_weights_of_another_export_are_reported(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "mixed.served")
    with np.load(place / "weights.npz") as weights:
        changed = dict(weights)
    changed["codebook"] = changed["codebook"][::-1]
    np.savez(place / "weights.npz", **changed)
    with pytest.raises(ValueError, match=r"weights\.npz is damaged or of another program"):
        served_example(place).Served(place)


def test_about_of_any_origin_and_of_an_earlier_version_is_read(folder, tmp_path):
    origin = served_example(folder).Served(folder).about["origin"]
    assert (origin["path"], origin["5"], origin["é"]) == (ORIGIN["path"], [1, 2.5], ORIGIN["é"])
    place = shutil.copytree(folder, tmp_path / "old.served")
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    del about["about_sha256"]
    (place / "about.json").write_text(json.dumps(about), encoding="utf-8")
    assert served_example(place).Served(place).labels == list(LABELS)
