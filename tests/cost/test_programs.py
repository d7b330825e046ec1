"""What is compiled ahead is the very program that training runs; what does not fit is reported with
a remedy.
"""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.configs import _base
from vtd_jax.cost import programs
from vtd_jax.cost.examine import Report, complaint, examine
from vtd_jax.cost.hlo import Sent
from vtd_jax.cost.programs import Names, abstract_model, training_step
from vtd_jax.cost.topology import GIB, Target
from vtd_jax.errors import UserError
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.trainer import Trainer

pytestmark = pytest.mark.mesh

NAMES = [f"class number {place}" for place in range(5)]


def tiny(**changes) -> RunConfig:
    """A run on the CLIP that ships, everything learnable; changes by full name, dots as two
    underscores.
    """
    run = _base.base_config(
        name="tiny", protocol="few_shot", data_dir="nowhere", train="list", evaluate={"val": "list"}
    )
    run.clip.update(path="tiny", architecture="tiny")
    run.model.update(text_prompts=4, text_depth=2, visual_prompts=2, visual_depth=2)
    run.data.update(frames=4, batch_size=12)
    run.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return RunConfig.from_dict(run.to_dict())


def here(count: int = 8, platform: str = "tpu") -> Target:
    """Simulated devices in the place of TPUs."""
    return Target(f"{count} here", platform, tuple(jax.devices()[:count]), 8 * GIB)


def names(config: RunConfig) -> Names:
    return Names.of(abstract_model(config).class_tokens(NAMES))


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__layers": "list"},
        {
            "memory__layers": "scan",
            "memory__remat": "block",
            "memory__frame_chunks": 2,
            "optimizer__gradient_accumulation_steps": 2,
        },
        {
            "memory__layers": "scan",
            "codebook_shards": 2,
            "memory__remat": "dots",
            "on_nonfinite": "skip",
            "clip__dtype": "bfloat16",
        },
        {
            "memory__layers": "list",
            "codebook_shards": 2,
            "model__visual_prompts": 0,
            "model__visual_depth": 0,
            "data__stored_views": 3,
        },
    ],
)
def test_it_is_the_program_that_training_runs(changes):
    # layouts and kernels are those of the CPU that runs this test
    config = tiny(**changes)
    step = training_step(config, here(platform="cpu"), names(config))
    trainer = Trainer(
        config, from_config.build_model(config), NAMES, programs._STEPS_PER_EPOCH, jax.devices()
    )
    assert step.mapped is trainer._mapped
    # a compiled program refuses arguments of other shapes, types or places
    compiled = step.mapped.jitted.lower(*step.arguments).compile()
    trainer._mapped = lambda *args: compiled(*args)
    trainer._mapped.place = step.mapped.place
    size = config.data.batch_size
    batch = {
        # a step takes the one or the other
        "frames": np.zeros((size, config.data.frames, 64, 64, 3), np.uint8),
        "features": np.ones(
            (size, config.data.frames, abstract_model(config).clip.config.embed_dim), np.float32
        ),
        "label": np.zeros(size, np.int32),
        "weight": np.ones(size, np.float32),
        "index": np.arange(size),
    }
    _, sums = trainer.step(trainer.place(trainer.initial), trainer.place_batch(batch))
    assert float(sums["count"]) == size


@functools.lru_cache
def reported(count: int = 8, platform: str = "tpu", **changes) -> Report:
    config, target = tiny(**{"data__batch_size": 16} | changes), here(count, platform)
    return examine(training_step(config, target, names(config)), target, config.name)


def test_a_report_shows_what_a_device_does():
    report, config = reported(), tiny(data__batch_size=16)
    assert (report.kind, report.videos, report.frames, report.classes, report.devices) == (
        "training",
        16,
        4,
        5,
        8,
    )
    assert report.tokens == names(config).tokens
    assert report.fits
    parts, arguments = report.parts, training_step(config, here(), names(config)).arguments
    assert report.memory == sum(parts.values()) - 2 * parts["in place"] < report.available
    learnable = sum(x.size for x in jax.tree.leaves(arguments[0])) * 4
    # what is learnt and AdamW's two means of it are given up for the results
    assert parts["in place"] >= 3 * learnable
    shares = (
        (x.sharding.shard_shape(x.shape), x.dtype.itemsize) for x in jax.tree.leaves(arguments)
    )
    assert parts["arguments"] == pytest.approx(
        sum(np.prod(shape) * size for shape, size in shares), rel=0.01
    )
    # the gradient of the codebook and a few sums go along
    assert learnable <= report.collectives["all-reduce"].bytes < learnable + 8192
    assert report.traffic > parts["arguments"]
    assert report.flops > 0
    assert (
        report.to_dict()["collectives"]["all-reduce"]["bytes"]
        == report.collectives["all-reduce"].bytes
    )


def test_accumulation_is_in_the_optimizer_alone():
    whole = reported(1)
    parts = reported(1, data__batch_size=2, optimizer__gradient_accumulation_steps=8)
    # a step sees an eighth of the videos and encodes the codebook all the same
    assert 1 / 8 < parts.flops / whole.flops < 0.5
    assert parts.parts["temporaries"] < 0.5 * whole.parts["temporaries"]


def test_devices_share_the_work():
    one, eight = reported(1), reported(8)
    assert one.flops / 8 < eight.flops < one.flops / 6
    assert one.collectives == {}


