"""Cut files are found, wherever the cut is; a header that says too much is no cut, and is noted."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from support.timed_files import index_first, stating, timed_video, with_edits
from support.video_files import write_catalog
from vtd_jax.video.clip import read_clip
from vtd_jax.video.codec import structure
from vtd_jax.video.decode import VideoError, probe, scan
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.validate import check_videos, require_good

# name: format, how it is made, what is done to its bytes
FILES = {
    "last.mp4": {},
    "web.mp4": {"change": index_first},
    "trimmed.mp4": {"change": lambda data: index_first(with_edits(data, [(1.16, 0.44)]))},
    "sound.mp4": {
        "sound": 2.0,
        "change": lambda data: index_first(with_edits(data, [(1.16, 0.44)])),
    },
    "web.mov": {"change": index_first},
    "plain.webm": {},
    "sound.webm": {"sound": 1.6},
    "plain.mkv": {},
    "mpeg4.avi": {"sound": 1.6},
    "h264.avi": {"sound": 1.6, "codec": "libx264"},
    "plain.flv": {},
    "sound.flv": {"sound": 1.6},
}
# nothing in these says how much there was
OPEN = {
    "plain.ts": {},
    "sound.ts": {"sound": 1.6},
    "plain.mpg": {},
    "raw.h264": {},
    "pieces.mp4": {},
    "live.webm": {},
}
OPTIONS = {"pieces.mp4": {"movflags": "frag_keyframe+empty_moov"}, "live.webm": {"live": "1"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of all files, 40 frames each; the trimmed ones show 29 of them."""
    folder, made = tmp_path_factory.mktemp("whole"), {}
    for name, settings in (FILES | OPEN).items():
        settings = dict(settings)
        change = settings.pop("change", bytes)
        made[name] = change(
            timed_video(folder / name, 40, **settings, **OPTIONS.get(name, {})).read_bytes()
        )
    return made


def check_cuts(data: bytes, name: str, frames: int) -> None:
    """Cuts a file anywhere: it is found, or lacks two frames beside a damaged one, which is let
    pass without a note.
    """
    found = 0
    for place in np.linspace(0.02, 0.98, 24):
        try:
            info = probe(data[: int(len(data) * place)], name)
        except VideoError:
            found += 1
            continue
        assert (info.frames + info.damaged >= frames - 2, info.note) == (True, ""), place
    assert found >= 16


@pytest.mark.parametrize("name", FILES)
def test_whole_files_have_nothing_to_note_and_every_cut_is_found(files, name):
    info = probe(files[name], name)
    assert (info.frames, info.note) == (29 if name in ("trimmed.mp4", "sound.mp4") else 40, "")
    check_cuts(files[name], name, info.frames)


@pytest.mark.parametrize("name", OPEN)
def test_cuts_of_formats_that_promise_nothing_are_never_noted_as_whole(files, name):
    whole = probe(files[name], name)
    assert (whole.frames, whole.note) == (40, "")
    for place in np.linspace(0.02, 0.98, 12):
        try:
            info = probe(files[name][: int(len(files[name]) * place)], name)
        except VideoError:
            continue
        assert (info.frames <= 40, info.note) == (True, "")


@pytest.mark.slow
def test_a_trimmed_and_truncated_mp4_is_found_by_all(files, tmp_path):
    data = files["trimmed.mp4"]
    cut = data[: int(0.9 * len(data))]
    with pytest.raises(VideoError, match=r"only \d+ of 29 frames are there; the file is truncated"):
        probe(cut)
    with pytest.raises(VideoError, match="of 29 frames"):
        list(scan(cut, ()))
    (tmp_path / "cut.mp4").write_bytes(cut)
    with pytest.raises(VideoError, match="of 29 frames"):
        read_clip(tmp_path / "cut.mp4", 4, 32)
    pair = tuple(map(str, write_catalog(tmp_path, ["cut.mp4 0"])))
    checked = check_videos(BuildConfig("x", lists=(pair,), video_dir=str(tmp_path)))
    assert [(problem.kind, problem.file) for problem in checked.errors] == [
        ("unreadable", "cut.mp4")
    ]


