import json
import os
import re
import resource
from typing import Annotated, TypedDict

import pytest
from msgspec import Meta

from vtd_jax.errors import UserError
from vtd_jax.predict.journal import Journal

JOB = {"model": "m", "labels": 3}


def test_what_was_finished_is_there_again(tmp_path):
    path = tmp_path / "new" / "out.unfinished"
    journal = Journal(path, JOB)
    journal.add("綱引き.mp4", result={"score": 0.5})
    journal.add("b.mp4", error="b.mp4: no")
    journal.close()
    again = Journal(path, JOB)
    assert again.done == {"綱引き.mp4", "b.mp4"}
    again.add("c.mp4", result={})
    assert [entry["video"] for entry in again.entries()] == ["綱引き.mp4", "b.mp4", "c.mp4"]
    assert next(again.entries()) == {"video": "綱引き.mp4", "result": {"score": 0.5}}
    again.remove()
    assert not path.exists()


def test_half_a_line_of_a_killed_run_is_cut_off_wherever_it_ends(tmp_path):
    path = tmp_path / "out.unfinished"
    journal = Journal(path, JOB)
    journal.add("a.mp4", result={"word": "é"})
    journal.add("b.mp4", result={"word": "é"})
    journal.close()
    whole = path.read_bytes()
    first = whole.index(b"\n", whole.index(b"a.mp4")) + 1
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        again = Journal(path, JOB)
        assert again.done == ({"a.mp4"} if end >= first else set())
        if end < first:
            again.add("a.mp4", result={"word": "é"})
        again.add("b.mp4", result={"word": "é"})
        again.close()
        assert path.read_bytes() == whole


def test_names_of_any_bytes(tmp_path):
    names = [os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4", "caf\u00e9.mp4"]
    with Journal(tmp_path / "j", JOB) as journal:
        for name in names[:2]:
            journal.add(name, error="b", label="\ud83d")
    assert r"caf\\xe9.mp4" in (tmp_path / "j").read_bytes().decode("utf-8")
    with Journal(tmp_path / "j", JOB) as again:
        assert again.done == set(names[:2])
        assert [entry["video"] for entry in again.entries()] == names[:2]


def test_a_full_disk_names_the_journal_and_leaves_whole_lines(tmp_path):
    path, before = tmp_path / "j", resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path, JOB)
    journal.add("a.mp4", result={})
    whole = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            journal.add("b.mp4", result={})
        journal.close()
        assert (caught.value.filename, path.read_bytes(), journal.done) == (
            str(path),
            whole,
            {"a.mp4"},
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
        with pytest.raises(OSError, match="File too large"):
            Journal(tmp_path / "new" / "deep" / "j", JOB)
        assert not (tmp_path / "new").exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_another_job_is_refused_unless_reported(tmp_path):
    path = tmp_path / "out.unfinished"
    journal = Journal(path, JOB)
    journal.add("a.mp4", result={})
    journal.close()
    with pytest.raises(UserError, match=r"out\.unfinished: .*another labels;"):
        Journal(path, JOB | {"labels": 4})
    again = Journal(path, JOB | {"labels": 4}, restart=True)
    assert again.done == set()
    again.close()
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("text", ["no json", "no json\n", "[1]\n", '{"other": 1}\n'])
def test_a_file_of_another_kind_is_left_alone(tmp_path, text):
    path = tmp_path / "out.unfinished"
    path.write_text(text)
    for restart in (False, True):
        with pytest.raises(UserError, match=r"not the journal.*`restart`.*move it away"):
            Journal(path, JOB, restart)
    assert path.read_text() == text


@pytest.fixture
def left(tmp_path):
    """The journal of an interrupted run: the job and three videos."""
    with Journal(tmp_path / "j", JOB) as journal:
        for name in "abc":
            journal.add(f"{name}.mp4", result={"score": 0.5})
    return tmp_path / "j"


def _lines(path, edit):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(edit(lines)))
    return path.read_bytes()


