import os
import resource

import pytest

from vtd_jax.errors import UserError
from vtd_jax.explain.journal import Journal

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
        assert (caught.value.filename, path.read_bytes(), journal.done) == (str(path), whole, {"a.mp4"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))
        with pytest.raises(OSError, match="File too large"):
            Journal(tmp_path / "new", JOB)
        assert not (tmp_path / "new").exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_another_job_is_refused_unless_told(tmp_path):
    path = tmp_path / "out.unfinished"
    journal = Journal(path, JOB)
    journal.add("a.mp4", result={})
    journal.close()
    with pytest.raises(UserError, match=r"out\.unfinished: an interrupted run left it, which had another labels;"):
        Journal(path, JOB | {"labels": 4})
    again = Journal(path, JOB | {"labels": 4}, restart=True)
    assert again.done == set()
    again.close()
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("text", ["no json", "no json\n", "[1]\n", '{"other": 1}\n'])
def test_a_file_of_another_kind_is_left_alone(tmp_path, text):
    path = tmp_path / "out.unfinished"
    path.write_text(text)
    with pytest.raises(UserError, match="not what an interrupted run left"):
        Journal(path, JOB)
    assert path.read_text() == text
