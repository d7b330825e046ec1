"""Model and records of a config, and class names that would make numbers meaningless."""

import pytest

from support import small_run
from vtd_jax.errors import UserError
from vtd_jax.train import from_config
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
