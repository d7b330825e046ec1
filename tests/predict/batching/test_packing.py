"""Videos in shared batches: in order, with the numbers that each has alone, in bounded memory."""

import csv

import jax
import numpy as np
import pytest
from flax import nnx

from support.small_model import LABELS, small_model
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.predict.batching import packing
from vtd_jax.predict.batching.packing import Packer
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure
from vtd_jax.predict.loading import load
from vtd_jax.predict.predictor import Predictor
from vtd_jax.video.clip import read_clip


class Counting(DeviceModel):
    """Stands for a model: a frame's feature is its first pixel; batches are logged."""

    def __init__(self):
        self.started, self.encoded = [], []

    def start(self, frames, rows):
        self.started.append((len(frames), rows))
        return jax.numpy.float32(np.pad(frames[:, 0, 0, :1], ((0, rows - len(frames)), (0, 0))))

    def encode_frames(self, frames):
        self.encoded.append(len(frames))
        return frames[:, 0, 0, :1].astype(np.float32)


def clips(lengths):
    """Clips of these lengths whose frames are numbered through; a length of None is a failure."""
    number, found = 0, []
    for length in lengths:
        if length is None:
            found.append(Failure("bad", UserError("bad")))
            continue
        video = np.zeros((length, 4, 4, 3), np.uint8)
        video[:] = number + np.arange(length)[:, None, None, None]
        number += length
        found.append(read_clip(video, length, 4))
    return found


@pytest.mark.parametrize("size", [1, 4, 7, 32])
def test_any_lengths_fill_batches_of_one_shape(size):
    given, model = clips([3, 1, None, 20, 5, None, 2]), Counting()
    results = list(Packer(model, size).encode(iter(given)))
    assert [type(one) for one in results] == [
        Failure if isinstance(one, Failure) else Encoded for one in given
    ]
    for one, clip in zip(results, given):
        if isinstance(one, Encoded):
            assert one.clip is clip
            np.testing.assert_array_equal(one.features[:, 0], clip.frames[:, 0, 0, 0])
    if size > 31:
        # less than a batch in all: as a single video is encoded
        assert (model.started, model.encoded) == ([], [31])
    else:
        full, rest = divmod(31, size)
        assert model.started == [(size, size)] * full + [(rest, size)] * (rest > 0)
        assert model.encoded == []


def test_videos_are_drawn_as_results_are_taken():
    drawn = []

    def endless():
        for clip in clips([3] * 80):
            drawn.append(clip)
            yield clip

    results = Packer(Counting(), 6).encode(endless())
    for taken in range(1, 20):
        next(results)
        # a batch that is filled, and two of two videos on their way
        assert len(drawn) <= taken + 6


def test_what_the_videos_raise_comes_after_the_results_before():
    def failing():
        yield from clips([3, 2])
        raise RuntimeError("the list ended")

    results = Packer(Counting(), 4).encode(failing())
    assert [len(next(results).clip.frames) for _ in range(2)] == [3, 2]
    with pytest.raises(RuntimeError, match="the list ended"):
        next(results)


@pytest.fixture(scope="module")
def bare() -> Predictor:
    """A small model with nothing learnt."""
    none = dict(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)
    return Predictor(
        small_model(**none), frames=4, cache=TextCache(None), devices=jax.devices()[:1]
    )


def test_deterministic_numbers_are_those_of_the_video_alone(bare, noise):
    rng = np.random.default_rng(3)
    company = [
        noise,
        *(rng.integers(0, 256, (n, 40, 40 + n, 3), np.uint8) for n in (1, 5, 30)),
        noise,
    ]
    alone = bare.predict(noise, LABELS)
    for more in ({"deterministic": True}, {"deterministic": True, "batch_frames": 8}):
        found = bare.predict(company, LABELS, **more)
        np.testing.assert_array_equal(found[0].logits, alone.logits)
        np.testing.assert_array_equal(found[-1].logits, alone.logits)
    for size in (2, 8, 64):
        found = bare.explain(company, LABELS, batch_frames=size)
        np.testing.assert_allclose(found[0].logits, alone.logits, rtol=1e-5, atol=1e-5)
        assert found[0].words == bare.explain(noise, LABELS).words


def test_a_single_clip_is_encoded_as_ever(bare, noise):
    one = next(bare.encode_videos(noise, batch_frames=256))
    np.testing.assert_array_equal(one.features, bare._on_devices.encode_frames(one.clip.frames))


