"""The trainer over devices: the same numbers however it is split, one compilation, memory that is
taken over.
"""

import jax
import numpy as np
import pytest

from support import small_run
from vtd_jax.model.vtd_clip import learnable
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.train import from_config, loop
from vtd_jax.train.config import RunConfig
from vtd_jax.train.trainer import Trainer
from vtd_jax.trees import flatten_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


# Adam makes full steps of the rounding of tiny gradients; a large eps keeps steps proportional to
# gradients
GENTLE = dict(optimizer__eps=1e3, optimizer__lr=10.0, optimizer__warmup_epochs=0.0)


def _run(folder, steps=4, **changes):
    """(trainer, state, batches, what each step reported) after so many steps."""
    changes = GENTLE | dict(data__frames=4, devices=0) | changes
    config = RunConfig.from_dict(small_run.config(folder, **changes).to_dict())
    records, model = from_config.open_training(config), from_config.build_model(config)
    source = loop.open_batches(config, model, records)
    batches = [next(source) for _ in range(steps)]
    source.close()
    trainer = Trainer(config, model, records.class_names, 3, run_devices(config.devices))
    state, message = trainer.place(trainer.initial), []
    for batch in batches:
        state, sums = trainer.step(state, trainer.place_batch(batch))
        message.append(sums)
    return (
        trainer,
        state,
        batches,
        [{key: float(value) for key, value in sums.items()} for sums in message],
    )


@pytest.fixture(scope="module")
def one(folder):
    """A run on one device."""
    _, state, _, message = _run(folder, devices=1)
    return flatten_arrays(state.learnable), message


@pytest.mark.mesh
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(parallel="pmap"),
        dict(codebook_shards=2),
        dict(codebook_shards=4, devices=4),
        dict(memory__remat="block", memory__frame_chunks=2),
        dict(codebook_shards=2, devices=4, memory__remat="dots", memory__frame_chunks=2),
        dict(parallel="pmap", devices=2),
    ],
    ids=lambda changes: ",".join(f"{key}={value}" for key, value in changes.items()) or "8 devices",
)
def test_however_it_is_split(folder, one, changes):
    _, state, _, message = _run(folder, **changes)
    for found, expected in zip(message, one[1]):
        assert {key: found[key] for key in ("count", "skipped", "lr", "correct")} == {
            key: expected[key] for key in ("count", "skipped", "lr", "correct")
        }
        for key in ("loss", "grad_norm"):
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, err_msg=key)
    for name, value in flatten_arrays(state.learnable).items():
        np.testing.assert_allclose(value, one[0][name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_rates_are_those_of_the_updates(folder):
    message = _run(
        folder,
        steps=6,
        devices=1,
        optimizer__gradient_accumulation_steps=2,
        optimizer__warmup_epochs=1.0,
    )[3]
    # 3 batches an epoch, warm-up of one: the updates' rates are the rule's at micro-batches 1 and 3
    np.testing.assert_allclose(
        [sums["lr"] for sums in message], np.repeat([0.0, 1 / 3, 0.55], 2) * 10, rtol=1e-5
    )


@pytest.mark.slow
def test_nothing_is_compiled_after_the_second_step(folder):
    compiled = []

    def listen(event, seconds, **_):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        trainer, state, batches, _ = _run(folder, steps=2, optimizer__weight_decay=0.123)
        assert compiled
        compiled.clear()
        for batch in [*batches, *batches]:
            state, _ = trainer.step(state, trainer.place_batch(batch))
        jax.block_until_ready(state.learnable)
        assert compiled == []
        # the listener does hear a compilation
        jax.jit(lambda x: x + 0.321)(1.0)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_step_takes_the_memory_of_its_state(folder):
    trainer, state, batches, _ = _run(folder, steps=1)
    before = flatten_arrays(trainer.initial.learnable)
    after, _ = trainer.step(state, trainer.place_batch(batches[0]))
    # all but arrays that the step gives back as they are
    assert all(x.is_deleted() for x in jax.tree.leaves((state.learnable, state.opt_state)))
    # neither the start nor a model made of a state is touched by later steps
    model, message = trainer.model(after), flatten_arrays(after.learnable)
    trainer.step(after, trainer.place_batch(batches[0]))
    for name, value in flatten_arrays(trainer.initial.learnable).items():
        np.testing.assert_array_equal(value, before[name])
    for name, value in flatten_arrays(learnable(model)).items():
        np.testing.assert_array_equal(value, message[name])


@pytest.mark.slow
def test_bfloat16_towers_keep_float32_parameters(folder):
    _, state, _, message = _run(folder, clip__dtype="bfloat16", memory__remat="block")
    assert {x.dtype for x in jax.tree.leaves(state.learnable)} == {np.dtype("float32")}
    exact = _run(folder)[3]
    for found, expected in zip(message, exact):
        # bfloat16 has 8 bits; the loss is of logits of size 100
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.05)
        assert found["loss"] != expected["loss"]
