"""What `experiments.predict` writes over: its own files, and nothing else."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import pytest
from flax import nnx

from experiments.predict import job
from support.small_model import LABELS, small_model
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError
from vtd_jax.locks import locked_outputs
from vtd_jax.model.saved.fingerprint import legacy_weights_fingerprint
from vtd_jax.predict.journal import Journal
from vtd_jax.predict.predictor import Predictor
from vtd_jax.report.figure_files import is_figure
from vtd_jax.report.pages import earlier_pages, is_index


@pytest.fixture(scope="module")
def model():
    cache = TextCache(None)
    return Predictor(
        small_model(),
        frames=2,
        description="small",
        weights="0f",
        cache=cache,
        devices=jax.devices()[:1],
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("clip") / "one.mp4", 4)


@pytest.fixture
def videos(clip, tmp_path):
    (tmp_path / "videos").mkdir()
    return [Path(shutil.copy(clip, tmp_path / "videos" / f"{name}.mp4")) for name in "ab"]


def request(**changes) -> job.Request:
    fields = dict.fromkeys(
        ("vocabulary", "frames", "window", "stride", "json", "csv", "report", "figures")
    )
    fields |= dict(labels=",".join(LABELS), top=2, threshold=0.25, restart=False)
    return job.Request(**(fields | changes))


def test_no_output_is_an_input(videos, tmp_path):
    for name in ("labels.csv", "words.csv", "truth.csv", "model.json", "v.json"):
        (tmp_path / name).write_text("x")
    os.link(tmp_path / "labels.csv", tmp_path / "same.csv")
    given = dict(
        labels=f"{tmp_path}/labels.csv",
        vocabulary=f"{tmp_path}/words.csv",
        truth=f"{tmp_path}/truth.csv",
        inputs=[("--model=m", f"{tmp_path}/model.json"), ("--video=videos", f"{tmp_path}/videos")],
    )
    (tmp_path / "videos" / "classes.csv").write_text("id,name")
    for flag, name, message in (
        ("csv", "labels.csv", "is --labels="),
        ("csv", "same.csv", "is --labels="),
        ("csv", "words.csv", "is --vocabulary="),
        ("csv", "truth.csv", "is --truth="),
        ("json", "model.json", "is --model=m"),
        ("json", "v.json", "is one of the videos"),
        ("csv", "videos/classes.csv", "a file of --video=videos that this command did not write"),
    ):
        with pytest.raises(UserError, match=rf"^--{flag}=.*{name}: .*{message}"):
            request(**given, **{flag: f"{tmp_path}/{name}"}).validate(
                [*videos, tmp_path / "v.json"]
            )
    for flag in ("json", "csv", "report", "figures"):
        with pytest.raises(UserError, match=rf"^--{flag}=: "):
            request(**{flag: ""}).validate(videos)


@pytest.mark.slow
def test_what_it_wrote_is_written_again_in_the_folder_of_the_videos(videos, model):
    folder = videos[0].parent
    asked = request(
        json=f"{folder}/o.json", csv=f"{folder}/o.csv", report=str(folder), figures=str(folder)
    )
    asked = dataclasses.replace(asked, inputs=[("--video=videos", folder)])
    for _ in range(2):
        asked.validate(videos)
        job.run(asked, videos, model)
    names = [
        "a.html",
        "a.mp4",
        "a.pdf",
        "a.png",
        "b.html",
        "b.mp4",
        "b.pdf",
        "b.png",
        "index.html",
        "o.csv",
        "o.json",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    for path in folder.iterdir():
        assert is_figure(path) == (path.suffix in (".png", ".pdf"))
        assert is_index(path) == (path.name in ("index.html", "a.html", "b.html"))


@pytest.mark.slow
def test_pages_and_figures_of_others_stay(videos, model, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    foreign = {
        "a.html": "<!doctype html><title>mine</title>",
        "b.png": "a photograph",
        "a_2.pdf": "%PDF-1.4 thesis",
    }
    for name, text in foreign.items():
        (folder / name).write_text(text)
    job.run(request(report=str(folder), figures=str(folder)), videos, model)
    assert {name: (folder / name).read_text() for name in foreign} == foreign
    assert [entry.page for entry in earlier_pages(folder)] == ["a_3.html", "b_2.html"]
    assert {"a_3.png", "a_3.pdf", "b_2.png", "b_2.pdf"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["foreign", "link", "folder", "pipe"])
def test_an_index_of_others_is_refused_before_anything_runs(videos, tmp_path, kind):
    index = tmp_path / "site" / "index.html"
    index.parent.mkdir()
    (tmp_path / "victim").write_text("<h1>precious</h1>")
    if kind == "foreign":
        index.write_text("<!doctype html>\n<h1>my site</h1>")
    elif kind == "link":
        index.symlink_to(tmp_path / "victim")
    elif kind == "folder":
        index.mkdir()
    else:
        os.mkfifo(index)
    with pytest.raises(
        UserError, match=r"^--report=.*site: has an index\.html that is not of a report"
    ):
        request(report=str(index.parent)).validate(videos)


def test_an_index_of_an_earlier_version_is_known(tmp_path):
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta '
        'http-equiv="Content-Security-Policy" '
    )
    policy = (
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        "'sha256-x'\">"
    )
    (tmp_path / "index.html").write_text(head + policy)
    assert is_index(tmp_path / "index.html")


def test_two_at_once_in_one_output(videos, model, tmp_path):
    for flag, name, is_folder in (("json", "o.json", False), ("report", "r", True)):
        asked = request(json=f"{tmp_path}/o.json", report=f"{tmp_path}/r")
        with locked_outputs([(f"--{flag}", tmp_path / name, is_folder)]):
            with pytest.raises(
                UserError,
                match=rf"^--{flag}=.*{name}: process {os.getpid()} on .* is writing there",
            ):
                job.run(asked, videos, model)
            assert not (tmp_path / "o.json.unfinished").exists()
    assert job.run(asked, videos, model).startswith("2 videos: wrote")


def _interrupted(asked, videos, model, monkeypatch) -> Path:
    """Stops after the first video; returns the journal."""
    original, seen = job._finish, []

    def stop(run, video, *rest):
        if seen:
            raise KeyboardInterrupt
        seen.append(video)
        return original(run, video, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(job, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            job.run(asked, videos, model)
    return asked.journal


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../x"},
        {"name": "index"},
        {"name": 3},
        {"page": {"page": "../site/victim.html"}},
        {"page": {"score": float("1e999")}},
        {"page": {"thumbnail": "http://127.0.0.1/x.jpg"}},
        {"ways": ["../a.html", ""]},
        {"ways": ["a.html"]},
        {"result": {"top": []}},
        {"result": {"label": 3}},
        {"result": {"words": [[]]}},
        {"result": {"video_token": None}},
        {"result": 3},
        {"error": []},
        {"truth": 3},
    ],
    ids=str,
)
def test_lines_of_a_stranger_write_nothing_elsewhere(videos, model, tmp_path, monkeypatch, change):
    """A journal whose checksums fit, as anybody can make one."""
    asked = request(json=f"{tmp_path}/o.json", report=f"{tmp_path}/r")
    path = _interrupted(asked, videos, model, monkeypatch)
    first, line = (json.loads(text) for text in path.read_text().splitlines())
    for key, value in change.items():
        line[key] = line[key] | value if isinstance(value, dict) else value
    path.unlink()
    (tmp_path / "site").mkdir()
    page = tmp_path / "site" / "victim.html"
    page.write_text("<nav class=ways></nav>")
    if change == {"page": {"score": float("1e999")}}:
        monkeypatch.setattr("vtd_jax.predict.journal._text", lambda value: json.dumps(value))
    with Journal(path, first["job"]) as journal:
        journal.add(
            line.pop("video"), **{key: value for key, value in line.items() if key != "sum"}
        )
    monkeypatch.undo()
    with pytest.raises(
        UserError, match=r"o\.json\.unfinished:2: .*; give --restart to begin again"
    ):
        job.run(asked, videos, model)
    assert page.read_text() == "<nav class=ways></nav>"
    assert job.run(dataclasses.replace(asked, restart=True), videos, model).startswith(
        "2 videos: wrote"
    )


def test_a_damaged_journal_names_its_line(videos, model, tmp_path, monkeypatch):
    asked = request(json=f"{tmp_path}/o.json")
    path = _interrupted(asked, videos, model, monkeypatch)
    text = path.read_text()
    path.write_text(text.replace('"score": 0.', '"score": 1.', 1))
    assert path.read_text() != text
    with pytest.raises(
        UserError,
        match=r"o\.json\.unfinished:2: damaged: .*checksum.*--restart",
    ):
        job.run(asked, videos, model)
    path.write_text(text)
    assert job.run(asked, videos, model).startswith("2 videos: wrote")


def test_a_journal_of_an_earlier_version_is_resumed(videos, tmp_path, monkeypatch):
    message = "run (step 3 of small, config %s)"
    cache = TextCache(None)
    model = Predictor(
        small_model(),
        frames=2,
        description=message % "149fc4c32f0b90ce",
        weights="b2937bd798a328ef",
        cache=cache,
        devices=jax.devices()[:1],
    )
    asked = request(json=f"{tmp_path}/o.json")
    path = _interrupted(asked, videos, model, monkeypatch)
    first, line = (json.loads(text) for text in path.read_text().splitlines())
    weights = legacy_weights_fingerprint(nnx.state(model.model))

    def left(**earlier):
        path.unlink(missing_ok=True)
        with Journal(path, first["job"] | earlier) as journal:
            journal.add(
                line["video"], **{key: line[key] for key in line if key not in ("video", "sum")}
            )

    for other in ({"weights": "00000000"}, {"model": message % "149fc4c32f0c"}):
        left(**{"weights": weights, "model": message % "149fc4c32f0b", **other})
        with pytest.raises(UserError, match=f"another {next(iter(other))}"):
            job.run(asked, videos, model)
    # as version 0.1.0 spelled them, and without a word on preprocessing, which was the release's
    for later in ("preprocess", "check", "deterministic"):
        del first["job"][later]
    left(weights=weights, model=message % "149fc4c32f0b")
    assert job.run(asked, videos, model).startswith("2 videos: wrote")
    assert not path.exists()
    about = json.loads((tmp_path / "o.json").read_text())["about"]
    assert about["preprocess"] == "release: unsmoothed bilinear, short side 37, crop 32"
    own = Predictor(
        small_model(normalization="clip"), frames=2, cache=cache, devices=jax.devices()[:1]
    )
    own.model.preprocess = "clip"
    first["job"] |= {"model": "", "weights": "", "normalization": "clip"}
    left()
    with pytest.raises(UserError, match="of an interrupted run with another preprocess;"):
        job.run(asked, videos, own)
