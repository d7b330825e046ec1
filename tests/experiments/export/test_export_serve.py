"""`experiments.export --out=NAME.served`: of a tuned file, of a CLIP as it is, of a config that
learns nothing.
"""

import json

import numpy as np
import pytest

from experiments.export import source as _serve
from support import small_run
from support.helpers import random_state
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.errors import UserError
from vtd_jax.model.saved.tuned import save_tuned
from vtd_jax.predict.serve import encode_labels, served_program
from vtd_jax.train import from_config
from vtd_jax.train.learnt import describe

pytestmark = pytest.mark.command

LIST = {"origin": "given", "told": "base_train (given list; 10 videos)"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of random weights as a file."""
    folder = tmp_path_factory.mktemp("export_serve")
    save_clip(folder / "clip.safetensors", small_run.SMALL, random_state(small_run.SMALL))
    return folder


@pytest.fixture(scope="module")
def config(folder):
    """Text prompts only, which is quickest made."""
    return small_run.run_config(
        folder, model__visual_prompts=0, model__visual_depth=0, model__fusion=False
    )


@pytest.fixture(scope="module")
def model(config):
    return from_config.build_model(config)


@pytest.fixture(scope="module")
def tuned(folder, config, model):
    """A tuned file of it."""
    path = folder / "tuned.safetensors"
    save_tuned(
        path, model, describe(model, config, step=3, class_names=small_run.BASE, learnt_on=LIST)
    )
    return path


def test_a_tuned_file_is_served_with_the_names_it_learnt(tuned, config, model, tmp_path):
    out = tmp_path / "new" / "small.served"
    done = small_run.command(
        "export", f"--checkpoint={tuned}", f"--out={out}", "--platforms=cpu,tpu"
    )
    assert (done.returncode, done.stderr) == (0, "")
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    assert done.stdout.splitlines()[-1] == (
        f"wrote {out}: {tuned} (step 3 of small, config {config.fingerprint}), 3 labels, 2 frames "
        f"of 32×32, preprocess=release, for cpu, tpu, {size:.1f} MB; try it: python "
        f"{out}/predict.py VIDEO"
    )
    about = json.loads((out / "about.json").read_text())
    assert (about["labels"], about["frames"], about["platforms"]) == (
        list(small_run.BASE),
        2,
        ["cpu", "tpu"],
    )
    origin = about["origin"]
    assert (origin["run"], origin["settings"], origin["step"]) == ("small", config.fingerprint, 3)
    assert origin["learnt_on"] == LIST
    expected = served_program(model)[1] | {"codebook": encode_labels(model, small_run.BASE)}
    with np.load(out / "weights.npz") as weights:
        assert set(weights.files) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(
                weights[name], array, rtol=1e-5, atol=1e-5 * (name == "codebook"), err_msg=name
            )


def test_where_a_model_comes_from(folder, tuned, config, tmp_path):
    clip = folder / "clip.safetensors"
    sources = [
        "tiny",
        clip,
        folder,
        "ViT-B-16.pt",
        tuned,
        "last",
        "best",
        "12",
        "a.pth",
        "none.safetensors",
    ]
    assert [_serve.is_clip(str(source)) for source in sources] == [True] * 4 + [False] * 6

    found = _serve.zero_shot(str(clip), None, None)
    settings = found.model.config
    assert (settings.text_prompts, settings.fusion, settings.normalization, found.frames) == (
        0,
        False,
        "clip",
        16,
    )
    assert found.about["source"] == f"{clip}, zero-shot"
    assert found.model.preprocess == "clip"
    assert _serve.zero_shot(str(clip), None, None, "release").model.preprocess == "release"
    nothing = config.with_changes(
        {"data.train": "", "model.text_prompts": 0, "model.fusion": False}
    )
    message = _serve.zero_shot("last", None, nothing)
    assert (message.frames, message.about["source"], message.about["step"]) == (
        2,
        "zero-shot, small",
        None,
    )
    # a config has a preprocessing of its own
    assert message.model.preprocess == "release"
    assert _serve.zero_shot("last", None, nothing, "clip") is None
    assert message.about["clip_weights"] == found.about["clip_weights"]
    for others in ((str(tuned), None, config), ("last", "runs/x", nothing), ("last", None, config)):
        assert _serve.zero_shot(*others) is None, others
    with pytest.raises(
        UserError, match="tiny: is a CLIP, served as it is; leave --workdir and --config out"
    ):
        _serve.zero_shot("tiny", "runs/x", None)
    with pytest.raises(UserError, match="--labels is needed"):
        _serve.write(_serve.wanted(tmp_path / "x.served", None, None, ["cpu"]), found)


def test_labels_and_refusals(tmp_path):
    out, listed, empty = tmp_path / "x.served", tmp_path / "names.txt", tmp_path / "empty.txt"
    listed.write_text("\ufeffarm wrestling\n\n  grüne Wiese \n", encoding="utf-8")
    empty.write_text("\n")
    assert _serve.wanted(out, str(listed), None, ["cpu"]).labels == ("arm wrestling", "grüne Wiese")
    assert _serve.wanted(out, "hugging, arm wrestling", 4, ["tpu"]) == (
        out,
        ("hugging", "arm wrestling"),
        4,
        ("tpu",),
    )
    for labels, frames, platforms, message in (
        (str(tmp_path / "none.txt"), None, ["cpu"], "none.txt: there is no such file"),
        (str(empty), None, ["cpu"], "empty.txt: no words in it"),
        ("a,a", None, ["cpu"], "--labels: entry 2: 'a' reads as 'a' of --labels: entry 1"),
        ("a", 0, ["cpu"], "frames=0: expected at least 1 frame a video"),
        ("a", 1, ["gpu"], "platforms=gpu: expected one or more of cpu, cuda, tpu, rocm, each once"),
    ):
        with pytest.raises(UserError) as caught:
            _serve.wanted(out, labels, frames, platforms)
        assert message in str(caught.value)
