"""The predicting command: in this process on a small model, and as a command on real clips."""

import csv
import functools
import json
import os
import sys
import time
from pathlib import Path

import av
import jax
import numpy as np
import pytest

from experiments.predict import files, job
from support import small_run, warm
from support.small_model import LABELS, WORDS, small_model
from support.terminal import Terminal
from support.timed_files import stating, timed_video
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.console import progress, status
from vtd_jax.errors import UserError
from vtd_jax.predict.batching.options import How
from vtd_jax.predict.predictor import Predictor
from vtd_jax.scenes.render import render_still


@pytest.fixture(scope="module")
def model():
    settings = {"frames": 4, "description": "small", "cache": TextCache(None)}
    return Predictor(small_model(), **settings, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three good videos, and a bad one between them."""
    folder = tmp_path_factory.mktemp("videos")
    made = [
        make_video(folder / f"{name}.mp4", frames)
        for name, frames in (("a", 9), ("c", 50), ("綱引き", 30))
    ]
    (folder / "b.mp4").write_bytes(b"no video")
    return [made[0], folder / "b.mp4", *made[1:]]


def rows_of(path):
    """A CSV's rows by their columns."""
    return list(csv.DictReader(path.read_text().splitlines()))


def request(folder=None, **changes) -> job.Request:
    """What the flags' defaults ask for; with a folder, all files in it."""
    fields = dict.fromkeys(
        ("vocabulary", "frames", "window", "stride", "json", "csv", "report", "figures")
    )
    how = {"workers": 2} | {n: changes.pop(n) for n in How.__annotations__ if n in changes}
    fields |= dict(labels=",".join(LABELS), top=2, threshold=0.25, restart=False, how=how)
    if folder is not None:
        fields |= dict(
            json=f"{folder}/out.json", csv=f"{folder}/out.csv", report=f"{folder}/report"
        )
    return job.Request(**(fields | changes))


@pytest.mark.slow
def test_every_file_of_several_videos(model, videos, tmp_path, capsys):
    asked = request(
        tmp_path / "new", figures=str(tmp_path / "figures"), deterministic=True, check="full"
    )
    with pytest.raises(
        UserError,
        match=r"^1 of 4 videos could not be read.*wrote .*json",
    ):
        job.run(asked, videos, model)
    expected_text = capsys.readouterr()
    assert "b.mp4: cannot be read as a video" in expected_text.err
    assert "4 videos" in expected_text.out
    assert "note: " not in expected_text.err
    document = json.loads((tmp_path / "new/out.json").read_text())
    assert [video["video"] for video in document["videos"]] == [str(videos[i]) for i in (0, 2, 3)]
    assert document["failed"][0]["video"] == str(videos[1])
    assert document["about"]["labels"] == "5"
    results = model.explain([videos[0], videos[3]], LABELS, deterministic=True)
    for found, result in zip((document["videos"][0], document["videos"][2]), results):
        assert found == json.loads(json.dumps(result.to_dict(2)))
    rows = rows_of(tmp_path / "new/out.csv")
    assert [bool(row["error"]) for row in rows] == [False, True, False, False]
    assert (rows[3]["label_1"], float(rows[3]["score_1"])) == results[1].top()[0]
    assert len(rows[0]["words"].split(" | ")) == 4
    report = sorted(path.name for path in (tmp_path / "new/report").iterdir())
    assert report == sorted(["a.html", "c.html", "index.html", "綱引き.html"])
    assert "could not be read" in (tmp_path / "new/report/index.html").read_text()
    assert len(list((tmp_path / "figures").glob("*.p[nd][gf]"))) == 6


def test_an_interrupted_run_resumes_where_it_was(model, videos, tmp_path, monkeypatch):
    once, again = tmp_path / "once", tmp_path / "again"
    # the same bits, whichever videos are left
    asked = functools.partial(request, deterministic=True)
    with pytest.raises(UserError, match="1 of 4"):
        job.run(asked(once), videos, model)
    original, seen = job._finish, []

    def interrupted(run, video, result, name, ways):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(name)
        return original(run, video, result, name, ways)

    monkeypatch.setattr(job, "_finish", interrupted)
    with pytest.raises(
        KeyboardInterrupt, match=r"^2 of 4 videos are finished; the same command resumes$"
    ):
        job.run(asked(again), videos, model)
    assert sorted(path.name for path in again.iterdir()) == ["out.json.unfinished", "report"]
    # other settings are not mixed with what was finished
    with pytest.raises(UserError, match="another frames"):
        job.run(asked(again, frames=3), videos, model)
    for other in ({"check": "full"}, {"deterministic": False}):
        with pytest.raises(UserError, match=f"another {next(iter(other))};"):
            job.run(asked(again, **other), videos, model)
    monkeypatch.setattr(job, "_finish", lambda *given: seen.append(given[3]) or original(*given))
    with pytest.raises(UserError, match="1 of 4"):
        job.run(asked(again, batch_frames=3, workers=0), videos, model)
    assert seen == ["a", "b", "c", "綱引き"]
    for name in ("out.csv", "report/index.html", "report/c.html"):
        assert (again / name).read_text() == (once / name).read_text().replace(
            str(once), str(again)
        )
    assert json.loads((again / "out.json").read_text()) == json.loads(
        (once / "out.json").read_text()
    )
    assert sorted(path.name for path in again.iterdir()) == ["out.csv", "out.json", "report"]


@pytest.mark.slow
def test_a_terminal_is_reported_of_every_wait(model, videos, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    original = job._results

    def looked_at(*given):
        status._SHOWN.live.refresh()
        # a job of less than 0.2 s has no line
        time.sleep(0.3)
        yield from original(*given)

    monkeypatch.setattr(job, "_results", looked_at)
    # the last line stays of jobs that take longer
    monkeypatch.setattr(progress, "SHORT", 0.0)
    with pytest.raises(UserError, match="1 of 4"):
        job.run(request(tmp_path, report=None), videos, model)
    lines = terminal.lines()
    assert any(
        "encoding the labels, compiling  and reading the first video" in line for line in lines
    )
    assert all(len(line) < 70 for line in lines if not line.startswith("skipped "))
    assert any(line.startswith("skipped ") and "b.mp4" in line for line in lines)
    assert any(line.startswith("predict: 4 of 4 videos, ") for line in lines)


@pytest.mark.slow
def test_windows_make_segments(model, videos, tmp_path, capsys):
    asked = request(tmp_path, window=1.0, frames=4, figures=str(tmp_path / "figures"))
    line = job.run(asked, [videos[2]], model)
    assert line.startswith("1 video: wrote ")
    video = json.loads((tmp_path / "out.json").read_text())["videos"][0]
    assert video["segments"]
    assert video["windows"][-1]["end"] == pytest.approx(2.0, abs=0.1)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["label"] for row in rows] == [segment["label"] for segment in video["segments"]]
    assert "segments" in capsys.readouterr().out
    assert (tmp_path / "report/c.html").is_file()
    assert (tmp_path / "figures/c.pdf").is_file()


@pytest.mark.parametrize("window", [None, 1.0])
def test_what_is_odd_about_a_file_is_reported_in_every_output(model, tmp_path, capsys, window):
    video = timed_video(tmp_path / "lo\x1bng.webm", 25)
    video.write_bytes(stating(video.read_bytes(), "webm", 3.0))
    job.run(request(tmp_path / "out", window=window), [video], model)
    note = "frames end at 1.00 s of 3.00 s (25 decode), but the file is whole"
    assert f"lo\\x1bng.webm: {note}" in capsys.readouterr().err
    (result,) = json.loads((tmp_path / "out" / "out.json").read_text())["videos"]
    assert result["note"].startswith(note)
    assert result["duration"] == 1
    (page,) = (
        path for path in (tmp_path / "out" / "report").glob("*.html") if path.stem != "index"
    )
    assert f"<br>F{note[1:]}" in page.read_text()


@pytest.mark.slow
def test_a_vocabulary_file_names_the_frames(model, videos, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    asked = request(json=str(tmp_path / "out.json"), vocabulary=str(tmp_path / "words.txt"))
    job.run(asked, videos[:1], model)
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["about"]["frames named by"] == f"12 words of {tmp_path / 'words.txt'}"
    assert {pair["word"] for words in document["videos"][0]["words"] for pair in words} <= set(
        WORDS
    )
    assert "video token: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_single_label_is_noted(model, videos, capsys):
    job.run(request(labels="hugging arm wrestling"), videos[:1], model)
    expected_text = (
        "note: --labels: 'hugging arm wrestling' is a single label, so that it scores 100 % in "
        "every video; "
    )
    assert capsys.readouterr().err.count(expected_text) == 1


@pytest.mark.slow
def test_ten_thousand_labels(model, videos, tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"label number {i}\n" for i in range(10_000)))
    model = Predictor(
        small_model(), frames=2, cache=TextCache(tmp_path / "cache"), devices=jax.devices()[:1]
    )
    asked = request(labels=str(tmp_path / "labels.txt"), csv=str(tmp_path / "out.csv"))
    job.run(asked, videos[:1], model)
    assert rows_of(tmp_path / "out.csv")[0]["label_2"].startswith("label number ")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"stride": 2.0}, "--stride=2.0: is for windows"),
        ({"window": 4.0, "stride": 9.0}, "--stride=9.0: expected seconds"),
        ({"json": "out.txt"}, r"--json=out.txt: the name must end in \.json"),
        ({"csv": "folder.csv"}, "--csv=folder.csv: is a folder"),
        ({"report": "file"}, "--report=file: is a file"),
        ({"window": 4.0, "batch_frames": 8}, "--batch_frames=8: is for whole videos"),
        ({"restart": True}, "--restart: there is nothing to throw away"),
    ],
)
def test_what_does_not_combine_is_reported(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.csv").mkdir()
    Path("file").touch()
    with pytest.raises(UserError, match=message):
        request(**changes).validate([])


def test_pages_of_videos_of_one_name():
    names = files.page_names(
        [Path("a/x.mp4"), Path("b/X.avi"), Path("x.mov"), Path("index.mp4"), Path(".mp4")]
    )
    assert list(names.values()) == ["x", "X_2", "x_3", "index_2", ".mp4"]
    # what an interrupted run has written is not written over
    assert files.page_names([Path("c/x.mp4")], ["x", "X_2"]) == {Path("c/x.mp4"): "x_3"}


def test_what_the_terminal_says_of_several_videos(capsys):
    found = {
        "label": "and[/or] this",
        "score": 0.5,
        "top": [{"label": "x", "score": 0.5}, {"label": ":car:", "score": 0.25}],
    }
    good = {"video": "a/[bold].mp4", "result": {"video": "a/[bold].mp4", **found}}
    files.show([good, {"video": "a/b.mp4", "error": "damaged"}], 2, 2)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "2 videos of a; 1 could not be read"
    files.show([good, {"video": "b/b.mp4", "error": "damaged"}], 2, 2)
    assert capsys.readouterr().out.startswith("2 videos; 1 could not be read\n")
    assert lines[2].split("  ")[0] == " video"
    assert lines[4] == " [bold].mp4  and[/or] this     50.00  :car: 25.0 %"
    files.show([good] * 2, 2, 2)
    files.show([good] * 2, 60, 2)
    expected_text = capsys.readouterr().out
    assert "2 videos of a\n" in expected_text
    assert "The first 2 of 60 videos of a\n" in expected_text


# the command, and then the most memory that its process ever had, in GB
MEASURED = """
import resource, sys
from experiments.common import cli
from experiments.predict import __main__ as predict
sys.argv[0] = "predict"
try:
    cli.run(predict.main, predict.__doc__)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.command
def test_two_hours_of_video_within_two_gigabytes(tmp_path):
    labels = ("red solid circle", "blue striped star", "green dotted cross")
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for minute in range(120):
            image = av.VideoFrame.from_ndarray(render_still(labels[minute // 40], rng), "rgb24")
            for _ in range(60):
                image.pts = None
                container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    flags = [f"--video={tmp_path / 'long.mp4'}", f"--labels={','.join(labels)}", "--window=320"]
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags(), PYTHONPATH=str(small_run.ROOT))
    outputs = [f"--json={tmp_path / 'out.json'}", f"--report={tmp_path / 'report'}"]
    done = warm.run(["-c", MEASURED, *flags, *outputs], environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 2
    found = json.loads((tmp_path / "out.json").read_text())["videos"][0]
    assert found["duration"] == pytest.approx(7200, abs=1)
    assert len(found["windows"]) == 44
    for third, label in enumerate(labels):
        middle = 2400 * third + 1200
        assert any(
            s["start"] < middle < s["end"] and s["label"] == label
            for s in found["segments"]
            if s["best"]
        )


@pytest.mark.command
@pytest.mark.shared
def test_real_clips_as_a_command(shared_dir, tmp_path):
    done = small_run.command(
        "predict",
        f"--video={shared_dir / 'videos'}",
        f"--video={shared_dir / 'videos' / '*.mp4'}",
        "--labels=arm wrestling,hugging,applying makeup,綱引き",
        "--frames=8",
        f"--json={tmp_path / 'out.json'}",
        f"--report={tmp_path / 'report'}",
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()[-1]
        == f"7 videos: wrote {tmp_path / 'out.json'}, {tmp_path / 'report/index.html'}"
    )
    assert "--model=tiny knows coloured" in done.stderr
    index = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "<p class=notice role=note>The small CLIP of this package knows coloured" in index
    assert "<dt>command</dt><dd><bdi>python -m experiments.predict --video=" in index
    document = json.loads((tmp_path / "out.json").read_text())
    kinds = [Path(video["video"]).suffix for video in document["videos"]]
    assert kinds == [".mp4", ".avi", *[".mp4"] * 5]
    assert len(list((tmp_path / "report").glob("*.html"))) == 8
