import json

import jax
import numpy as np
import pytest
from flax import nnx

from support.small_model import LABELS, WORDS
from support.timed_files import timed_video
from support.video_files import make_video
from vtd_jax.errors import UserError
from vtd_jax.predict import timeline as module
from vtd_jax.predict.segments import Segments
from vtd_jax.predict.timeline import WindowCutter, Windows
from vtd_jax.video.clip import frames_at


@nnx.jit
def whole(model, frames, tokens):
    """The method as evaluation runs it."""
    return model(frames, model.encode_classes(tokens))


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """20 seconds."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return make_video(path, 60, rate=3)


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("frames, steps", [(4, 2), (4, 4), (4, 1), (5, 3)])
def test_windows_are_cut_the_same_however_the_frames_come(count, frames, steps):
    plan = Windows(frames, float(frames), float(steps), 0.5)
    features, ids = np.arange(count, dtype=np.float32)[:, None], np.arange(count, dtype=np.int32)
    starts = list(range(0, max(1, count - frames + 1), steps))
    if count > frames and starts[-1] + frames < count:
        starts.append(count - frames)
    for part in (1, 3, 7, 100):
        cut, found = WindowCutter(plan), []
        for first in range(0, count, part):
            found += list(cut.add(features[first : first + part], ids[first : first + part]))
            assert cut.held <= frames + part
        found += list(cut.last())
        assert [first for first, _, _ in found] == starts
        for first, rows, names in found:
            assert rows.shape == (frames, 1)
            expected = np.arange(first, first + frames) if count >= frames else names
            np.testing.assert_array_equal(rows[:, 0], expected)
            np.testing.assert_array_equal(names, expected)
        if count < frames:
            assert set(found[0][2]) == set(range(count))


def test_segments_of_scores():
    segments = Segments(("a", "b", "c"), 0.4)
    for start, scores in enumerate(
        [(0.9, 0.1, 0.0), (0.5, 0.45, 0.05), (0.2, 0.7, 0.1), (0.3, 0.35, 0.35), (0.8, 0.1, 0.1)]
    ):
        segments.add(start, start + 1, start + 0.5, np.array(scores, np.float32))
    found = [
        (s.label, s.start, s.end, round(s.score, 3), round(s.peak, 3), s.peak_at, s.best)
        for s in segments.close()
    ]
    assert found == [
        ("a", 0, 2, 0.7, 0.9, 0.5, True),
        ("b", 1, 4, 0.5, 0.7, 2.5, True),
        ("a", 4, 5, 0.8, 0.8, 4.5, True),
    ]


def test_a_label_above_the_threshold_that_is_never_best():
    segments = Segments(("a", "b"), 0.4)
    segments.add(0, 2, 1, np.array([0.55, 0.45], np.float32))
    assert [(s.label, s.best) for s in segments.close()] == [("a", True), ("b", False)]


@pytest.mark.slow
def test_a_timeline_is_the_windows_classified_one_by_one(learnt, long):
    found = learnt.timeline(long, LABELS, window=4, stride=2, frames=4)
    images = np.stack([frame.image for frame in frames_at(long, 1.0, learnt.size)])
    assert len(images) == 20
    assert len(found.starts) == 9
    np.testing.assert_allclose(found.starts, [0, *np.arange(3, 18, 2)])
    np.testing.assert_allclose(found.ends, [*np.arange(3, 18, 2), 20], atol=1e-9)
    windows = np.stack([images[start : start + 4] for start in range(0, 17, 2)])
    out = whole(learnt.model, windows, learnt.model.class_tokens(LABELS))
    scores = np.asarray(jax.nn.softmax(out.logits, axis=-1))
    np.testing.assert_array_equal(found.top, np.argsort(-scores, axis=1))
    np.testing.assert_allclose(found.top_scores, -np.sort(-scores, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.mean_scores, scores.mean(axis=0), rtol=1e-5)
    assert found.words == tuple(LABELS[k] for k in out.votes.argmax(axis=1))
    assert found.mean_scores.sum() == pytest.approx(1, abs=1e-5)
    assert sum(s.end - s.start for s in found.segments if s.best) >= 20 - 1e-6
    assert found.pictures.shape == (20, 32, 32, 3)
    expected_text = json.loads(json.dumps(found.to_dict()))
    assert expected_text["windows"][0]["top"][0]["label"] == LABELS[found.top[0, 0]]


@pytest.mark.slow
def test_times_that_start_again_cost_nothing(learnt, tmp_path):
    parts = [timed_video(tmp_path / f"{at}.ts", 50, offset=at) for at in (0, 500, 0)]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    expected_text = []
    found = learnt.timeline(
        tmp_path / "joined.ts",
        LABELS,
        window=1,
        frames=4,
        on_progress=lambda *done: expected_text.append(done),
    )
    assert found.duration == pytest.approx(6, abs=1e-3)
    assert len(found.starts) == 11
    assert found.ends[-1] == found.duration
    np.testing.assert_allclose(found.pictures_at, (np.arange(24) + 0.5) / 4)
    assert {length for _, length in expected_text} <= {0.0}
    assert found.note == ""


@pytest.mark.slow
def test_other_words_name_the_windows(learnt, long):
    found = learnt.timeline(long, LABELS, window=4, frames=4, vocabulary=WORDS)
    assert set(found.words) <= set(WORDS)
    plainly = learnt.timeline(long, LABELS, window=4, frames=4)
    assert np.abs(found.mean_scores - plainly.mean_scores).max() > 1e-5


@pytest.mark.slow
def test_a_video_shorter_than_a_window_is_one(learnt, clips):
    found = learnt.timeline(clips[1], LABELS, window=8, frames=4)
    assert (found.starts.tolist(), len(found.segments) >= 1) == ([0.0], True)
    assert found.ends[0] == found.duration == pytest.approx(0.36, abs=0.01)


@pytest.mark.slow
def test_a_stride_becomes_a_whole_number_of_steps(learnt, clips):
    assert learnt.timeline(clips[3], LABELS, window=1, stride=0.4, frames=4).stride == 0.5
    assert learnt.timeline(clips[3], LABELS, window=1, stride=0.01, frames=4).stride == 0.25


def test_memory_does_not_grow_with_the_video(learnt, long, monkeypatch):
    monkeypatch.setattr(module, "PICTURES", 6)
    expected_text = []
    found = learnt.timeline(
        long,
        LABELS,
        window=0.5,
        frames=4,
        on_progress=lambda done, length: expected_text.append((done, length)),
    )
    assert len(found.pictures) <= 6
    np.testing.assert_allclose(np.diff(found.pictures_at), np.diff(found.pictures_at)[0])
    assert expected_text == [] or expected_text[-1][1] == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"window": 0.0}, "window=0.0`: expected seconds"),
        (
            {"window": 4.0, "stride": 5.0},
            "stride=5.0`: expected seconds, above 0, at most a window",
        ),
        ({"threshold": 0.0}, "threshold=0.0`: expected a score"),
        ({"frames": 0}, "frames=0`: expected 1 or more"),
    ],
)
def test_windows_out_of_range_are_reported(learnt, long, settings, message):
    with pytest.raises(UserError, match=message):
        learnt.timeline(long, LABELS, **settings)
