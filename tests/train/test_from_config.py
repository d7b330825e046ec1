"""Model and records of a config, and class names that would make numbers meaningless."""

from pathlib import Path

import numpy as np
import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.model.saved.release_files import save_release
from vtd_jax.model.saved.tuned import describe, save_tuned
from vtd_jax.model.vtd_clip import learnable
from vtd_jax.train import from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints, names_fingerprint
from vtd_jax.train.config import RunConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


def _config(folder, **changes) -> RunConfig:
    return RunConfig.from_dict(small_run.config(folder, **changes).to_dict())


def test_model_and_records(folder):
    config = _config(folder)
    assert from_config.build_model(config).clip.config == small_run.SMALL
    training, splits = from_config.open_training(config), from_config.open_splits(config)
    from_config.check_splits(config, training, splits)
    assert (len(training), {name: len(split) for name, split in splits.items()}) == (
        10,
        {"base": 5, "novel": 3},
    )


def test_no_checkpoint_given(folder):
    with pytest.raises(
        UserError, match=r"clip\.path: empty; give a CLIP checkpoint with `clip\.path=FILE`"
    ):
        from_config.build_model(_config(folder, clip__path=""))


def test_a_checkpoint_of_another_architecture(folder):
    with pytest.raises(UserError, match=r"clip\.safetensors.* clip\.architecture is 'ViT-B/16'"):
        from_config.build_model(_config(folder, clip__architecture="ViT-B/16"))


def test_nothing_to_train(folder):
    with pytest.raises(UserError, match="small learns nothing; use `evaluate`"):
        from_config.open_training(_config(folder, data__train=""))


def test_records_that_are_not_there(folder):
    with pytest.raises(
        UserError, match="no list named 'other'; it holds base_train, base_val, novel_val"
    ):
        from_config.open_training(_config(folder, data__train="other"))


def test_novel_classes_must_be_new(folder):
    config = _config(folder, data__evaluate__novel="base_val")
    with pytest.raises(
        UserError,
        match=r"data\.evaluate\.novel=base_val: 3 of its classes are base classes too \(blue",
    ):
        from_config.check_splits(config, None, from_config.open_splits(config))


def test_base_classes_must_be_those_learnt(folder):
    config = _config(folder, data__evaluate__base="novel_val", data__evaluate__novel="base_val")
    with pytest.raises(
        UserError,
        match=r"data\.evaluate\.base=novel_val: its class names are not those of data\.train",
    ):
        from_config.check_splits(
            config, from_config.open_training(config), from_config.open_splits(config)
        )


def test_what_names_a_file():
    assert [from_config.checkpoint_file(which) for which in ("last", "best", "120", "bset")] == [
        None
    ] * 4
    assert from_config.checkpoint_file("a/b.pth") == Path("a/b.pth")
    assert from_config.checkpoint_file("c.safetensors") == Path("c.safetensors")
    with pytest.raises(
        UserError,
        match=r"`checkpoint=x\.onnx`: expected last, best, a step, or a file: \.safetensors",
    ):
        from_config.checkpoint_file("x.onnx")


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
        (own, from_config.Learnt(f"{own} ({info.told})", 4, small_run.BASE, {"told": "a list"})),
        (
            theirs,
            from_config.Learnt(
                f"{theirs} (the authors' format, without a CLIP to compare)",
                None,
                (),
                {"told": "not known, x.pth does not say"},
            ),
        ),
    ):
        model = from_config.build_model(config)
        assert from_config.load_file(model, path) == expected
        np.testing.assert_array_equal(model.logit_scale[...], source.logit_scale[...])
    own.write_bytes(own.read_bytes()[:99])
    with pytest.raises(UserError, match="truncated or damaged safetensors file of 99 bytes"):
        from_config.load_file(from_config.build_model(config), own)


def test_class_names_learnt_on(folder, tmp_path):
    config = _config(folder)
    model, checkpoints = from_config.build_model(config), Checkpoints(tmp_path)
    for step, names in ((1, small_run.BASE), (2, small_run.BASE[::-1])):
        progress = {"names": names_fingerprint(names), "clip": "0"}
        checkpoints.save(step, learnable(model), {"count": np.zeros(1)}, progress)
    checkpoints.close()
    assert from_config.learnt_names(config, tmp_path, 1) == small_run.BASE
    with pytest.raises(
        UserError,
        match=r"checkpoints/2: was learnt on other class names than data\.train=base_train",
    ):
        from_config.learnt_names(config, tmp_path, 2)
    with pytest.raises(UserError, match="was learnt on another CLIP"):
        from_config.load_learnt(model, tmp_path)