def test_transformers_are_laid_out_for_the_target():
    config = tiny()
    laid_out = {
        platform: abstract_model(config, here(1, platform)).clip.visual.blocks
        for platform in ("cpu", "tpu", "cuda")
    }
    assert isinstance(laid_out["cpu"], nnx.List)
    assert isinstance(laid_out["cuda"], nnx.List)
    assert laid_out["tpu"].ln_1.scale.shape == (4, 64)


def test_lowering_for_gpus_compiles_nothing():
    # in one layout, where a scan forms a gradient more, and recomputing the same
    same = {"memory__layers": "scan", "memory__remat": "dots"}
    lowered, compiled = (reported(platform=kind, **same) for kind in ("cuda", "tpu"))
    assert (lowered.fits, lowered.memory, lowered.traffic, lowered.xla_flops) == (
        None,
        None,
        None,
        None,
    )
    assert lowered.text > 10_000
    assert lowered.flops == compiled.flops
    assert lowered.parts["arguments"] == pytest.approx(compiled.parts["arguments"], rel=0.01)
    assert lowered.parts["outputs"] == pytest.approx(compiled.parts["outputs"], rel=0.01)
    assert lowered.collectives["all-reduce"].bytes == pytest.approx(
        compiled.collectives["all-reduce"].bytes, rel=0.01
    )


def test_a_refused_program_is_a_report(monkeypatch):
    config = tiny()
    step = training_step(config, here(), names(config))
    words = (
        "RESOURCE_EXHAUSTED: required for HLO temporaries (27.50G) exceeds available HBM (15.75G)."
    )

    def refuse(text):
        def compile(self, *args, **kwargs):
            raise jax.errors.JaxRuntimeError(text)

        monkeypatch.setattr(jax.stages.Lowered, "compile", compile)

    refuse(words)
    report = examine(step, here(), config.name)
    assert (report.fits, report.memory, report.traffic, report.parts) == (
        False,
        round(27.5 * GIB),
        None,
        {},
    )
    refuse("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        examine(step, here(), config.name)


def misfit(kind="training", videos=64, devices=8, remat="dots") -> Report:
    return Report(
        run="base_to_novel_kinetics400",
        kind=kind,
        target="v5e:2x4",
        devices=devices,
        videos=videos,
        frames=4,
        views=1,
        classes=200,
        tokens=26,
        fits=False,
        memory=round(27.5 * GIB),
        available=round(15.75 * GIB),
        parts={},
        flops=1,
        traffic=None,
        collectives={"all-reduce": Sent(1, 1)},
        xla_flops=None,
        text=None,
        seconds=1.0,
        remat=remat if kind == "training" else "",
    )


NEEDS = "base_to_novel_kinetics400 on v5e:2x4: {} needs 27.5 GiB a device, a chip has 15.75; {}"
REMAT = "set `memory.remat=block`"
FEWER = "lower `data.batch_size=12` and raise `optimizer.gradient_accumulation_steps=1` by as much"
CHUNKS, BATCH = "raise `memory.frame_chunks=", "lower `evaluate.batch_size=16`"


@pytest.mark.parametrize(
    "report, changes, remedy",
    [
        (misfit(), {}, f"{REMAT}, {FEWER} or use more chips"),
        (misfit(remat="none"), {}, f"{REMAT}, {FEWER} or use more chips"),
        (misfit(remat="block"), {}, f"{FEWER} or use more chips"),
        (misfit(videos=8, remat="block"), {}, f"{CHUNKS}1` or use larger chips"),
        (
            misfit(videos=8, remat="block"),
            {"memory__frame_chunks": 4},
            "use larger chips",
        ),
        (misfit("evaluation"), {}, f"{BATCH}, {CHUNKS}1` or use more chips"),
        (misfit("evaluation", videos=8), {}, f"{CHUNKS}1` or use larger chips"),
        (misfit("codebook", videos=0), {}, "use more chips"),
    ],
)
def test_what_to_change_is_named(report, changes, remedy):
    line = complaint(report, tiny(**changes))
    assert line == NEEDS.format(report.kind, remedy)
    # every field that it names is one
    for field in re.findall(r"`([\w.]+)=", line):
        group, name = field.split(".")
        assert name in {known.name for known in dataclasses.fields(getattr(tiny(), group))}


def test_a_config_that_cannot_be_compiled_ahead():
    with pytest.raises(UserError, match=r"parallel=pmap: .* set `parallel=shard_map`"):
        training_step(tiny(parallel="pmap"), here(), Names(5, 9))
    with pytest.raises(UserError, match=r"clip\.architecture: empty"):
        abstract_model(tiny(clip__architecture="", clip__path=""))
    assert abstract_model(tiny(clip__architecture="")).clip.config.architecture == "tiny"


def test_templates_are_counted():
    """The programs are those that an evaluation runs: a class has M texts, encoded one after
    another.
    """
    plain, many = (
        {"model__text_prompts": 0, "model__text_depth": 0, "model__templates": t}
        for t in ((), ("a {}.",) * 3)
    )
    one, three = (names(tiny(**changes)) for changes in (plain, many))
    assert (one.templates, three.templates) == (0, 3)
    assert three == Names(5, one.tokens + 2, 3)
    tokens = abstract_model(tiny(**many)).class_tokens(NAMES)
    assert three.shape == tokens.shape
    mesh = programs.mesh_of(tiny(**many), here())
    assert (
        programs.abstract_tokens(mesh, three).shape
        == mesh.lay_out(tokens).shape
        == (8, 3, three.tokens)
    )
