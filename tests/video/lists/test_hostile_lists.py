"""Lists, label files and annotations of strangers: one line that names the place, whatever is in
them.
"""

import os
import time

import pytest

from experiments.predict.truth import read_truth
from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import LabelSet, Problem, read_labels, read_list
from vtd_jax.video.lists.official import official_lists

LABELS = LabelSet(("left", "right"), (0, 1), "labels.csv")
HEADER = "label,youtube_id,time_start,time_end,split\n"


def message(call, *args):
    """The line that a call ends with, within a second of CPU time."""
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        call(*args)
    assert time.process_time() - began < 1
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def read_list_of(path):
    return read_list(path, LABELS)


def read_kinetics(path):
    return official_lists("kinetics400", path.parent)


def read_ssv2(path):
    for split in ("train", "validation"):
        path.with_name(f"{split}.json").write_text('[{"id": "1", "template": "A [b]"}]')
    return official_lists("ssv2", path.parent)


def read_truth_of(path):
    return read_truth(str(path), [path.with_name("a.mp4")], ["left", "right"])


@pytest.mark.parametrize(
    ("read", "name", "text", "words"),
    [
        (
            read_list_of,
            "list.txt",
            f"a.mp4 0\n{'x' * 5000}.mp4 1\n",
            ":2: a line of 5,006 characters, expected 'file",
        ),
        (read_list_of, "list.txt", f"a.mp4 {'9' * 400}\n", ":1: expected 'file class_id'"),
        (read_list_of, "list.txt", "a.mp4 0\nb\0.mp4 1\n", ":2: a zero byte"),
        (
            read_labels,
            "labels.csv",
            'id,name\n0,"left\n1,right\n2,up\n',
            ":2: the quotes do not match",
        ),
        (
            read_labels,
            "labels.csv",
            f"id,name\n0,{'x' * 140_000}\n",
            ":2: a line of 140,002 characters",
        ),
        (read_labels, "labels.json", "[" * 100_000, ": brackets nested too deep"),
        (read_labels, "labels.json", f'{{"left": {"9" * 5000}}}', "labels.json: "),
        (read_labels, "labels.json", '{"left": NaN}', ": not JSON"),
        (
            read_kinetics,
            "train.csv",
            f'{HEADER}"yoga,a,1,9,train\nzumba,b,1,9,train\n',
            ":2: a quote that is not clo",
        ),
        (
            read_kinetics,
            "train.csv",
            f'{HEADER}yoga,a,1,9,train\n"zum"ba,b,1,9,train\n',
            ":3: a quote that is not",
        ),
        (
            read_kinetics,
            "train.csv",
            f"{HEADER}{'x' * 140_000},a,1,9,train\n",
            ":2: a line of 140,012 characters",
        ),
        (
            read_kinetics,
            "train.csv",
            f"{HEADER}yoga,a,{'9' * 5000},9,train\n",
            ":2: expected times in seconds",
        ),
        (read_ssv2, "labels.json", f'{{"A b": "{"9" * 100_000}"}}', ": the id of 'A b' is '9999"),
        (read_ssv2, "labels.json", f'{{"{"A" * 100_000}": "x"}}', ": the id of 'AAAA"),
        (
            read_truth_of,
            "t.csv",
            'file,label\n"a.mp4,left\nb.mp4,right\n',
            ":2: a quote that is not closed",
        ),
        (
            read_truth_of,
            "t.csv",
            f"file,label\na.mp4,{'x' * 140_000}\n",
            ":2: a line of 140,006 characters",
        ),
    ],
)
def test_one_line_names_the_place(tmp_path, read, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    assert words in message(read, path).replace(f"{path}:", ":") or words in message(read, path)


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_list_of, "list.txt"), (read_labels, "labels.csv"), (read_truth_of, "t.csv")],
)
def test_a_pipe_ends_at_once(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    assert message(read, tmp_path / name).startswith(f"{tmp_path / name}: a pipe, expected a ")


def test_a_line_that_is_too_long_is_a_problem_like_others(tmp_path):
    (tmp_path / "list.txt").write_text(f"a.mp4 0\n{'x' * 5000} 1\nb.mp4 1\n")
    problems: list[Problem] = []
    assert [entry.file for entry in read_list(tmp_path / "list.txt", LABELS, problems)] == [
        "a.mp4",
        "b.mp4",
    ]
    assert [(p.kind, p.where, len(p.file)) for p in problems] == [
        ("malformed", f"{tmp_path}/list.txt:2", 61)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(tmp_path, end):
    (tmp_path / "list.txt").write_bytes(f"a.mp4 0{end}b c.mp4 1{end}".encode())
    assert [(e.file, e.line) for e in read_list_of(tmp_path / "list.txt")] == [
        ("a.mp4", 1),
        ("b c.mp4", 2),
    ]
    (tmp_path / "labels.csv").write_bytes(f"0,left{end}1,right{end}".encode())
    assert read_labels(tmp_path / "labels.csv").names == ("left", "right")
