"""The queue: progress, cancelling, crashes, time limits, and what is kept."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from app.conftest import small_predictor

from support.video_files import make_video
from vtd_jax.app import encoding
from vtd_jax.app.decoding import Decoder, More
from vtd_jax.app.encoding import Encoder
from vtd_jax.app.jobs import CANCELLED, DONE, FAILED, LAST, QUEUED, Wanted
from vtd_jax.app.kept import Kept, Key
from vtd_jax.app.videos import Busy, Videos
from vtd_jax.errors import UserError

PATIENCE = 60.0


class Slow(Decoder):
    """Decodes after a file `go` appears beside the video."""

    def __call__(self, wanted):
        while hasattr(wanted, "path") and not Path(wanted.path).with_name("go").exists():
            time.sleep(0.01)
        return super().__call__(wanted)


class Crashing(Decoder):
    """Dies, as FFmpeg may at a damaged file, at videos that are called so."""

    def __call__(self, wanted):
        if "crash" in Path(wanted.path).name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(wanted)


def over(job, patience: float = PATIENCE) -> tuple[str, dict]:
    """Waits for the last event."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if job.now()[0] in LAST:
            return job.now()
        time.sleep(0.01)
    raise AssertionError(f"the job is still {job.now()}")


def until(condition, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("one.mp4", "two.mp4", "crash.mp4"):
        make_video(tmp_path / name, 20)
    return tmp_path


@pytest.fixture
def start(folder, predictor):
    """Starts encoders; ends them."""
    closing = []

    def begin(decoder=None, models=None, **settings):
        videos, kept = Videos(folder), Kept()
        models = [predictor.on_devices] if models is None else models
        # nobody listens where a test does not say so
        settings = {"patience": PATIENCE} | settings
        encoder = Encoder(models, videos, kept, decoder=decoder, **settings)
        closing.extend([encoder, videos])
        return encoder, videos, kept

    yield begin
    for one in closing:
        one.close()


def wanted(videos, name, frames=4, models=(0,), step=0.0) -> Wanted:
    video = videos.list(name)[0][0]
    keys = (Key(video.content, model, 0 if step else frames, step) for model in models)
    return Wanted(video, tuple(keys))


def test_features_are_those_of_the_predictor(start, predictor, folder):
    encoder, videos, kept = start()
    one = wanted(videos, "one.mp4")
    assert over(encoder.submit(one)) == (DONE, {})
    found = kept.get(one.keys[0])
    (expected,) = predictor.encode_videos([folder / "one.mp4"])
    np.testing.assert_allclose(found.features, expected.features, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.clip.frames, expected.clip.frames)
    assert found.clip.name == "one.mp4"


@pytest.mark.slow
def test_models_side_by_side_see_the_same_frames(start, folder):
    tuned = small_predictor()
    other = small_predictor(normalization="clip", visual_prompts=0, visual_depth=0)
    other.model.preprocess = "clip"
    encoder, videos, kept = start(models=[tuned.on_devices, other.on_devices])
    one = wanted(videos, "one.mp4", models=(0, 1))
    assert over(encoder.submit(one))[0] == DONE
    for key, model in zip(one.keys, (tuned, other)):
        (expected,) = model.encode_videos([folder / "one.mp4"])
        found = kept.get(key)
        np.testing.assert_array_equal(found.clip.frames, expected.clip.frames)
        np.testing.assert_array_equal(found.clip.indices, expected.clip.indices)
        np.testing.assert_allclose(found.features, expected.features, rtol=1e-5, atol=1e-5)


def test_frames_that_are_known_are_not_encoded_again(start, predictor, monkeypatch):
    encoder, videos, kept = start()
    counts, begin = [], predictor.on_devices.start
    monkeypatch.setattr(
        predictor.on_devices,
        "start",
        lambda images, rows: counts.append(len(images)) or begin(images, rows),
    )
    over(encoder.submit(wanted(videos, "one.mp4", 4)))
    assert sum(counts) == 4
    # of three times as many segments every third has the same middle
    over(encoder.submit(wanted(videos, "one.mp4", 12)))
    assert sum(counts) == 12
    # and what is kept is done at once
    assert encoder.submit(wanted(videos, "one.mp4", 12)).now() == (DONE, {})
    assert sum(counts) == 12
    twelve = kept.get(wanted(videos, "one.mp4", 12).keys[0])
    (expected,) = predictor.encode_videos([videos.list("one.mp4")[0][0].path], frames=12)
    np.testing.assert_allclose(twelve.features, expected.features, rtol=1e-5, atol=1e-5)


def test_progress_is_told_in_order(start):
    encoder, videos, _ = start(Slow())
    job, told = encoder.submit(wanted(videos, "one.mp4", 8)), []
    with job.heard(lambda: told.append(job.now())):
        (videos.folder / "go").touch()
        over(job)
    encoded = [data["done"] for event, data in told if data.get("stage") == "encoding"]
    assert encoded == sorted(encoded)
    assert encoded[-1] == 8
    assert told[-1] == (DONE, {})


def test_cancelling_frees_the_worker(start):
    encoder, videos, kept = start(Slow())
    first = encoder.submit(wanted(videos, "one.mp4"))
    second = encoder.submit(wanted(videos, "two.mp4"))
    until(lambda: first.now()[1].get("stage") == "decoding")
    assert second.now() == ("queued", {"ahead": 1})
    begun = time.monotonic()
    encoder.cancel(first)
    assert first.now() == (CANCELLED, {})
    until(lambda: second.now()[1].get("stage") == "decoding")
    (videos.folder / "go").touch()
    assert over(second)[0] == DONE
    assert time.monotonic() - begun < PATIENCE
    assert kept.get(first.job.wanted.keys[0]) is None


@pytest.mark.slow
def test_what_waits_is_cancelled_too(start):
    encoder, videos, _ = start(Slow())
    first = encoder.submit(wanted(videos, "one.mp4"))
    second = encoder.submit(wanted(videos, "two.mp4"))
    encoder.cancel(second)
    assert second.now() == (CANCELLED, {})
    (videos.folder / "go").touch()
    assert over(first)[0] == DONE
    encoder.cancel(first)
    assert first.now() == (DONE, {})


@pytest.mark.slow
def test_a_job_of_two_clients_ends_when_both_have_left(start):
    encoder, videos, _ = start(Slow())
    one, other = (encoder.submit(wanted(videos, "one.mp4")) for _ in range(2))
    assert one.job is other.job
    # whoever leaves twice takes nothing from others
    for _ in range(2):
        encoder.cancel(one)
        assert one.now() == (CANCELLED, {})
        assert other.now()[0] not in LAST
    encoder.cancel(other)
    assert other.now() == (CANCELLED, {})
    # whoever comes then has a job of their own
    again = encoder.submit(wanted(videos, "one.mp4"))
    assert again.job is not one.job
    (videos.folder / "go").touch()
    assert over(again)[0] == DONE


def test_a_job_that_nobody_listens_to_ends(start):
    encoder, videos, _ = start(Slow(), patience=0.2)
    left, waits = (encoder.submit(wanted(videos, name)) for name in ("one.mp4", "two.mp4"))
    with waits.heard(lambda: None):
        # its page is closed, or it never asked
        assert over(left) == (CANCELLED, {})
        until(lambda: waits.now()[1].get("stage") == "decoding")
        time.sleep(0.6)
        assert waits.now()[0] not in LAST
    assert over(waits) == (CANCELLED, {})
    until(lambda: not encoder._live())
    assert not videos._used


@pytest.mark.slow
def test_a_page_that_listens_again_keeps_its_job(start):
    encoder, videos, _ = start(Slow(), patience=0.8)
    ticket = encoder.submit(wanted(videos, "one.mp4"))
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        with ticket.heard(lambda: None):
            time.sleep(0.05)
        time.sleep(0.1)
    assert ticket.now()[0] not in LAST
    with ticket.heard(lambda: None):
        (videos.folder / "go").touch()
        assert over(ticket)[0] == DONE


@pytest.mark.slow
def test_who_leaves_hears_so_while_others_go_on(start):
    encoder, videos, _ = start(Slow(), patience=0.3)
    one, other = (encoder.submit(wanted(videos, "one.mp4")) for _ in range(2))
    told = []
    with other.heard(lambda: None):
        # the first page is closed: the second one keeps the job
        until(lambda: one.left)
        with one.heard(lambda: told.append(one.now())):
            encoder.cancel(one)
        assert told == [(CANCELLED, {})]
        (videos.folder / "go").touch()
        assert over(other)[0] == DONE


def test_tickets_are_bounded(start, monkeypatch):
    monkeypatch.setattr(encoding, "_TICKETS", 3)
    encoder, videos, _ = start(Slow())
    tickets = [encoder.submit(wanted(videos, "one.mp4")) for _ in range(3)]
    with pytest.raises(Busy, match="too many clients"):
        encoder.submit(wanted(videos, "two.mp4"))
    encoder.cancel(tickets[1])
    assert encoder.submit(wanted(videos, "two.mp4")).now()[0] == QUEUED
    assert encoder.find(tickets[1].id) is None
    assert encoder.find(tickets[0].id) is tickets[0]


@pytest.mark.slow
def test_a_process_without_work_ends(start, monkeypatch):
    monkeypatch.setattr(encoding, "_IDLE", 0.2)
    encoder, videos, _ = start()
    assert over(encoder.submit(wanted(videos, "one.mp4")))[0] == DONE
    until(lambda: encoder._processes is None)
    assert over(encoder.submit(wanted(videos, "two.mp4")))[0] == DONE


def test_a_crash_of_the_decoder_is_one_message(start):
    encoder, videos, _ = start(Crashing())
    jobs = [encoder.submit(wanted(videos, name)) for name in ("crash.mp4", "one.mp4")]
    event, data = over(jobs[0])
    assert event == FAILED
    assert data["error"] == "crash.mp4: the process that decoded it died (signal SIGSEGV)"
    assert over(jobs[1])[0] == DONE


def test_a_process_that_died_between_two_parts_is_one_message():
    with pytest.raises(UserError, match=r"^long\.mp4: the process that decoded it died$"):
        Decoder()(More("long.mp4", 4))


@pytest.mark.slow
def test_decoding_has_a_time_limit(start):
    encoder, videos, _ = start(Slow(), seconds=0.5)
    event, data = over(encoder.submit(wanted(videos, "one.mp4")))
    assert event == FAILED
    assert data["error"].startswith("one.mp4: not decoded within 0.5 s")


@pytest.mark.slow
def test_a_fault_of_ours_ends_one_job(start, monkeypatch, capsys):
    encoder, videos, _ = start()
    monkeypatch.setattr(Encoder, "_clip", lambda *_: 1 / 0)
    event, data = over(encoder.submit(wanted(videos, "one.mp4")))
    assert (event, data) == (
        FAILED,
        {"error": "the server failed at this video; its terminal says more"},
    )
    assert "one.mp4: ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    assert over(encoder.submit(wanted(videos, "one.mp4")))[0] == DONE


def test_the_queue_is_bounded(start, monkeypatch):
    monkeypatch.setattr(encoding, "APP_JOBS", 1)
    encoder, videos, _ = start(Slow())
    first = encoder.submit(wanted(videos, "one.mp4"))
    until(lambda: first.now()[0] == "progress")
    encoder.submit(wanted(videos, "two.mp4"))
    with pytest.raises(Busy, match="1 videos wait"):
        encoder.submit(wanted(videos, "crash.mp4"))


def test_the_end_ends_what_runs(start):
    encoder, videos, _ = start(Slow())
    job = encoder.submit(wanted(videos, "one.mp4"))
    until(lambda: job.now()[0] == "progress")
    encoder.close()
    assert job.now()[0] == CANCELLED
    assert not any("vtd-app" in one.name for one in threading.enumerate())


def test_kept_features_are_bounded():

    from vtd_jax.predict.job import Encoded
    from vtd_jax.video.clip import Clip

    def encoded():
        images = np.zeros((2, 8, 8, 3), np.uint8)
        clip = Clip("x", images, np.arange(2), None, 2, None)
        return Encoded(clip, np.zeros((2, 4), np.float32))

    size = 2 * 8 * 8 * 3 + 2 * 4 * 4
    kept, keys = Kept(2 * size), [Key(name, 0, 2) for name in "abc"]
    for key in keys[:2]:
        kept.put(key, encoded())
    kept.get(keys[0])
    kept.put(keys[2], encoded())
    assert kept.get(keys[1]) is None
    assert kept.get(keys[0]) is not None
    # the newest one stays, however large; one that is replaced counts once
    small = Kept(1)
    for _ in range(3):
        small.put(keys[0], encoded())
    assert small.get(keys[0]) is not None
    assert sorted(kept.rows("a", 0)) == [0, 1]
