"""What was learnt: which file, into which model, and on which names."""

from pathlib import Path

import numpy as np
import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.model.saved.fingerprint import weights_fingerprint
from vtd_jax.model.saved.release_files import save_release
from vtd_jax.model.saved.tuned import frozen, save_tuned
from vtd_jax.model.vtd_clip import learnable
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.checkpoints.stored_checkpoints import names_fingerprint
from vtd_jax.train.config import RunConfig
from vtd_jax.train.learnt import (
    Learnt,
    checkpoint_file,
    describe,
    learnt_names,
    load_file,
    load_learnt,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


def _config(folder, **changes) -> RunConfig:
    return RunConfig.from_dict(small_run.config(folder, **changes).to_dict())


def test_what_names_a_file():
    assert [checkpoint_file(which) for which in ("last", "best", "120", "bset")] == [None] * 4
    assert checkpoint_file("a/b.pth") == Path("a/b.pth")
    assert checkpoint_file("c.safetensors") == Path("c.safetensors")
    with pytest.raises(
        UserError,
        match=r"`checkpoint=x\.onnx`: expected last, best, a step, or a file: \.safetensors",
    ):
        checkpoint_file("x.onnx")
    with pytest.raises(UserError, match=r"a run's folder is `workdir`"):
        checkpoint_file("runs/mine")


@pytest.mark.slow
def test_parameters_from_files(folder, tmp_path):
    config = _config(folder)
    source, own, theirs = (
        from_config.build_model(config),
        tmp_path / "x.safetensors",
        tmp_path / "x.pth",
    )
    source.logit_scale.set_value(source.logit_scale[...] + 1)
    info = describe(
        source, config, step=4, class_names=small_run.BASE, learnt_on={"told": "a list"}
    )
    save_tuned(own, source, info)
    save_release(theirs, source)
    for path, expected in (
        (own, Learnt(f"{own} ({info.origin})", 4, small_run.BASE, {"told": "a list"})),
        (
            theirs,
            Learnt(
                f"{theirs} (the authors' format, without a CLIP to compare)",
                None,
                (),
                {"told": "not known, x.pth does not say"},
            ),
        ),
    ):
        model = from_config.build_model(config)
        assert load_file(model, path) == expected
        np.testing.assert_array_equal(model.logit_scale[...], source.logit_scale[...])
    own.write_bytes(own.read_bytes()[:99])
    with pytest.raises(UserError, match="truncated or damaged safetensors file of 99 bytes"):
        load_file(from_config.build_model(config), own)


def test_class_names_learnt_on(folder, tmp_path):
    config = _config(folder)
    model, checkpoints = from_config.build_model(config), Checkpoints(tmp_path)
    for step, names in ((1, small_run.BASE), (2, small_run.BASE[::-1])):
        progress = {"names": names_fingerprint(names), "clip": "0"}
        checkpoints.save(step, learnable(model), {"count": np.zeros(1)}, progress)
    checkpoints.close()
    assert learnt_names(config, tmp_path, 1) == small_run.BASE
    with pytest.raises(
        UserError,
        match=r"checkpoints/2: was learnt on other class names than data\.train=base_train",
    ):
        learnt_names(config, tmp_path, 2)
    with pytest.raises(UserError, match="was learnt on another CLIP"):
        load_learnt(model, tmp_path)


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "of a first version"])
def test_parameters_keep_the_frames_that_they_learnt_on(folder, tmp_path, noted):
    release = _config(folder, model__normalization="clip")
    clip = release.with_changes({"data.preprocess": "clip"})
    models = {c.data.preprocess: from_config.build_model(c) for c in (release, clip)}
    checkpoints = Checkpoints(tmp_path)
    for step, model in enumerate(models.values(), 1):
        about = {"names": "0", "clip": weights_fingerprint(frozen(model))}
        about |= {"clip_settings": model.clip_settings} if noted else {}
        checkpoints.save(step, learnable(model), {"count": np.zeros(1)}, about)
    checkpoints.close()
    assert load_learnt(models["release"], tmp_path, "1") == 1
    with pytest.raises(UserError, match="of preprocess=release, here it is clip; set `data"):
        load_learnt(models["clip"], tmp_path, "1")
    if noted:
        assert load_learnt(models["clip"], tmp_path, "2") == 2
        with pytest.raises(UserError, match="of preprocess=clip, here it is release; set `data"):
            load_learnt(models["release"], tmp_path, "2")