STATED = [
    "plain.webm",
    "sound.webm",
    "plain.mkv",
    "mpeg4.avi",
    "h264.avi",
    "plain.flv",
    "sound.flv",
]


@pytest.mark.parametrize("name", STATED)
def test_a_header_that_says_too_much_is_noted_and_cuts_are_still_found(files, name):
    data, plain = stating(files[name], name.split(".")[1], 3.0), probe(files[name], name)
    info = probe(data, name)
    assert "but the file is whole: its header says more than it was made of" in info.note
    assert (info.frames, info.duration) == (plain.frames, plain.duration)
    for place in np.linspace(0.02, 0.98, 24):
        with pytest.raises(VideoError):
            probe(data[: int(len(data) * place)], name)


@pytest.mark.parametrize("name", STATED)
def test_a_file_with_a_hole_is_not_called_whole(files, name):
    """In the middle, as long as a few packets."""
    data = bytearray(stating(files[name], name.split(".")[1], 3.0))
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    with pytest.raises(VideoError, match="truncated or damaged"):
        probe(bytes(data), name)


def test_tables_of_an_mp4_that_contradict_each_other_are_damage(files):
    """An edit list that shows more than there is says nothing of the file; a table of times that
    lacks samples does.
    """
    long = with_edits(files["last.mp4"], [(1.6, 0.44)])
    assert "the file is whole" in probe(long).note
    data = bytearray(long)
    at = data.index(b"stts") + 12
    assert int.from_bytes(data[at : at + 4], "big") == 40
    data[at : at + 4] = int.to_bytes(30, 4, "big")
    with pytest.raises(VideoError, match="truncated or damaged"):
        probe(bytes(data))


@pytest.mark.parametrize("name", [*FILES, *OPEN])
def test_no_damage_breaks_the_check_itself(files, name):
    form = {"mp4": "mov,mp4", "mov": "mov,mp4", "mkv": "matroska,webm", "webm": "matroska,webm"}
    ending, rng = name.split(".")[1], np.random.default_rng(0)
    stream = SimpleNamespace(index=0, frames=-1, index_entries=())
    decoder = SimpleNamespace(
        container=SimpleNamespace(format=SimpleNamespace(name=form.get(ending, ending))),
        stream=stream,
        clock=SimpleNamespace(packets=-1),
    )
    data = np.frombuffer(files[name], np.uint8)
    for _ in range(60):
        damaged = data.copy()
        damaged[rng.integers(0, min(len(data), 3000), 5)] = rng.integers(0, 256, 5)
        assert not structure.complete(
            damaged[: rng.integers(len(data) // 2, len(data) + 1)].tobytes(), decoder
        )


@pytest.mark.slow
def test_what_is_odd_is_seen(files, tmp_path):
    (tmp_path / "long.webm").write_bytes(stating(files["plain.webm"], "webm", 3.0))
    assert "4.80 s" in read_clip(tmp_path / "long.webm", 4, 32).note
    pair = tuple(map(str, write_catalog(tmp_path, ["long.webm 0"])))
    checked = check_videos(BuildConfig("x", lists=(pair,), video_dir=str(tmp_path)))
    require_good(checked)
    assert [(problem.kind, problem.file) for problem in checked.warnings] == [
        ("header", "long.webm")
    ]
    checked.save(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["level"], row["kind"]) == ("warning", "header")
    assert "its header says more" in row["reason"]


def test_a_fragmented_file_that_ends_within_a_fragment_is_found(files):
    data = files["pieces.mp4"]
    first, index = data.index(b"moof") + 8, data.index(b"mfra") - 4
    for place in np.linspace(first, index - 1, 12, dtype=int):
        with pytest.raises(VideoError):
            probe(data[:place], "cut.mp4")
    with pytest.raises(
        VideoError, match=r"^cut\.mp4: ends within a fragment \(40 frames decode\)|39 frames"
    ):
        probe(data[: index - 1], "cut.mp4")
    # an index that is cut is of no matter; nothing shows fragments that would have followed
    assert {probe(part, "whole.mp4").note for part in (data, data[: index + 9], data[:index])} == {
        ""
    }
