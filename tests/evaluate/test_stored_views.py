"""Evaluations that find frame features on disk: the same scores, nothing decoded or encoded."""

import jax
import numpy as np
import pytest

from support import small_run
from support.small_model import small_model
from vtd_jax.cache.frame_features import FeatureStore
from vtd_jax.evaluate import views
from vtd_jax.evaluate.views import evaluate
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.parallel.mesh import run_devices
from vtd_jax.video import batches as clips
from vtd_jax.video.records import open_records

# logits that are no multiple of the rounding of features by 100
SETTINGS = dict(visual_prompts=0, visual_depth=0, temperature=0.5)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    return {name: open_records(folder / "records", f"{name}_val") for name in ("base", "novel")}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def nothing_new(monkeypatch):
    """Decoding and encoding are errors from here on."""

    def start():
        def never(*_):
            raise AssertionError("computed again")

        monkeypatch.setattr(clips, "eval_views", never)
        monkeypatch.setattr(VTDCLIP, "encode_frames", never)

    return start


def _scores(model, splits, store=None, **how):
    results = evaluate(
        model, splits, **dict(frames=4, batch_size=4, devices=run_devices(1)) | how, store=store
    )
    return {name: (result.scores, result.labels, result.videos) for name, result in results.items()}


def _assert_same(found, expected):
    for name, (scores, labels, videos) in expected.items():
        np.testing.assert_allclose(found[name][0], scores, rtol=1e-6)
        np.testing.assert_array_equal(found[name][1], labels)
        assert found[name][2] == videos


@pytest.mark.mesh
@pytest.mark.parametrize(
    "how",
    [
        dict(),
        dict(temporal_views=2, spatial_views=3),
        dict(batch_size=3, devices=8),
        dict(devices=2, parallel="pmap", temporal_views=2),
    ],
    ids=lambda how: ",".join(f"{key}={value}" for key, value in how.items()) or "one view",
)
def test_scores_are_the_same_and_nothing_is_computed_twice(splits, cache, nothing_new, how, capsys):
    how = how | dict(devices=run_devices(how.get("devices", 1)))
    model = small_model(**SETTINGS)
    expected = _scores(model, splits, **how)
    store = FeatureStore(model, how["devices"], parallel=how.get("parallel", "shard_map"))
    _assert_same(_scores(model, splits, store, **how), expected)
    message = capsys.readouterr().out.splitlines()
    assert [line.partition(" videos")[0] for line in message] == [
        "frame features of 5",
        "frame features of 3",
    ]
    nothing_new()
    # what is learnt, or how frames become logits, may be other things by now
    other = small_model(**SETTINGS | dict(pooling="mean", text_prompts=3, text_depth=1))
    again = FeatureStore(other, how["devices"])
    _assert_same(_scores(model, splits, again, **how), expected)
    assert not np.allclose(
        _scores(other, splits, again, **how)["base"][0], expected["base"][0], rtol=1e-3
    )
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_where_nothing_can_be_kept_that_is_reported_and_scores_are_the_same(
    splits, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "file"))
    model = small_model(**SETTINGS)
    _assert_same(
        _scores(model, splits, FeatureStore(model, jax.devices()[:1])), _scores(model, splits)
    )
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(splits)
    assert "frame features cannot be kept there (Not a directory)" in errors[0]
    assert errors[0].endswith("or `evaluate.store_features=False`")


@pytest.mark.slow
def test_what_would_take_too_much_room_is_not_kept(splits, cache, monkeypatch, capsys):
    monkeypatch.setattr(views, "MOST_KEPT", 2000)
    model = small_model(**SETTINGS)
    _assert_same(
        _scores(model, splits, FeatureStore(model, jax.devices()[:1])), _scores(model, splits)
    )
    # 5 and 3 videos of 4 frames of 32 numbers
    assert capsys.readouterr().err.splitlines() == [
        "frame features of base_val would take 0.0 GiB, more than 0.0: not kept"
    ]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.slow
def test_a_check_breaks_off_between_batches_of_the_first_pass_too(splits, cache):
    model, asked = small_model(**SETTINGS), []

    def check():
        asked.append(1)
        if len(asked) == 2:
            raise KeyError("broken off")

    with pytest.raises(KeyError, match="broken off"):
        _scores(model, splits, FeatureStore(model, jax.devices()[:1]), batch_size=1, check=check)
    assert len(asked) == 2
