"""What `experiments.predict` leaves: with any file names, on a full disk, with known labels, run
after run.
"""

import csv
import errno
import json
import os
import resource
import shutil
import threading
from pathlib import Path

import jax
import pytest

from experiments.common import runs
from experiments.configs import scenes, video_folder
from experiments.predict import files as _predict_files
from experiments.predict import job
from experiments.predict.truth import read_truth
from support.small_model import LABELS, small_model
from support.video_files import make_video
from vtd_jax import terminal
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.toy import toy_note
from vtd_jax.errors import UserError
from vtd_jax.predict.journal import Journal
from vtd_jax.predict.predictor import Predictor
from vtd_jax.report.html import link
from vtd_jax.report.pages import earlier_pages, video_key
from vtd_jax.train.config import RunConfig

ODD = (
    os.fsdecode(b"caf\xe9.mp4"),
    "=cmd.mp4",
    "12:30.mp4",
    "L" * 241 + ".mp4",
    "\x1b[31m.mp4",
    "plain.mp4",
)


@pytest.fixture(scope="module")
def model():
    return Predictor(
        small_model(),
        frames=2,
        description="small",
        weights="0f",
        cache=TextCache(None),
        devices=jax.devices()[:1],
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("video") / "one.mp4", 4)


@pytest.fixture
def odd(video, tmp_path):
    """Videos of names that are hard to write, and a broken one."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ODD:
        shutil.copy(video, folder / name)
    (folder / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"no video")
    return sorted(folder.iterdir())


def request(folder: Path, **changes) -> job.Request:
    fields = dict.fromkeys(("vocabulary", "frames", "window", "stride", "figures"))
    fields |= dict(labels=",".join(LABELS), top=2, threshold=0.25, restart=False)
    fields |= dict(json=f"{folder}/out.json", csv=f"{folder}/out.csv", report=f"{folder}/report")
    return job.Request(**(fields | changes))


def pages(folder: Path) -> dict[str, str]:
    """Page to video, of a report."""
    return {entry.page: entry.video for entry in earlier_pages(folder)}


def test_names_of_any_bytes_go_through(model, odd, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"^1 of 7 videos could not be read"):
        job.run(request(out, command="predict caf\udce9.mp4", date="today"), odd, model)
    expected_text = capsys.readouterr()
    assert r"caf\xe9.mp4" in expected_text.out
    assert r"bad\xff.mp4: cannot be read as a video" in expected_text.err
    document = json.loads((out / "out.json").read_bytes().decode("utf-8"))
    json.dumps(document, ensure_ascii=False).encode("utf-8")
    names = [Path(video["video"]).name for video in document["videos"]]
    assert sorted(names) == sorted([r"caf\xe9.mp4", *ODD[1:]])
    assert document["failed"][0]["video"].endswith(r"bad\xff.mp4")
    assert document["about"]["weights"] == "0f"
    with (out / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["video"]).name for row in rows} == {*names, r"bad\xff.mp4"}
    report = out / "report"
    assert all(len(os.fsencode(page)) <= 130 and page.isprintable() for page in pages(report))
    assert sorted(pages(report).values()) == sorted(video["video"] for video in document["videos"])
    assert {"caf_.html", "12_30.html", "_[31m.html"} <= set(pages(report))
    text = (report / "caf_.html").read_text(encoding="utf-8")
    assert r"<h1><bdi>caf\xe9.mp4</bdi></h1>" in text
    assert r"predict caf\xe9.mp4" in text
    assert "How this was made · today" in text
    assert "<dt>weights</dt><dd><bdi>0f</bdi></dd>" in text


def test_a_rerun_knows_names_of_any_bytes(model, odd, tmp_path, monkeypatch):
    out, original, seen = tmp_path / "out", job._finish, []

    def interrupted(run, video, *rest):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(video)
        return original(run, video, *rest)

    monkeypatch.setattr(job, "_finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.run(request(out), odd, model)
    assert (out / "out.json.unfinished").read_bytes().decode("utf-8").count("\n") == 5
    monkeypatch.setattr(
        job, "_finish", lambda run, video, *rest: seen.append(video) or original(run, video, *rest)
    )
    with pytest.raises(UserError, match="1 of 7"):
        job.run(request(out), odd, model)
    assert seen == odd
    assert len(json.loads((out / "out.json").read_text())["videos"]) == 6


def test_pages_lead_past_videos_that_cannot_be_read(model, odd, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="1 of 7"):
        job.run(request(out), odd, model)
    order = [
        page
        for video in odd
        for page, key in keys(out / "report").items()
        if key == video_key(str(video))
    ]
    assert len(order) == 6
    for i, page in enumerate(order):
        text = (out / "report" / page).read_text(encoding="utf-8")
        nav = text[text.index("<nav") : text.index("</nav>")]
        before, after = order[i - 1] if i else "", order[i + 1] if i < 5 else ""
        assert nav.count("<a rel=") == bool(before) + bool(after)
        assert not before or f'<a rel=prev href="{link(before)}">' in nav
        assert not after or f'<a rel=next href="{link(after)}">' in nav


def keys(folder: Path) -> dict[str, str]:
    return {entry.page: entry.key for entry in earlier_pages(folder)}


def test_a_report_of_several_runs(model, video, tmp_path):
    report, files = tmp_path / "report", []
    for name in ("a/x.mp4", "b/x.mp4", "c/X.mp4", "c/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        files.append(Path(shutil.copy(video, tmp_path / name)))
    only = dict(json=None, csv=None)
    job.run(request(tmp_path, **only), files[:1], model)
    job.run(request(tmp_path, **only), files[1:], model)
    found = {page: Path(path).relative_to(tmp_path) for page, path in pages(report).items()}
    assert found == {
        "x.html": Path("a/x.mp4"),
        "x_2.html": Path("b/x.mp4"),
        "X_3.html": Path("c/X.mp4"),
        "y.html": Path("c/y.mp4"),
    }
    # the same video has the same page again, whatever else is requested
    before = pages(report)
    job.run(request(tmp_path, **only), files[2:3], model)
    assert pages(report) == before
    index = (report / "index.html").read_text(encoding="utf-8")
    assert [index.count(f'href="{page}"') for page in before] == [1] * 4
    assert index.count("<span class=earlier>") == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_names_the_file_and_the_rerun_resumes(
    number, model, odd, tmp_path, monkeypatch
):
    out, videos = tmp_path / "out", [path for path in odd if b"\xff" not in os.fsencode(path)][:3]
    if number == errno.EFBIG:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        job.run(request(tmp_path / "once", report=None), videos[:1], model)
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
        try:
            with pytest.raises(OSError, match="File too large") as caught:
                job.run(request(out), videos, model)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        name = out / "report" / "_[31m.html"
    else:
        real, name = os.replace, out / "out.csv"

        def full(source, target):
            if target == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left") as caught:
            job.run(request(out), videos, model)
        monkeypatch.undo()
    assert caught.value.filename == str(name)
    assert not [path for path in out.rglob("*") if ".part" in path.name]
    line = job.run(request(out), videos, model)
    assert line.startswith("3 videos: wrote ")
    assert len(json.loads((out / "out.json").read_text())["videos"]) == 3
    assert sorted(path.name for path in out.iterdir()) == ["out.csv", "out.json", "report"]


def test_outputs_are_checked_before_anything_is_loaded(video, tmp_path):
    for flag in ("json", "csv", "report", "figures"):
        ending = f".{flag}" if flag in ("json", "csv") else ""
        with pytest.raises(
            UserError,
            match=f"^--{flag}={video}/x{ending}: {video} is a file, and nothing can be below it",
        ):
            request(tmp_path, **{flag: f"{video}/x{ending}"}).validate([video])


@pytest.fixture
def sorted_videos(video, tmp_path):
    """Three videos in the folders of their labels."""
    files = []
    for name in ("arm_wrestling/a.mp4", "Hugging/b.mp4", "hugging/a.mp4"):
        (tmp_path / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        files.append(Path(shutil.copy(video, tmp_path / "classes" / name)))
    return files


def test_truth_goes_everywhere(model, sorted_videos, tmp_path, capsys, monkeypatch):
    # and so does the warning of a toy
    monkeypatch.setattr(
        job, "toy_note", lambda config: f"a toy of {config.image_resolution} pixels"
    )
    job.run(request(tmp_path / "out", truth="folders"), sorted_videos, model)
    assert "truth" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/out.json").read_text())["videos"]
    assert [one["truth"] for one in found] == ["arm wrestling", "hugging", "hugging"]
    rows = list(csv.DictReader((tmp_path / "out/out.csv").read_text().splitlines()))
    assert [row["truth"] for row in rows] == [one["truth"] for one in found]
    right = sum(one["truth"] == one["label"] for one in found)
    index = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert f"{right} of 3 videos with a known label are right" in index
    for page in ("index", "a", "a_2", "b"):
        text = (tmp_path / f"out/report/{page}.html").read_text(encoding="utf-8")
        assert "<p class=notice role=note>A toy of 32 pixels.</p>" in text
    assert [entry.truth for entry in earlier_pages(tmp_path / "out/report")] == [
        "arm wrestling",
        "hugging",
        "hugging",
    ]
    Journal(tmp_path / "out/out.json.unfinished", {}).close()
    with pytest.raises(UserError, match=r"another .* truth,"):
        job.run(request(tmp_path / "out", truth="folders"), sorted_videos, model)


def test_truth_from_a_file(sorted_videos, tmp_path):
    labels = ("arm wrestling", "hugging")
    listed = tmp_path / "truth.csv"
    listed.write_text(
        'file,label\nclasses/arm_wrestling/a.mp4,Arm_wrestling\n"classes/hugging/a.mp4",hugging\nb.mp4,hugging\n'
    )
    assert list(read_truth(str(listed), sorted_videos, labels).values()) == [
        "arm wrestling",
        "hugging",
        "hugging",
    ]
    # two videos of one name: the name is not enough
    listed.write_text("a.mp4,hugging\nclasses/Hugging/b.mp4,arm wrestling\n")
    with pytest.raises(
        UserError, match=r"truth\.csv: 'a\.mp4' is the name of 2 videos; write their paths"
    ):
        read_truth(str(listed), sorted_videos, labels)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a.mp4,running\n", r"truth\.csv:1: 'running' is none of the 2 labels"),
        ("file,label\na.mp4\n", r"truth\.csv:2: expected 2 fields, file,label"),
        ("a.mp4,hugging\n./a.mp4,hugging\n", r"truth\.csv:2: './a\.mp4' is listed before"),
        ("", r"truth\.csv: no rows"),
        ("z.mp4,hugging\n", r"none of the videos is in it; it begins with 'z\.mp4'"),
    ],
)
def test_bad_truth_is_refused(text, message, sorted_videos, tmp_path):
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_truth(str(tmp_path / "truth.csv"), sorted_videos, ("arm wrestling", "hugging"))
    with pytest.raises(
        UserError, match=r"--truth=list\.txt: expected 'folders', or a file ending in \.csv"
    ):
        read_truth("list.txt", sorted_videos, ("arm wrestling",))
    with pytest.raises(UserError, match=r"b\.mp4: 'Hugging' is none of the 1 labels"):
        read_truth("folders", sorted_videos, ("arm wrestling",))


def test_a_toy_is_called_one(capsys):
    assert "coloured, textured shapes only" in toy_note(CLIPConfig.tiny())
    assert toy_note(CLIPConfig.vit_b16()) == ""

    def noted(config, clip):
        holder = type("Holder", (), {"clip": type("Clip", (), {"config": clip})})
        runs.note_toy(RunConfig.from_dict(config.to_dict()), holder)
        return capsys.readouterr().err

    assert noted(video_folder.get_config(), CLIPConfig.tiny()).startswith(
        "note: clip.path=tiny: the small CLIP of this"
    )
    assert noted(video_folder.get_config(), CLIPConfig.vit_b16()) == ""
    assert noted(scenes.get_config(), CLIPConfig.tiny()) == ""


def test_names_are_unique_and_stable():
    videos = [Path("a") / ("L" * 240 + end) for end in ("1.mp4", "2.mp4")]
    names = _predict_files.page_names(videos)
    assert names == _predict_files.page_names(videos)
    assert len(set(names.values())) == 2


def test_a_video_that_takes_long_is_named_once(capsys, monkeypatch):
    said = threading.Event()

    def say(text, file):
        terminal.say(text, file)
        said.set()

    def results():
        yield 1
        assert said.wait(60)
        yield 2

    monkeypatch.setattr(_predict_files, "say", say)
    monkeypatch.setattr(_predict_files, "_SLOW", 1000)
    expected_text = _predict_files.slow_told(
        [Path("a.mp4"), Path("b.mp4"), Path("c.mp4")], results()
    )
    assert next(expected_text) == 1
    with monkeypatch.context() as quick:
        quick.setattr(_predict_files, "_SLOW", 0.05)
        assert next(expected_text) == 2
    assert list(expected_text) == []
    assert capsys.readouterr().err == "b.mp4: not finished after 0.05 s, still working on it\n"
