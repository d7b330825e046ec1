"""Times and durations are of what is shown: edit lists, files whose times start again, pictures
that stay.
"""

import re
import shutil
import subprocess

import numpy as np
import pytest

from support.timed_files import RATE, number, timed_video, with_edits
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.codec import clock
from vtd_jax.video.decode import VideoError, header, length, probe, reading


def shown(path, noted: bool = False) -> tuple[list[int], list[float], float]:
    """Numbers of the pictures as they are shown, their seconds, and the duration."""
    with reading(path) as video:
        found = [(number(video.image(frame)), seconds) for _, seconds, frame in video]
        info = video.info()
    assert bool(info.note) == noted
    return [which for which, _ in found], [seconds for _, seconds in found], info.duration


def ffmpeg_times(path) -> list[float] | None:
    """Times of the frames that the ffmpeg command shows, from the first on; None where there is no
    ffmpeg.
    """
    if shutil.which("ffmpeg") is None:
        return None
    command = [
        "ffmpeg",
        "-v",
        "info",
        "-i",
        str(path),
        "-map",
        "0:v:0",
        "-vf",
        "showinfo",
        "-f",
        "null",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    times = [float(time) for time in re.findall(r"pts_time:\s*([-\d.]+)", done.stderr)]
    return [time - times[0] for time in times]


def check(path, numbers, times, duration, noted: bool = False) -> None:
    """Pictures, seconds and duration as they should be, and ffmpeg's, where it is there to ask."""
    found = shown(path, noted)
    assert found[0] == list(numbers)
    np.testing.assert_allclose(found[1], times, atol=2e-3)
    assert found[2] == pytest.approx(duration, abs=2e-3)
    asked = ffmpeg_times(path)
    if asked is not None:
        np.testing.assert_allclose(asked, times, atol=2e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 frames (1.6 s) as MP4, with and without sound that lasts until 2.4 s."""
    folder = tmp_path_factory.mktemp("timed")
    timed_video(folder / "plain.mp4", 40)
    timed_video(folder / "sound.mp4", 40, sound=2.4)
    timed_video(folder / "plain.mov", 40)
    return folder


# seconds of every edit and where it begins in the media; the pictures that it shows
EDITS = {
    "whole": ([(1.6, 0.0)], range(40)),
    "from the middle of a group": ([(1.16, 0.44)], range(11, 40)),
    "a part": ([(0.6, 0.44)], range(11, 26)),
    "late": ([(0.5, None), (1.6, 0.0)], range(40)),
    "late and from the middle": ([(0.5, None), (1.16, 0.44)], range(11, 40)),
    "late and from a keyframe": ([(3.0, None), (0.8, 0.8)], range(20, 40)),
    "longer than the media": ([(9.0, 0.0)], range(40)),
    "longer than what is left": ([(1.6, 0.44)], range(11, 40)),
    "two parts": ([(0.4, 0.0), (0.4, 0.8)], [*range(10), *range(20, 30)]),
    "the same twice": ([(0.4, 0.4), (0.4, 0.4)], [*range(10, 20)] * 2),
}


@pytest.mark.parametrize(
    ("file", "edits"),
    [
        *(("plain.mp4", edits) for edits in EDITS),
        ("plain.mov", "two parts"),
        ("sound.mp4", "from the middle of a group"),
        ("sound.mp4", "late and from a keyframe"),
    ],
)
def test_edit_lists(folder, tmp_path, file, edits):
    path = tmp_path / file
    path.write_bytes(with_edits((folder / file).read_bytes(), EDITS[edits][0]))
    numbers = list(EDITS[edits][1])
    check(
        path,
        numbers,
        np.arange(len(numbers)) / RATE,
        len(numbers) / RATE,
        noted=edits == "longer than what is left",
    )
    assert header(path)[0] == len(numbers)
    clip = read_clip(path, len(numbers), 32)
    assert [number(image) for image in clip.frames] == numbers
    moments = list(frames_at(path, 0.2, 32))
    assert [moment.index for moment in moments] == [i for i in range(2, 40, 5) if i < len(numbers)]


def test_what_a_header_states_of_an_edited_file(folder, tmp_path):
    (tmp_path / "part.mp4").write_bytes(
        with_edits((folder / "sound.mp4").read_bytes(), [(0.6, 0.44)])
    )
    assert length(tmp_path / "part.mp4") == pytest.approx(0.6, abs=0.01)
    assert length(folder / "sound.mp4") == pytest.approx(1.6, abs=0.01)


def joined(tmp_path, ending, offsets, **settings):
    """Files of 20 frames, their times moved, joined byte by byte."""
    parts = [
        timed_video(tmp_path / f"{i}.{ending}", 20, offset=at, **settings)
        for i, at in enumerate(offsets)
    ]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(
    ("offsets", "sound"),
    [
        ([0, 0, 0], 0.0),
        ([0, 0, 0], 0.8),
        ([0, 500], 0.0),
        ([0, 500], 0.8),
        ([500, 0], 0.8),
        ([0, 20, 5], 0.0),
        ([0, 40_000, 0], 0.8),
        ([95442.0], 0.8),
        ([95442.0, 100], 0.0),
        ([95442.0, 95442.0], 0.8),
    ],
)
def test_joined_transport_streams(tmp_path, offsets, sound):
    path, count = joined(tmp_path, "ts", offsets, sound=sound), 20 * len(offsets)
    check(path, [*range(20)] * len(offsets), np.arange(count) / RATE, count / RATE)
    assert header(path)[0] == count
    assert length(path) == 0
    moments = list(frames_at(path, 0.2, 32))
    assert [moment.index for moment in moments] == [5 * i + 2 for i in range(count // 5)]


@pytest.mark.parametrize("offsets", [[0, 0, 0], [0, 500], [500, 0]])
def test_joined_program_streams(tmp_path, offsets):
    path, count = joined(tmp_path, "mpg", offsets, sound=0.8), 20 * len(offsets)
    check(path, [*range(20)] * len(offsets), np.arange(count) / RATE, count / RATE)


@pytest.mark.parametrize("ending", ["webm", "mkv"])
def test_joined_matroska_is_shown_to_its_end(tmp_path, ending):
    """The ffmpeg command lets the second part run at the times of the first."""
    found = shown(joined(tmp_path, ending, [0, 0]))
    assert found[0] == [*range(20)] * 2
    np.testing.assert_allclose(found[1], np.arange(40) / RATE, atol=2e-3)
    assert found[2] == pytest.approx(1.6, abs=2e-3)


def test_a_damaged_time_in_matroska_is_no_new_start(tmp_path):
    data = bytearray(timed_video(tmp_path / "one.mkv", 50, cluster_time_limit="400").read_bytes())
    ids = [
        match.end()
        for match in re.finditer(rb"\x1f\x43\xb6\x75.{1,8}?\xe7\x82", bytes(data), re.DOTALL)
    ]
    assert len(ids) >= 3
    moved = data.copy()
    data[ids[1] : ids[1] + 2] = moved[ids[2] : ids[2] + 2] = int.to_bytes(100, 2, "big")
    (tmp_path / "one.mkv").write_bytes(data)
    assert probe(tmp_path / "one.mkv").duration == pytest.approx(2.0)
    with pytest.raises(VideoError, match=r"frames end at 1\.48 s of 2\.00 s"):
        probe(bytes(moved))


HELD = [*(np.arange(10) / RATE), *(60 + np.arange(10) / RATE)]
SLIDES = [0, 15, 30, 45, 60, 75]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "flv", "webm"])
def test_a_picture_that_stays_for_a_minute(tmp_path, ending):
    path = timed_video(tmp_path / f"held.{ending}", HELD)
    check(path, range(20), HELD, 60.4)
    assert [moment.index for moment in frames_at(path, 10.0, 32)] == [9] * 6


def test_in_a_transport_stream_a_picture_stays_while_the_sound_continues(tmp_path):
    found = shown(timed_video(tmp_path / "held.ts", HELD, sound=61))
    np.testing.assert_allclose(found[1], HELD, atol=2e-3)
    # B-frames that are decoded before it show as much
    found = shown(timed_video(tmp_path / "silent.ts", HELD))
    np.testing.assert_allclose(found[1], HELD, atol=2e-3)
    # else nothing distinguishes it from a new start, which ffmpeg takes it for
    found = shown(timed_video(tmp_path / "alone.ts", HELD, bf="0"))
    np.testing.assert_allclose(found[1], np.arange(20) / RATE, atol=2e-3)


def test_slides_in_a_transport_stream(tmp_path):
    found = shown(timed_video(tmp_path / "slides.ts", SLIDES))
    np.testing.assert_allclose(found[1], SLIDES, atol=2e-3)
    assert found[2] >= 75


@pytest.mark.parametrize("ending", ["mkv", "flv", "webm"])
def test_a_time_days_ahead_is_damage(tmp_path, ending):
    path = timed_video(tmp_path / f"far.{ending}", [0, 0.04, 0.08, 400_000, 400_000.04], bf="0")
    found = shown(path)
    np.testing.assert_allclose(found[1], np.arange(5) / RATE, atol=2e-3)
    assert found[2] == pytest.approx(0.2, abs=2e-3)


def test_an_avi_with_b_frames_has_steady_times(tmp_path):
    path = timed_video(tmp_path / "b.avi", 40, codec="libx264", sound=1.6)
    numbers, times, duration = shown(path)
    assert numbers == list(range(40))
    np.testing.assert_allclose(times, np.arange(40) / RATE, atol=1e-9)
    assert duration == pytest.approx(1.6)


@pytest.mark.parametrize("rate", [25, 20])
def test_a_raw_stream_has_the_rate_of_its_headers(tmp_path, rate):
    path = timed_video(tmp_path / "raw.h264", 40, rate=rate)
    check(path, range(40), np.arange(40) / rate, 40 / rate)
    assert probe(path).fps == rate


def test_frames_without_a_time_continue_by_the_rate(tmp_path, monkeypatch):
    """Such as the sixth and seventh of eight."""
    plain = clock.Clock.frame
    path = timed_video(tmp_path / "one.mp4", 8)

    def untimed(self, frame):
        if self._count in (5, 6):
            frame.pts = None
        return plain(self, frame)

    monkeypatch.setattr(clock.Clock, "frame", untimed)
    np.testing.assert_allclose(shown(path)[1], np.arange(8) / RATE, atol=1e-9)
