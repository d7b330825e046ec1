"""Training on frame features that are kept on disk: the same run, without decoding or encoding
anything twice.
"""

import jax
import numpy as np
import pytest

from support import small_run
from support.helpers import random_state
from vtd_jax.cache import frame_features
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.preemption import Preempted, Preemption
from vtd_jax.train import batches, from_config
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.trainer import Trainer
from vtd_jax.video import batches as clips

# Adam makes full steps of the rounding of tiny gradients; a large eps keeps steps proportional to
# gradients, and cosines that are not multiplied by 100 twice keep losses proportional to features
GENTLE = dict(optimizer__eps=1e3, optimizer__lr=1e2, model__temperature=1.0)
FROZEN = dict(model__visual_prompts=0, model__visual_depth=0, data__frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    state = random_state(small_run.SMALL) | {"logit_scale": np.float32(1.0)}
    save_clip(folder / "clip.safetensors", small_run.SMALL, state)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, files of 4 videos."""
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(frame_features, "SHARD", 4)
    return tmp_path / "cache" / "features"


@pytest.fixture
def decoded(monkeypatch):
    """Collects (epoch, index) of every clip that is made."""
    found, make = [], clips.train_clip

    def counting(example, spec, epoch, index):
        found.append((epoch, index))
        return make(example, spec, epoch, index)

    monkeypatch.setattr(clips, "train_clip", counting)
    return found


def _config(folder, **changes):
    return small_run.run_config(folder, **FROZEN | GENTLE | changes)


def _run(config, workdir, **others):
    """(what was learnt, losses)."""
    learnt = small_run.learnt(small_run.train(config, workdir, **others).model)
    return learnt, [float(row["loss"]) for row in small_run.rows(workdir)]


def _assert_same(found, expected):
    """At float32 rounding: other videos share a batch than in a step."""
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    for name, value in expected[0].items():
        np.testing.assert_allclose(
            found[0][name], value, rtol=1e-6, atol=1e-6 * np.abs(value).max(), err_msg=name
        )


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    """Two epochs without anything kept."""
    return _run(_config(folder), tmp_path_factory.mktemp("plain"))


@pytest.mark.mesh
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(devices=8),
        dict(devices=2, parallel="pmap"),
        dict(devices=4, codebook_shards=2, optimizer__gradient_accumulation_steps=2),
        dict(data__workers=1),
    ],
    ids=lambda changes: (
        ",".join(f"{key}={value}" for key, value in changes.items()) or "one device"
    ),
)
def test_as_many_views_as_epochs_change_nothing(folder, tmp_path, changes):
    plain = _run(_config(folder, **changes), tmp_path / "plain")
    _assert_same(_run(_config(folder, data__stored_views=2, **changes), tmp_path / "run"), plain)


@pytest.mark.slow
def test_shuffling_and_a_last_partial_batch_stay_as_they_are(folder, tmp_path):
    order = dict(data__shuffle=False, data__drop_remainder=True)
    expected = _run(_config(folder, **order), tmp_path / "plain")
    assert len(expected[1]) == 4
    _assert_same(
        _run(_config(folder, data__stored_views=3, **order), tmp_path / "stored"), expected
    )


@pytest.mark.slow
def test_nothing_is_decoded_or_encoded_twice(
    folder, plain, tmp_path, decoded, monkeypatch, capsys, cache
):
    config = _config(folder, data__stored_views=2)
    _run(config, tmp_path / "one")
    everything = [(epoch, index) for epoch in (0, 1) for index in range(10)]
    # grain may read ahead
    assert set(decoded) == set(everything)
    assert (
        f"frame features of 10 videos of base_train in 2 epochs, 0.0 MiB, are kept in {cache}"
        in capsys.readouterr().out
    )
    decoded.clear()

    def never(self, frames):
        raise AssertionError("frames were encoded")

    monkeypatch.setattr(VTDCLIP, "encode_frames", never)
    # another run: other settings of what is learnt, the same features
    again = _run(_config(folder, data__stored_views=2, log_every=2), tmp_path / "two")
    assert decoded == []
    assert "frame features" not in capsys.readouterr().out
    for name, value in plain[0].items():
        np.testing.assert_allclose(
            again[0][name], value, rtol=1e-6, atol=1e-6 * np.abs(value).max()
        )


@pytest.mark.slow
def test_fewer_views_come_again(folder, tmp_path, decoded):
    """One view: the second epoch sees the first's clips, in an order of its own."""
    _, losses = _run(_config(folder, data__stored_views=1), tmp_path / "run")
    assert set(decoded) == {(0, index) for index in range(10)}
    plain = _run(_config(folder), tmp_path / "plain")
    np.testing.assert_allclose(losses[:3], plain[1][:3], rtol=1e-6)
    assert not np.allclose(losses[3:], plain[1][3:], rtol=1e-6)


@pytest.mark.slow
def test_resumed_is_bit_for_bit_uninterrupted(folder, tmp_path, monkeypatch, decoded):
    config = _config(folder, data__stored_views=2, checkpoint__every_steps=1)
    whole = _run(config, tmp_path / "whole")
    step = Trainer.step

    def breaking(self, state, batch):
        if state.step == 4:
            raise KeyboardInterrupt
        return step(self, state, batch)

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(KeyboardInterrupt):
        _run(config, tmp_path / "broken")
    assert Checkpoints(tmp_path / "broken").steps[-1] == 4
    monkeypatch.setattr(Trainer, "step", step)
    resumed = _run(config, tmp_path / "broken", resume=True)
    assert resumed[1] == whole[1]
    for name, value in whole[0].items():
        np.testing.assert_array_equal(resumed[0][name], value, err_msg=name)


@pytest.mark.slow
def test_only_epochs_that_are_left_are_computed(folder, tmp_path, decoded, cache):
    _run(_config(folder, data__stored_views=3, optimizer__epochs=1), tmp_path / "run")
    assert {epoch for epoch, _ in decoded} == {0}
    decoded.clear()
    assert _run(
        _config(folder, data__stored_views=3, optimizer__epochs=2), tmp_path / "run", resume=True
    )
    assert {epoch for epoch, _ in decoded} == {1}
    assert len(list(cache.iterdir())) == 2


@pytest.mark.slow
def test_other_views_are_another_runs_checkpoint(folder, tmp_path):
    _run(_config(folder, optimizer__epochs=1), tmp_path / "run")
    with pytest.raises(UserError, match=r"settings differ: data\.stored_views: 0 -> 1"):
        _run(_config(folder, data__stored_views=1), tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_notice_breaks_the_pass_off_and_what_was_whole_stays(folder, tmp_path, decoded):
    class Notice(Preemption):
        """Comes while the second of three files is made."""

        looks = 0

        @property
        def interrupts(self):
            self.looks += 1
            return self.looks > 2

    config = _config(folder, data__stored_views=1)
    with pytest.raises(Preempted, match=r"no step was made, nothing saved in "):
        small_run.train(config, tmp_path / "run", preemption=Notice())
    kept = (tmp_path / "cache" / "features").rglob("*.safetensors")
    assert [file.name for file in kept] == ["00000.safetensors"]
    decoded.clear()
    _run(config, tmp_path / "run", resume=True)
    assert {index for _, index in decoded} == set(range(4, 10))


def test_it_is_for_one_process(folder, monkeypatch):
    config = _config(folder, data__stored_views=1)
    records, model = from_config.open_training(config), from_config.build_model(config)
    monkeypatch.setattr(batches, "process_count", lambda: 2)
    with pytest.raises(
        UserError, match=r"data\.stored_views=1: frame features are kept by runs of one process"
    ):
        batches.open_batches(config, model, records)


def test_a_folder_that_cannot_be_written_is_reported_before_the_work(
    folder, tmp_path, monkeypatch, decoded
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        UserError,
        match=r"frame features cannot be kept there \(Not a directory\); set VTD_JAX_CACHE",
    ):
        _run(_config(folder, data__stored_views=1), tmp_path / "run")
    assert decoded == []


@pytest.mark.slow
def test_padding_is_ordinary_numbers(folder):
    config = _config(folder, data__stored_views=1)
    records, model = from_config.open_training(config), from_config.build_model(config)
    stored, plain = (
        batches.open_batches(config, model, records),
        batches.open_batches(_config(folder), model, records),
    )
    stored.fill(range(1), print)
    rows = [(next(stored), next(plain)) for _ in range(3)]
    plain.close()
    for mine, theirs in rows:
        for name in ("label", "weight", "index"):
            np.testing.assert_array_equal(mine[name], theirs[name])
            assert mine[name].dtype == theirs[name].dtype
        expected = np.asarray(jax.jit(model.encode_frames)(theirs["frames"]))
        real = theirs["weight"] > 0
        close = dict(rtol=0, atol=1e-6 * np.abs(expected).max())
        np.testing.assert_allclose(mine["features"][real], expected[real], **close)
    last = rows[-1][0]
    assert last["weight"].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(
        last["features"][2:], np.stack([stored._stored[0].batch([0], 1)["features"][0]] * 2)
    )
