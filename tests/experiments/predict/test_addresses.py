"""Videos at addresses as a command sees them: one line for each that fails, addresses in files."""

import ast
import csv
import json
import sys
from pathlib import Path

import jax
import pytest

from experiments.common import program
from experiments.predict import files, job
from experiments.predict.truth import read_truth
from support.hub.server import serving
from support.small_model import LABELS, small_model
from support.video_files import make_video
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.report.pages import video_key
from vtd_jax.video.lists.find import find_videos


@pytest.fixture(scope="module")
def model():
    about = dict(description="small", weights="0f", cache=TextCache(None))
    return Predictor(small_model(), frames=2, devices=jax.devices()[:1], **about)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    make_video(tmp_path / "made.mp4", 4)
    content = (tmp_path / "made.mp4").read_bytes()
    with serving() as found:
        found.files |= {f"/{LABELS[0]}/{name}.mp4": content for name in "ab"}
        yield found


def request(folder: Path, **changes) -> job.Request:
    fields = dict.fromkeys(("vocabulary", "frames", "window", "stride", "figures"))
    fields |= dict(labels=",".join(LABELS), top=2, threshold=0.25, restart=False)
    fields |= {"json": f"{folder}/out.json", "csv": f"{folder}/out.csv", "report": f"{folder}/r"}
    return job.Request(**(fields | changes))


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 1.0])
def test_a_dead_address_is_one_line_and_the_others_are_finished(
    model, server, tmp_path, capsys, window
):
    folder = f"{server.url}/{LABELS[0]}".replace(" ", "%20")
    addresses = [f"{folder}/a.mp4?key=SECRET", f"{folder}/gone.mp4", f"{folder}/a.mp4?key=OTHER"]
    videos = find_videos(addresses)
    asked = request(tmp_path / "new", window=window)
    asked.validate(videos)
    with pytest.raises(UserError, match=r"^1 of 3 videos could not be read .see above.; the oth"):
        job.run(asked, videos, model)
    said = capsys.readouterr()
    assert said.err.count(f"{folder}/gone.mp4: the server does not have it") == 1
    document = json.loads((tmp_path / "new/out.json").read_text())
    names = [video["video"] for video in document["videos"]]
    assert all(name.startswith(f"{folder}/a.mp4#") for name in names)
    assert len(set(names)) == 2
    assert [failed["video"] for failed in document["failed"]] == [f"{folder}/gone.mp4"]
    with (tmp_path / "new/out.csv").open() as rows:
        assert {row["video"] for row in csv.DictReader(rows)} == {*names, f"{folder}/gone.mp4"}
    written = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(written) == 5
    everything = said.out + "".join(path.read_text() for path in written)
    assert not any(word in everything for word in ("SECRET", "OTHER", str(tmp_path / "cache")))


@pytest.mark.slow
def test_a_run_resumes_by_addresses(model, server, tmp_path, monkeypatch, capsys):
    videos = find_videos([f"{server.url}/{LABELS[0]}/a.mp4?v={v}" for v in (1, 2)])
    finish, seen = job._finish, []

    def interrupted(run, video, *given):
        if seen:
            raise KeyboardInterrupt
        seen.append(video)
        return finish(run, video, *given)

    monkeypatch.setattr(job, "_finish", interrupted)
    with pytest.raises(KeyboardInterrupt, match="1 of 2 videos are finished"):
        job.run(request(tmp_path / "new"), videos, model)
    monkeypatch.setattr(job, "_finish", lambda *given: seen.append(given[1]) or finish(*given))
    job.run(request(tmp_path / "new"), videos, model)
    assert seen == videos
    assert "1 of 2 videos were finished before" in capsys.readouterr().err
    # a page is replaced by that of the same address, wherever the command is called
    monkeypatch.chdir(tmp_path)
    job.run(request(tmp_path / "new"), videos, model)
    assert len(list((tmp_path / "new/r").glob("a*.html"))) == 2


def test_known_labels_of_addresses(server, tmp_path):
    folder = f"{server.url}/{LABELS[0]}".replace(" ", "%20")
    videos = find_videos([f"{folder}/a.mp4", f"{folder}/gone.mp4"])
    assert read_truth("folders", videos, LABELS) == dict.fromkeys(videos, LABELS[0])
    (tmp_path / "truth.csv").write_text(f"{folder}/a.mp4,{LABELS[1]}\n")
    assert read_truth(f"{tmp_path}/truth.csv", videos, LABELS) == {videos[0]: LABELS[1]}


@pytest.mark.parametrize(
    "videos, folder, shown",
    [
        (["gs://b/c/d/1.mp4", "gs://b/c/2.mp4"], "gs://b/c", ["d/1.mp4", "2.mp4"]),
        (["https://a.b/1.mp4", "https://c.d/1.mp4"], "", ["https://a.b/1.mp4"]),
        (["gs://b/1.mp4", "s3://b/1.mp4"], "", ["gs://b/1.mp4"]),
        (["gs://b/1.mp4", "b/1.mp4"], "", ["gs://b/1.mp4", "b/1.mp4"]),
        (["/a/b/1.mp4", "/a/2.mp4"], "/a", ["b/1.mp4", "2.mp4"]),
        (["/a/b/1.mp4", "2.mp4"], "", ["/a/b/1.mp4", "2.mp4"]),
    ],
)
def test_the_folder_in_the_title_of_a_table(videos, folder, shown):
    assert files._common_folder(videos) == folder
    assert [files._from_folder(video, folder) for video in videos][: len(shown)] == shown


def test_a_page_is_of_an_address_wherever_a_command_runs(tmp_path, monkeypatch):
    before = video_key("https://a.b/c.mp4")
    monkeypatch.chdir(tmp_path)
    assert video_key("https://a.b/c.mp4") == before


@pytest.mark.parametrize(
    "command, text",
    [
        ("predict/__main__.py", "--video takes files, folders, globs and addresses (https://…"),
        ("predict/__main__.py", "file, folder, glob or address (https://…, gs://…)"),
        ("index.py", "FOLDER is a folder, a file, a glob, or an address (https://…"),
        ("search/__main__.py", "an example, a file or address (https://…)"),
        ("common/download_flag.py", "download weights, videos at addresses and data sets"),
    ],
)
def test_helps_mention_addresses(command, text):
    tree = ast.parse((program.FOLDER / command).read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert any(text in " ".join(one.split()) for one in texts if isinstance(one, str))


def test_the_command_in_records_has_no_passwords_and_keys(monkeypatch):
    given = ["--video=https://me:pa55@a.b/c.mp4?key=SECRET", "--video=gs://b/c?.mp4", "--top=3"]
    monkeypatch.setattr(sys, "argv", ["predict", *given])
    assert program.line().endswith("--video=https://a.b/c.mp4 '--video=gs://b/c?.mp4' --top=3")
