"""Plans leave packets out; the frames must be the very bits of a decode in order, for every kind of
stream.
"""

from itertools import pairwise

import numpy as np
import pytest

from support.streams.coded_files import (
    FRAMES,
    H264,
    HEIGHT,
    IN_ORDER,
    PLANNED,
    SKIPPING,
    VARIED,
    WIDTH,
    encode,
)
from vtd_jax.video import decode
from vtd_jax.video.codec import headers
from vtd_jax.video.codec import plan as decode_plan
from vtd_jax.video.decode import VideoError, decode_frames, probe, scan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All clips."""
    folder = tmp_path_factory.mktemp("streams")
    for name, (codec, options, more) in (PLANNED | IN_ORDER).items():
        encode(folder / name, codec, options, **more)
    return folder


def index_sets(frames: int):
    """Ends, all, evenly spaced, and many random choices."""
    rng = np.random.default_rng(frames)
    yield from ([0], [frames - 1], [frames - 1, 0], list(range(frames)))
    for count in (2, 4, 8, 16):
        yield ((2 * np.arange(count) + 1) * frames // (2 * count)).tolist()
    for _ in range(15):
        yield rng.integers(0, frames, rng.integers(1, 12)).tolist()


def everything(data: bytes):
    """All frames, and what the scan found."""
    frames, images = scan(data), []
    while True:
        try:
            images.append(next(frames)[1])
        except StopIteration as end:
            return np.stack(images), end.value


def check_exact(data: bytes, monkeypatch) -> tuple[int, int]:
    """Compares with a full decode; returns how often a plan worked out, and packets saved over all
    sets.
    """
    full, info = everything(data)
    assert info.damaged == 0
    assert len(np.unique(full.reshape(len(full), -1), axis=0)) == len(full), (
        "frames must differ to be distinguished"
    )
    worked, saved, plain = [], [], decode_plan.make_plan

    def watched(*arguments):
        plan = plain(*arguments)
        if plan is not None:
            saved.append(len(full) - len(plan.packets))
        return plan

    follow = decode._follow

    def followed(*arguments):
        yield from follow(*arguments)
        worked.append(1)

    monkeypatch.setattr(decode_plan, "make_plan", watched)
    monkeypatch.setattr(decode, "_follow", followed)
    for indices in index_sets(len(full)):
        frames = decode_frames(data, indices, known_frames=len(full))
        assert np.array_equal(frames, full[indices]), indices
    monkeypatch.undo()
    assert len(worked) == len(saved), "a plan that did not work out"
    return len(worked), sum(saved)


@pytest.mark.parametrize("name", PLANNED)
def test_plans_are_exact_and_save_packets(folder, name, monkeypatch):
    worked, saved = check_exact((folder / name).read_bytes(), monkeypatch)
    assert worked == len(list(index_sets(FRAMES)))
    assert saved > 0 or name in ("one.mp4", "refresh.mp4")


@pytest.mark.parametrize("name", IN_ORDER)
def test_other_streams_are_decoded_in_order(folder, name, monkeypatch):
    assert check_exact((folder / name).read_bytes(), monkeypatch) == (0, 0)


@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("animated.gif", 50, 2.0),
        ("one.mp4", 1, 0.04),
        ("one.webm", 1, 0.04),
        ("varied.mp4", 50, (VARIED[-1] - VARIED[0] + 1) / 25),
        ("repeats.avi", 50, (SKIPPING[-1] + 1) / 25),
        ("packed.avi", 50, 2.0),
    ],
)
def test_what_a_scan_finds(folder, name, frames, seconds):
    info = probe(folder / name)
    assert (info.frames, info.width, info.height, info.damaged) == (frames, WIDTH, HEIGHT, 0)
    assert info.duration == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize("name", ["packed.avi", "repeats.avi", "mpeg4_b.avi"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.75])
def test_truncated_avi_with_b_frames_or_repeats(folder, name, share):
    data = (folder / name).read_bytes()
    with pytest.raises(VideoError, match="truncated"):
        probe(data[: int(share * len(data))])


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_edit_lists_hide_frames(folder, cut, monkeypatch):
    data = bytearray((folder / "h264.mp4").read_bytes())
    place = data.index(b"elst") + 16
    start = int.from_bytes(data[place : place + 4], "big")
    data[place : place + 4] = (start + cut * 512).to_bytes(4, "big")
    assert len(list(scan(bytes(data)))) == FRAMES - cut
    check_exact(bytes(data), monkeypatch)


def test_timestamps_that_contradict_the_stream_give_no_plan(tmp_path, monkeypatch):
    def swapped(packets):
        reference, after = next((a, b) for a, b in pairwise(packets) if a.pts > b.pts)
        reference.pts, after.pts = after.pts, reference.pts
        return packets

    path = encode(
        tmp_path / "swapped.mp4", "libx264", {**H264, "b-pyramid": "none"}, change=swapped
    )
    assert check_exact(path.read_bytes(), monkeypatch) == (0, 0)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4_b.avi", "packed.avi", "short.mp4"])
def test_damage_is_reported_and_what_is_not_stays_exact(folder, name):
    """A damaged picture can change later ones that do not refer to it, so damaged files must be
    distinguished.
    """
    data = np.frombuffer((folder / name).read_bytes(), np.uint8)
    rng, message, compared = np.random.default_rng(5), 0, 0
    for _ in range(25):
        damaged = data.copy()
        places = rng.integers(len(data) // 10, len(data) * 8 // 10, 2)
        damaged[places] ^= (1 << rng.integers(0, 8, 2)).astype(np.uint8)
        try:
            full, info = everything(damaged.tobytes())
        except VideoError:
            continue
        message += info.damaged > 0
        if info.damaged:
            continue
        compared += 1
        for indices in index_sets(len(full)):
            frames = decode_frames(damaged.tobytes(), indices, known_frames=len(full))
            assert np.array_equal(frames, full[indices])
    assert message > 0
    assert compared > 0


@pytest.mark.parametrize("known", [1, 49, 51, 500])
def test_a_wrong_number_of_frames_changes_nothing(folder, known):
    data = (folder / "h264.mp4").read_bytes()
    assert np.array_equal(
        decode_frames(data, [7, 30], known_frames=known), decode_frames(data, [7, 30])
    )
    with pytest.raises(VideoError, match="frame 60 is wanted, but only 50 frames decode"):
        decode_frames(data, [60], known_frames=known)


def test_a_plan_that_does_not_work_out_is_dropped(folder, monkeypatch):
    data, plain = (folder / "h264.mp4").read_bytes(), decode_plan.make_plan

    def short(*arguments):
        plan = plain(*arguments)
        return decode_plan.Plan(plan.packets[:-1], plan.frames, plan.times)

    monkeypatch.setattr(decode_plan, "make_plan", short)
    assert np.array_equal(
        decode_frames(data, [7, 30], known_frames=FRAMES), decode_frames(data, [7, 30])
    )


def test_headers_that_end_early_or_are_unusual():
    assert headers.h264_units(b"", []) is None
    assert headers.h264_units(b"\x01\x64\0\x0d\xff\xe1\0\x02\x67\x64", []) is None
    assert headers.slice_heads(memoryview(b"\0\0\0\x09\x65"), 4) == []
    assert headers.slice_heads(memoryview(b"\0\0\0\x01\x67"), 4) == []
    assert headers.read_slice(b"\x65\xff", headers.Widths(4, 4)) is None


def test_the_picture_order_count_wraps():
    assert headers.unwrap(2, 16, 14, 16) == 32
    assert headers.unwrap(14, 16, 2, 16) == 0
    assert headers.unwrap(5, 16, 2, 16) == 16
