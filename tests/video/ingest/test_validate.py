"""The validator: every kind of bad entry, in one table and in a file."""

import csv
import json
import os
import shutil
from pathlib import Path

import av
import pytest

from support.video_files import make_audio, make_video, write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest import validate
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.validate import check_videos, describe, require_good


@pytest.fixture(scope="module")
def bad(clips, tmp_path_factory) -> BuildConfig:
    """A folder and a list with every kind of problem."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("left turn", "right turn"):
        (folder / name).mkdir()
    shutil.copy(clips / "one.mp4", folder / "good.mp4")
    shutil.copy(clips / "one.mp4", folder / "again.mp4")
    make_video(folder / "right turn" / "astray.mp4", 7)
    (folder / "cut.avi").write_bytes((clips / "two.avi").read_bytes()[:-4000])
    (folder / "cut.webm").write_bytes((clips / "three.webm").read_bytes()[:2000])
    (folder / "empty.mp4").touch()
    make_audio(folder / "sound.mp4")
    with av.open(str(folder / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    lines = [
        "good.mp4 0", "again.mp4 0", "right turn/astray.mp4 0", "cut.avi 0", "cut.webm 1",
        "empty.mp4 1", "sound.mp4 1", "none.avi 0", "gone.mp4 0", "good.mp4 0", "what is this",
        "good.mp4 7",
    ]  # fmt: skip
    pair = write_catalog(folder, lines)
    second = write_catalog(folder, ["good.mp4 1"], stem="second")
    lists = tuple((str(a), str(b)) for a, b in (pair, second))
    return BuildConfig("x", lists=lists, video_dir=str(folder))


EXPECTED = [
    ("unreadable", "list.txt:4", "cut.avi"),
    ("unreadable", "list.txt:5", "cut.webm"),
    ("unreadable", "list.txt:6", "empty.mp4"),
    ("unreadable", "list.txt:7", "sound.mp4"),
    ("no frames", "list.txt:8", "none.avi"),
    ("missing", "list.txt:9", "gone.mp4"),
    ("duplicate", "list.txt:10", "good.mp4"),
    ("malformed", "list.txt:11", "what is this"),
    ("mislabelled", "list.txt:12", "good.mp4"),
    ("mislabelled", "second.txt:1", "good.mp4"),
]


def short(problems) -> list[tuple[str, str, str]]:
    return [(p.kind, Path(p.where).name, p.file) for p in problems]


@pytest.mark.slow
def test_every_kind_is_found_in_order(bad):
    before = sorted(Path(bad.video_dir).rglob("*"))
    checked = check_videos(bad)
    assert short(checked.errors) == EXPECTED
    assert short(checked.warnings) == [
        ("duplicate", "list.txt:1", "good.mp4"),
        ("mislabelled", "list.txt:3", "right turn/astray.mp4"),
    ]
    reasons = {p.file: p.reason for p in checked.warnings}
    assert reasons["good.mp4"].startswith("the same bytes as again.mp4 (")
    assert reasons["right turn/astray.mp4"] == "listed as 'left turn', in a folder of 'right turn'"
    assert (checked.videos, checked.frames) == (8, 40 + 40 + 7)
    assert checked.seconds == pytest.approx(87 / 25, abs=0.1)
    assert describe(checked) == "checked 8 videos of 2 lists (list 9, second 1), 2 warnings"
    with pytest.raises(
        UserError,
        match="4 unreadable, 1 no frames, 1 missing, 1 duplicate, 1 malformed, 2 mislabelled",
    ):
        require_good(checked)
    assert sorted(Path(bad.video_dir).rglob("*")) == before


@pytest.mark.slow
def test_kinds_and_files(bad, tmp_path):
    checked = check_videos(bad)
    kinds = {(level, kind): (count, first.file) for level, kind, count, first in checked.kinds()}
    assert kinds == {
        ("error", kind): (
            sum(k == kind for k, *_ in EXPECTED),
            next(file for k, _, file in EXPECTED if k == kind),
        )
        for kind in dict.fromkeys(kind for kind, *_ in EXPECTED)
    } | {
        ("warning", "duplicate"): (1, "good.mp4"),
        ("warning", "mislabelled"): (1, "right turn/astray.mp4"),
    }
    assert [level for level, *_ in checked.kinds()][-2:] == ["warning"] * 2
    checked.save(tmp_path / "new" / "report.json")
    read = json.loads((tmp_path / "new" / "report.json").read_text())
    assert (read["videos"], read["lists"]) == (8, {"list": 9, "second": 1})
    assert [(p["level"], p["kind"]) for p in read["problems"]][:2] == [("error", "unreadable")] * 2
    checked.save(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [p["kind"] for p in read["problems"]]
    assert rows[-1]["level"] == "warning"


@pytest.mark.slow
def test_good_videos_have_no_problems(clips, good_lines, tmp_path):
    pair = tuple(map(str, write_catalog(tmp_path, good_lines)))
    checked = check_videos(BuildConfig("x", lists=(pair,), video_dir=str(clips)))
    assert (checked.kinds(), checked.errors, checked.warnings) == ([], (), ())
    require_good(checked)


def dies(folder, video, report):
    """Stands for a decoder that crashes on one file."""
    if video.file == "two.avi":
        os.abort()
    return validate.look(folder, video)


@pytest.mark.slow
def test_a_file_that_crashes_the_decoder_is_reported(clips, good_lines, tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "look", dies)
    pair = tuple(map(str, write_catalog(tmp_path, good_lines)))
    checked = check_videos(BuildConfig("x", lists=(pair,), video_dir=str(clips)))
    assert [(p.kind, p.file) for p in checked.errors] == [("unreadable", "two.avi")]
    assert "the process that decoded it died (signal SIGABRT)" in checked.errors[0].reason
    assert checked.frames == 40 + 45 + 5 + 20
