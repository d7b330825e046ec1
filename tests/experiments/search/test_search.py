"""`experiments.search`: what it prints and writes, and what it refuses."""

import csv
import json

import pytest

from experiments.search import outputs
from support import small_run
from support.video_files import make_video
from vtd_jax.errors import UserError
from vtd_jax.retrieval.index import Hit, Index

pytestmark = pytest.mark.command


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The index of four clips beside `clips/`."""
    folder = tmp_path_factory.mktemp("search")
    for number in range(4):
        (folder / "clips").mkdir(exist_ok=True)
        make_video(folder / "clips" / f"{number}.mp4", 5 + 9 * number)
    Index.build(folder / "index", [folder / "clips"], "tiny", frames=4)
    return folder / "index"


def _run(*arguments):
    done = small_run.command("search", *map(str, arguments))
    return done.returncode, done.stdout, done.stderr


def test_texts_and_their_files(index, tmp_path):
    files = [f"--json={tmp_path / 'f.json'}", f"--csv={tmp_path / 'f.csv'}"]
    status, said, _ = _run(index, "red circle", "a blue star", "--top=2", *files)
    assert status == 0
    assert said.splitlines()[-1] == (
        f"4 videos searched: wrote {tmp_path / 'f.json'}, {tmp_path / 'f.csv'}"
    )
    assert f"red circle, in {index.parent / 'clips'}" in said
    found = json.loads((tmp_path / "f.json").read_text())
    expected = Index.open(index).search(["red circle", "a blue star"], 2)
    assert [one["query"] for one in found["queries"]] == ["red circle", "a blue star"]
    for one, hits in zip(found["queries"], expected, strict=True):
        assert [clip["video"] for clip in one["clips"]] == [hit.video for hit in hits]
        assert one["clips"][0]["score"] == pytest.approx(hits[0].score, abs=1e-5)
    assert found["about"]["model"].startswith("tiny")
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["query"], row["rank"]) for row in rows] == [
        ("red circle", "1"), ("red circle", "2"), ("a blue star", "1"), ("a blue star", "2"),
    ]  # fmt: skip
    # its own files are replaced
    assert _run(index, "red circle", *files)[0] == 0


def test_an_example_and_words(index):
    status, said, _ = _run(
        index, f"--video={index.parent / 'clips' / '2.mp4'}", "--vocabulary=red star,blue circle"
    )
    assert status == 0
    first = next(line.split() for line in said.splitlines() if line.startswith(" 1 "))
    assert first[1:3] == ["2.mp4", "1"]
    assert first[4] in ("red", "blue")


def test_labels_write_what_predict_writes(index, tmp_path):
    labels = "--labels=red circle,blue star,green square"
    status, said, _ = _run(
        index, labels, "--top=3", f"--json={tmp_path / 'a.json'}", f"--csv={tmp_path / 'a.csv'}"
    )
    assert status == 0
    assert f"4 videos of {index.parent / 'clips'}" in said
    done = small_run.command(
        "predict", f"--video={index.parent / 'clips'}", labels, "--top=3", "--frames=4",
        "--model=tiny", f"--json={tmp_path / 'b.json'}", f"--csv={tmp_path / 'b.csv'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    for ours, theirs in zip(one["videos"], other["videos"], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("video", "label", "frames", "seconds", "total_frames", "duration", "labels"):
            assert ours[name] == theirs[name]
        scores = ({pair["label"]: pair["score"] for pair in each["top"]} for each in (ours, theirs))
        assert next(scores) == pytest.approx(next(scores), abs=2e-3)
    heads = [(tmp_path / name).read_text().splitlines()[0] for name in ("a.csv", "b.csv")]
    assert heads[0] == heads[1]


def test_without_files_and_checked(index):
    status, said, _ = _run(index, "--labels=red circle,blue star")
    assert status == 0
    assert said.endswith("4 videos searched\n")
    assert _run(index, "--check")[1] == f"{index}: 4 videos, all files are as they were written\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "expected INDEX [QUERY] […], got nothing"),
        (["INDEX"], "expected one of these: texts behind the index"),
        (["INDEX", "a", "--labels=a,b"], "expected one of these"),
        (["none", "a"], "none: not an index: there is no such folder; python -m experiments.index"),
        (["INDEX", "a", "--clip=tiny"], "--clip=tiny: is for a tuned file"),
        (["INDEX", "a", "a"], "texts: 'a' is there twice"),
        (["INDEX", "a", "--json=x.txt"], "--json=x.txt: the name must end in .json"),
        (["INDEX", "a", "--json=INDEX/index.json"], "exists, a file of the index"),
        (["INDEX", "a", "--pooling=softmax_mean"], "--pooling=softmax_mean: compares labels"),
        (["INDEX", "a", "--pooling=softmax_mean"], "give --pooling=confidence or --pooling=mean"),
        (["INDEX", "a", "--preprocess=clip"], "unknown flag --preprocess"),
    ],
)
def test_mistakes_are_one_line(arguments, said, index):
    status, out, errors = _run(*(text.replace("INDEX", str(index)) for text in arguments))
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert (status, out, len(lines)) == (2, "", 1)
    assert said in lines[0]


def test_names_that_act_on_a_terminal_are_shown_escaped(capsys, tmp_path):
    hit = Hit("/a/=\x1b[31m.mp4", 0.5, 1.0, 3, 2.0)
    outputs.show([outputs.Answer("=x\x1b[2J", [hit])], 3)
    assert "\x1b" not in capsys.readouterr().out
    files = outputs.Files(tmp_path / "a.json", tmp_path / "a.csv")
    files.write([outputs.Answer("=x", [hit])], {"index": "i"})
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("'=x,1,")
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        files.check([("the index", tmp_path)])