@pytest.mark.parametrize(
    "edit, number",
    [
        (lambda lines: [*lines[:2], lines[2].replace(b"0.5", b"0.9"), lines[3]], 3),
        (lambda lines: [*lines[:2], b"not JSON\n", lines[3]], 3),
        (lambda lines: [*lines[:2], b"\n", lines[3]], 3),
        (lambda lines: [*lines[:2], b"\0" * 40 + b"\n", lines[3]], 3),
        (lambda lines: [*lines[:2], lines[2][:20] + b"\n", lines[3]], 3),
        (lambda lines: [*lines[:2], lines[2].replace(b'"sum": "', b'"sum": "0'), lines[3]], 3),
        (lambda lines: [*lines[:2], b"[" * 100_000 + b"\n", lines[3]], 3),
        # lost, twice, moved
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [*lines[:3], lines[3].replace(b"c.mp4", b"d.mp4")], 4),
    ],
)
def test_a_damaged_line_is_named_with_what_to_do(left, edit, number):
    text = _lines(left, edit)
    with pytest.raises(
        UserError, match=rf"j:{number}: damaged: .*checksum.*; give `restart` to begin"
    ) as error:
        Journal(left, JOB)
    assert left.read_bytes() == text
    assert ("to keep the" in str(error.value)) == (number > 2)
    with Journal(left, JOB, restart=True) as again:
        assert again.done == set()


def test_what_is_cut_off_before_the_damage_is_kept(left):
    _lines(left, lambda lines: lines[:3])
    with Journal(left, JOB) as again:
        assert again.done == {"a.mp4", "b.mp4"}
        again.add("c.mp4", result={"score": 0.5})
        assert len(list(again.entries())) == 3


def test_a_tail_of_zeros_after_a_power_cut_is_half_a_line(left):
    with left.open("ab") as file:
        file.write(b"\0" * 4096)
    with Journal(left, JOB) as again:
        assert len(again.done) == 3
    assert left.read_bytes().endswith(b"}\n")


def _older(path, *lines, job=JOB):
    path.write_text("".join(json.dumps(line) + "\n" for line in ({"job": job}, *lines)))


def test_a_journal_of_an_older_version_resumes_with_a_warning_and_gets_checksums(tmp_path, capsys):
    path = tmp_path / "j"
    _older(path, {"video": "a.mp4", "score": 0.5}, {"video": "b?", "bytes": "62ff", "score": 1})
    with path.open("a") as file:
        file.write('{"video": "c')
    with Journal(path, JOB, kind=_Line) as journal:
        assert journal.done == {"a.mp4", os.fsdecode(b"b\xff")}
        journal.add("c.mp4", score=0.25)
    warned = capsys.readouterr().err
    assert warned.count("\n") == 1
    assert re.search(r"/j: .*older version.*without checksums", warned)
    with Journal(path, JOB, kind=_Line) as again:
        assert [entry["score"] for entry in again.entries()] == [0.5, 1, 0.25]
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path) == ["j"]


@pytest.mark.parametrize(
    "line, message",
    [
        ({"video": "b.mp4", "score": "1"}, r"j:3: score: .*; give `restart`"),
        ({"video": "", "score": 1}, r"j:3: names no video; give `restart`"),
        ([], r"j:3: .*; give `restart`"),
        # the first line had a checksum, and lost it
        (
            {"video": "b.mp4", "score": 1, "sum": "0" * 16},
            r"j:1: damaged: .*checksum.*; give `restart`",
        ),
    ],
)
def test_lines_of_an_older_version_are_of_their_type(tmp_path, line, message):
    path = tmp_path / "j"
    _older(path, {"video": "a.mp4", "score": 0.5}, line)
    text = path.read_bytes()
    with pytest.raises(UserError, match=message):
        Journal(path, JOB, kind=_Line)
    assert path.read_bytes() == text
    assert os.listdir(tmp_path) == ["j"]


