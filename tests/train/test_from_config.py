"""Model and records of a config, and class names that would make numbers meaningless."""

import pytest

from support import small_run
from vtd_jax.clip.config import CLIPConfig
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


GIB = 2**30
B16 = CLIPConfig.vit_b16()
VIDEOS = {"data__batch_size": 8, "data__frames": 16, "model__visual_prompts": 16}


@pytest.mark.parametrize("platform, memory, changes, expected", [
    # a chip's own attention is computed again in any case
    ("tpu", 16 * GIB, {}, "dots"),
    ("tpu", 4 * GIB, {}, "block"),
    ("cuda", 80 * GIB, {}, "none"),
    ("cuda", 80 * GIB, {"data__batch_size": 64}, "dots"),
    ("cuda", 80 * GIB, {"data__batch_size": 256}, "block"),
    ("cpu", 32 * GIB, {}, "none"),
    ("cpu", 8 * GIB, {}, "block"),
    # half of the frames at a time
    ("tpu", 8 * GIB, {}, "block"),
    ("tpu", 8 * GIB, {"memory__frame_chunks": 2}, "dots"),
    # no gradient goes through the image tower, but one through the texts
    ("tpu", 6 * GIB, {"model__visual_prompts": 0, "model__visual_depth": 0}, "dots"),
    ("tpu", 1 * GIB, {"model__visual_prompts": 0, "model__visual_depth": 0}, "block"),
    ("tpu", 16 * GIB, {"data__batch_size": 64}, "block"),
    # what is asked for is taken
    ("tpu", 1 * GIB, {"memory__remat": "none"}, "none"),
    ("cpu", 99 * GIB, {"memory__remat": "dots"}, "dots"),
])  # fmt: skip
def test_remat_auto_is_the_least_that_fits(folder, platform, memory, changes, expected):
    changes = {"clip__dtype": "bfloat16"} | VIDEOS | changes
    asked = {"platform": platform, "memory": memory, "devices": 1}
    compute = from_config.compute_of(_config(folder, **changes), B16, **asked)
    kind = {"cuda": "gpu"}.get(platform, platform)
    assert (compute.remat, compute.platform) == (expected, kind)


def test_what_is_kept_depends_on_the_frames_of_one_device(folder):
    config = _config(folder, clip__dtype="bfloat16", **VIDEOS | {"data__batch_size": 64})
    asked = {"platform": "tpu", "memory": 16 * GIB}
    found = [from_config.compute_of(config, B16, devices=n, **asked).remat for n in (1, 2, 8)]
    assert found == ["block", "block", "dots"]


def test_the_memory_of_this_machine_is_known(folder):
    config = _config(folder, memory__remat="auto", memory__attention="xla")
    compute = from_config.build_model(config).compute
    assert (compute.remat, compute.attention) == ("none", "xla")


def test_a_run_of_more_devices_than_are_here_can_be_loaded(folder):
    config = _config(folder, devices=64, memory__remat="auto")
    assert from_config.build_model(config).compute.remat == "none"