def test_options_out_of_range_are_refused_by_the_call(bare, noise):
    for wrong, message in (
        (dict(batch_frames=0), "batch_frames=0`: expected 1 or more"),
        (dict(check="none"), "check: 'none', expected one of index, full"),
        (dict(workers=-1), "workers=-1`: expected 0 or more"),
    ):
        for call in (bare.stream, bare.predict, bare.encode_videos):
            with pytest.raises(UserError, match=message):
                call(noise, **({} if call == bare.encode_videos else {"labels": LABELS}), **wrong)
    with pytest.raises(UserError, match="unknown argument batch_frame: did you mean batch_frames"):
        bare.predict(noise, LABELS, batch_frame=3)


def check_company(model: Predictor, files, labels) -> None:
    """Packed features, scores and words against those of each video alone."""
    alone = list(model.stream(files, labels, runner_ups=0, deterministic=True))
    for size in (24, None):
        beside = list(model.stream(files, labels, runner_ups=0, batch_frames=size))
        for one, other in zip(alone, beside, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
            assert one.words == other.words
            assert one.video_token == other.video_token
    features = zip(
        model.encode_videos(files, deterministic=True), model.encode_videos(files), strict=True
    )
    for one, other in features:
        scale = np.abs(one.features).max()
        np.testing.assert_allclose(one.features, other.features, atol=1e-5 * scale)


@pytest.mark.slow
def test_the_tiny_clip_gives_the_same_words_in_company(tmp_path):
    files = [make_video(tmp_path / f"{n}.mp4", n, width=48 + 2 * n) for n in (3, 9, 20, 30)]
    model = load("tiny", devices=jax.devices()[:1])
    check_company(model, files, ["red striped circle", "blue plain square", "green star"])


@pytest.mark.slow
@pytest.mark.shared
def test_real_clips_get_the_same_words_in_company(shared_dir):
    with (shared_dir / "videos" / "labels.csv").open() as file:
        labels = [row[-1] for row in list(csv.reader(file))[1:]]
    files = [path for path in sorted((shared_dir / "videos").iterdir()) if path.suffix == ".mp4"]
    check_company(load("tiny", devices=jax.devices()[:1]), files, labels)
    check_company(of_full_width(), files, labels)


def of_full_width() -> Predictor:
    """A tower as wide as ViT-B/32's with random weights, and two of its twelve layers."""
    from support.helpers import random_state
    from vtd_jax.clip.weights.params import clip_from_state
    from vtd_jax.model.vtd_clip import VTDCLIP

    sizes = CLIPConfig.named("ViT-B/32").to_dict() | {"vision_layers": 2, "text_layers": 2}
    config = CLIPConfig.from_dict(sizes)
    none = ModelConfig(text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False)
    model = VTDCLIP(clip_from_state(config, random_state(config, 0)), none, rngs=nnx.Rngs(0))
    return Predictor(model, frames=16, cache=TextCache(None), devices=jax.devices()[:1])


@pytest.mark.mesh
def test_eight_devices_share_a_batch(noise):
    eight = Predictor(small_model(), frames=3, cache=TextCache(None))
    one = Predictor(eight.model, frames=3, cache=TextCache(None), devices=jax.devices()[:1])
    videos = [noise, noise[:5], noise[3:], noise[:1]] * 3
    # rounded up to a multiple of the devices
    assert eight._on_devices.batch_frames(9) == 16
    for size in (9, None):
        for found, expected in zip(
            eight.predict(videos, LABELS, batch_frames=size),
            one.predict(videos, LABELS, deterministic=True),
            strict=True,
        ):
            np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-5)


def test_failures_behind_a_started_batch_wait_in_a_bounded_number():
    drawn = 0

    def read():
        nonlocal drawn
        for clip in (*clips([3]), *[Failure("bad", UserError("bad"))] * 5000, *clips([2])):
            drawn += 1
            yield clip

    model = Counting()
    results = Packer(model, 8).encode(read())
    assert isinstance(next(results), Encoded)
    assert drawn <= packing.MOST_FAILURES + 1
    for taken, one in enumerate(results, start=1):
        assert drawn <= taken + packing.MOST_FAILURES + 1
        assert isinstance(one, Encoded if taken == 5001 else Failure)
    # every batch has the shape of a full one
    assert (model.started, model.encoded) == ([(3, 8), (2, 8)], [])