def test_a_journal_of_an_older_version_is_of_the_same_job_or_empty(tmp_path, capsys):
    _older(tmp_path / "j", {"video": "a.mp4"}, job={"other": 1})
    with pytest.raises(UserError, match=r"another labels|another .*other"):
        Journal(tmp_path / "j", JOB)
    _older(tmp_path / "j", job={"other": 1})
    with Journal(tmp_path / "j", JOB) as journal:
        assert journal.done == set()
    assert capsys.readouterr().err == ""
    with Journal(tmp_path / "j", JOB):
        pass


@pytest.mark.parametrize(
    "edit",
    [
        lambda line: line.replace(b'"job": {"', b'"job": {"x'),
        lambda line: b"\0" * 8 + line[8:],
        lambda line: b"no JSON at all\n",
        lambda line: line[:-20] + b"\n",
        lambda line: line[: line.index(b', "sum"')] + b"}\n",
    ],
)
def test_a_damaged_first_line_is_no_mistake_of_the_users(left, edit):
    text = _lines(left, lambda lines: [edit(lines[0]), *lines[1:]])
    with pytest.raises(
        UserError, match=r"j:1: damaged: .*checksum.*; give `restart` to begin again$"
    ):
        Journal(left, JOB)
    assert left.read_bytes() == text
    with Journal(left, JOB, restart=True) as again:
        assert again.done == set()


class _Line(TypedDict):
    video: str
    score: Annotated[float, Meta(ge=0)]


@pytest.mark.parametrize(
    "fields", [{}, {"score": "1"}, {"score": -1}, {"score": None}, {"score": 10**400}]
)
def test_lines_are_of_their_type_whatever_wrote_them(tmp_path, fields):
    with Journal(tmp_path / "j", JOB) as journal:
        journal.add("a.mp4", **fields)
    with pytest.raises(UserError, match=r"j:2: .*; give `restart`"):
        Journal(tmp_path / "j", JOB, kind=_Line)


@pytest.mark.parametrize(
    "entry",
    [{"video": 3}, {"video": ""}, {"video": "a", "bytes": "zz"}, {"video": "a", "bytes": 3}, {}],
)
def test_a_line_names_its_video(tmp_path, entry):
    with Journal(tmp_path / "j", JOB) as journal:
        journal._line(entry)
    with pytest.raises(UserError, match=r"j:2: names no video; give `restart`"):
        Journal(tmp_path / "j", JOB)


@pytest.mark.parametrize("restart", [False, True])
def test_what_is_planted_in_its_place_is_not_written_to(tmp_path, restart):
    (tmp_path / "victim").write_text("precious")
    os.symlink("victim", tmp_path / "soft")
    os.symlink("gone", tmp_path / "dangling")
    os.link(tmp_path / "victim", tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "notes").write_text("mine\n")
    for name in ("soft", "dangling", "hard", "pipe", "notes"):
        with pytest.raises(UserError, match=f"{name}: "):
            Journal(tmp_path / name, JOB, restart)
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "notes").read_text() == "mine\n"
    assert not (tmp_path / "gone").exists()


def test_a_journal_of_an_earlier_version_with_other_fingerprints(tmp_path):
    path = tmp_path / "j"
    with Journal(path, JOB | {"weights": "e3c4fa3d"}) as journal:
        journal.add("a.mp4", result={})
    before, job = path.read_bytes(), JOB | {"weights": "b2937bd798a328ef"}
    with pytest.raises(UserError, match="another weights"):
        Journal(path, job)
    with pytest.raises(UserError, match="another weights"):
        Journal(path, job, legacy={"weights": lambda: "ffffffff"})
    with pytest.raises(UserError, match="another labels, weights"):
        Journal(path, job | {"labels": 4}, legacy={"weights": lambda: "ffffffff"})
    for _ in range(2):
        with Journal(path, job, legacy={"weights": lambda: "e3c4fa3d"}) as again:
            assert again.done == {"a.mp4"}
    assert path.read_bytes() == before
