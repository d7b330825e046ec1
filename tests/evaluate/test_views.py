"""Scores of videos: every one once, whatever the batches, the devices and the views."""

import jax
import numpy as np
import pytest
from flax import nnx

from support import small_run
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.evaluate.views import compiled_encoder, evaluate, evaluate_split
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import DeviceMesh, run_devices
from vtd_jax.video.records import open_records

NAMES = ("red", "green", "blue")
PLAIN = ModelConfig(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)


def _model(**changes) -> VTDCLIP:
    config = ModelConfig(**(vars(PLAIN) | changes))
    state = small_run.random_state(small_run.SMALL)
    return VTDCLIP(clip_from_state(small_run.SMALL, state), config, rngs=nnx.Rngs(0))


def _batches(videos: int, size: int, views: int = 1):
    """Random videos in batches, the last one padded as the pipeline pads."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (videos, views, 2, 32, 32, 3), dtype=np.uint8)
    frames = frames[:, 0] if views == 1 else frames
    for start in range(0, videos, size):
        index = np.arange(start, start + size)
        real = index < videos
        yield {
            "frames": np.where(
                real.reshape(-1, *[1] * (frames.ndim - 1)), frames[index % videos], 0
            ).astype(np.uint8),
            "label": np.where(real, index % 3, 0).astype(np.int32),
            "weight": real.astype(np.float32),
            "index": np.where(real, index, -1).astype(np.int64),
        }


@pytest.fixture(scope="module")
def model():
    return _model()


@pytest.mark.slow
def test_one_view_is_the_softmax_of_the_models_logits(model):
    result = evaluate_split(model, _batches(5, 2), NAMES, devices=run_devices(1))
    frames = np.concatenate([batch["frames"] for batch in _batches(5, 2)])[:5]
    logits = model(frames, model.encode_classes(model.class_tokens(NAMES))).logits
    np.testing.assert_allclose(result.scores, jax.nn.softmax(logits), rtol=1e-4, atol=1e-6)
    assert result.labels.tolist() == [0, 1, 2, 0, 1]
    assert result.class_names == NAMES


@pytest.mark.slow
def test_views_are_summed_after_the_softmax(model):
    result = evaluate_split(model, _batches(3, 3, views=4), NAMES, devices=run_devices(1))
    frames = next(_batches(3, 3, views=4))["frames"]
    codebook = model.encode_classes(model.class_tokens(NAMES))
    expected = sum(jax.nn.softmax(model(frames[:, view], codebook).logits) for view in range(4))
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.scores.sum(-1), 4, rtol=1e-5)


@pytest.mark.mesh
@pytest.mark.parametrize(
    "size, devices, spelling", [(5, 1, "shard_map"), (2, 8, "shard_map"), (3, 2, "pmap")]
)
def test_batches_and_devices_do_not_matter(model, size, devices, spelling):
    one = evaluate_split(model, _batches(5, 1), NAMES, devices=run_devices(1))
    many = evaluate_split(
        model, _batches(5, size), NAMES, devices=run_devices(devices), parallel=spelling
    )
    assert many.count == 5
    np.testing.assert_allclose(many.scores, one.scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(many.labels, one.labels)


@pytest.mark.slow
def test_the_order_of_batches_does_not_matter(model):
    forward = evaluate_split(model, _batches(5, 2), NAMES, devices=run_devices(1))
    backward = evaluate_split(model, reversed(list(_batches(5, 2))), NAMES, devices=run_devices(1))
    np.testing.assert_array_equal(backward.scores, forward.scores)
    np.testing.assert_array_equal(backward.labels, forward.labels)


@pytest.mark.slow
def test_a_video_that_comes_twice_is_an_error(model):
    twice = [next(_batches(2, 2))] * 2
    with pytest.raises(RuntimeError, match="came twice"):
        evaluate_split(model, twice, NAMES, devices=run_devices(1))


@pytest.mark.slow
def test_other_poolings_of_the_same_weights(model):
    scores = {
        pooling: evaluate_split(
            _model(pooling=pooling), _batches(4, 4), NAMES, devices=run_devices(1)
        ).scores
        for pooling in ("confidence", "mean", "softmax_mean")
    }
    assert not np.allclose(scores["confidence"], scores["mean"])
    assert not np.allclose(scores["mean"], scores["softmax_mean"])


@pytest.mark.mesh
@pytest.mark.parametrize("devices, spelling", [(1, "shard_map"), (2, "pmap")])
def test_videos_with_a_tie_in_any_view_are_reported(devices, spelling):
    model = _model(fusion=True, temperature=1e-4)
    codes = np.asarray(jax.jit(model.encode_classes)(model.class_tokens(NAMES)))
    # two views of three frames, named by their codes
    named = np.array(
        [
            [[0, 1, 1], [2, 2, 2]],
            [[0, 0, 0], [1, 1, 1]],
            [[2, 2, 2], [2, 1, 0]],
            [[1, 1, 1], [1, 1, 1]],
        ]
    )
    batch = {
        "label": np.zeros(4, np.int32),
        "weight": np.float32([1, 1, 1, 0]),
        "index": np.array([2, 0, 1, -1]),
    }
    for views, tied in (
        ({"features": codes[named]}, [False, True, True]),
        ({"features": codes[named[:, 0]]}, [0, 0, 1]),
    ):
        result = evaluate_split(
            model, [batch | views], NAMES, devices=run_devices(devices), parallel=spelling
        )
        assert result.tied.tolist() == tied
    assert result.ties == pytest.approx(1 / 3)
    # without fusion no video token takes part
    assert evaluate_split(_model(), [batch | views], NAMES, devices=run_devices(1)).tied is None


@pytest.mark.slow
def test_records_of_several_splits(model, tmp_path):
    small_run.build(tmp_path)
    splits = {name: open_records(tmp_path / "records", f"{name}_val") for name in ("base", "novel")}
    results = evaluate(model, splits, frames=2, batch_size=4, devices=run_devices(1))
    views = evaluate(
        model,
        splits,
        frames=2,
        batch_size=4,
        temporal_views=2,
        spatial_views=3,
        devices=run_devices(1),
    )
    assert {name: result.count for name, result in results.items()} == {"base": 5, "novel": 3}
    assert results["novel"].class_names == small_run.NOVEL
    assert results["base"].videos == tuple(example.file for example in splits["base"])
    assert results["base"].labels.tolist() == [splits["base"][i].label for i in range(5)]
    assert results["base"].scores.shape == (5, 3)
    np.testing.assert_allclose(views["base"].scores.sum(-1), 6, rtol=1e-4)


@pytest.mark.slow
def test_a_check_breaks_an_evaluation_off_between_batches():
    asked = []

    def check():
        asked.append(len(asked))
        if len(asked) == 3:
            raise KeyError("broken off")

    with pytest.raises(KeyError, match="broken off"):
        evaluate_split(_model(), _batches(5, 1), NAMES, devices=run_devices(1), check=check)
    assert asked == [0, 1, 2]


@pytest.mark.mesh
@pytest.mark.parametrize("devices, spelling", [(8, "shard_map"), (2, "pmap")])
def test_a_codebook_of_templates_does_not_depend_on_devices(devices, spelling):
    """3 classes over 8 devices: some encode padding, and all end with the whole codebook."""
    model = _model(templates=("a {}", "{} colour", "the colour {}."))
    codebook = model.encode_classes(model.class_tokens(NAMES))
    mesh = DeviceMesh(run_devices(devices))
    graphdef, state = nnx.split(model)
    encoder = compiled_encoder(graphdef, mesh, len(NAMES), spelling)
    tokens = mesh.lay_out(model.class_tokens(NAMES))
    assert tokens.shape[1:] == model.class_tokens(NAMES).shape[1:]
    found = encoder(encoder.place(0, tokens), encoder.place(1, state))
    if spelling == "shard_map":
        [mapped] = encoder.jitted.trace(*encoder.abstract(tokens, state)).jaxpr.eqns
        assert mapped.params["check_vma"]
    np.testing.assert_allclose(found, codebook, rtol=0, atol=1e-5 * float(abs(codebook).max()))
    result = evaluate_split(
        model, _batches(4, 4), NAMES, devices=run_devices(devices), parallel=spelling
    )
    frames = next(_batches(4, 4))["frames"]
    np.testing.assert_allclose(
        result.scores, jax.nn.softmax(model(frames, codebook).logits), rtol=1e-4, atol=1e-6
    )
    bare = _model()
    assert float(abs(codebook - bare.encode_classes(bare.class_tokens(NAMES))).max()) > 1e-3
