"""File names that fit, texts that can be shown, cells that are no formulas, outputs that can be
written.
"""

import csv
import errno
import io
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from vtd_jax.errors import UserError
from vtd_jax.evaluate.tables import Table
from vtd_jax.files import remedy, replacing, write_text
from vtd_jax.outputs import (
    CsvWriter,
    beside_name,
    cell,
    check_output,
    check_suffix,
    csv_text,
    file_stem,
)
from vtd_jax.printable import listed, printable, utf8
from vtd_jax.video.ingest.validate import Checked
from vtd_jax.video.lists.catalog import Problem, read_labels

BAD = os.fsdecode(b"caf\xe9 \xff")


def test_names_of_any_bytes_can_be_written_and_shown():
    assert utf8(BAD) == r"caf\xe9 \xff"
    assert utf8("綱引き\n") == "綱引き\n"
    assert utf8("\ud83d") == "\ufffd"
    assert printable(f"\x1b[31m{BAD}\n\x85") == r"\x1b[31mcaf\xe9 \xff\n\x85"
    assert str(UserError(f"{BAD}:\n no\x1b")) == r"caf\xe9 \xff: no\x1b"


def test_file_stems_fit_and_stay():
    assert file_stem("綱引き.part") == "綱引き.part"
    assert file_stem('12:30 a/b\\c?"<x>|*\n') == "12_30 a_b_c___x____"
    assert file_stem(BAD) == "caf_ _"
    assert file_stem("...") == file_stem("") == "video"
    long = ["é" * 118 + end for end in ("1", "2")]
    stems = [file_stem(text) for text in long]
    assert stems == [file_stem(text) for text in long]
    assert len(set(stems)) == 2
    assert all(len(stem.encode()) <= 120 and stem.startswith("é" * 55) for stem in stems)
    assert beside_name(Path("a/b.json"), ".unfinished") == Path("a/b.json.unfinished")
    name = beside_name(Path(f"a/{'y' * 250}.json"), ".unfinished").name
    assert len(name) == 255
    assert name.endswith(".unfinished")


def test_any_name_can_be_replaced(tmp_path):
    for name in ("y" * 250 + ".json", "é" * 125 + ".html", BAD):
        assert write_text(tmp_path / name, "x").read_text() == "x"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("x")'])
def test_cells_are_no_formulas(text):
    assert cell(text) == f"'{text}"
    assert cell(f"a{text}") == f"a{text}"
    assert [cell(value) for value in (-1, -0.5, None, True, "")] == [-1, -0.5, None, True, ""]


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_names_end_as_they_should():
    check_suffix(Path("a.md"), ".md", ".csv")
    with pytest.raises(UserError, match=r"^--out=a\.MD: .* end in \.md, \.csv or \.json$"):
        check_suffix(Path("a.MD"), ".md", ".csv", ".json", where="--out=a.MD")
    with pytest.raises(UserError, match=r"^b/x: the name must end in \.md$"):
        check_suffix(Path("b/x"), ".md")


def test_a_list_has_an_end():
    assert listed([]) == ""
    assert listed("abc", 3) == "a, b, c"
    assert listed(range(9)) == "0, 1, 2, 3, 4, 5, 6, 7 and 1 more"
    assert listed(["a", "b", "c"], 1, "; ", "or") == "a or 2 more"


def test_every_table_for_people_is_guarded(tmp_path):
    rows = [["=a", -1.5], ["b", "-"]]
    assert _rows(csv_text(rows)) == [["'=a", "-1.5"], ["b", "'-"]]
    assert csv_text(rows, guarded=False) == "=a,-1.5\nb,-\n"
    out = io.StringIO(newline="")
    CsvWriter(out).writerows([["a\r=1", "b\n=2", "\r\n"], ["c", "\r=3", None]])
    assert out.getvalue() == '"a\r=1","b\n=2","\'\r\n"\nc,"\'\r=3",\n'
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [
        ["a\r=1", "b\n=2", "'\r\n"],
        ["c", "'\r=3", ""],
    ]
    table = Table(
        "t", ("class", "-x", "difference"), ({"class": "@a", "-x": "ok", "difference": -0.25},)
    )
    assert _rows(table.to_csv()) == [["class", "'-x", "difference"], ["'@a", "ok", "-0.25"]]
    found = (Problem("missing", "list.txt:1", "=cmd.mp4", "+not there"),)
    Checked(0, {}, found, (), 0, 0.0, 0).save(tmp_path / "report.csv")
    assert _rows((tmp_path / "report.csv").read_text())[1] == [
        "error",
        "missing",
        "list.txt:1",
        "'=cmd.mp4",
        "'+not there",
    ]


def test_label_files_that_are_read_again_are_not_changed(tmp_path):
    names = ("=sum", "+1", "-x", "@home")
    (tmp_path / "labels.csv").write_text(
        "id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names))
    )
    assert read_labels(tmp_path / "labels.csv").names == names


@pytest.mark.parametrize(
    "value, folder, message",
    [
        ("", True, r"^--out=: empty, expected the name of a folder"),
        ("file", True, r"^--out=file: is a file, expected the name of a folder"),
        ("folder", False, r"^--out=folder: is a folder, expected the name of a file"),
        (
            "file/a",
            True,
            (
                r"^--out=file/a: file is a file, and nothing can be below it; "
                r"give a folder below a folder"
            ),
        ),
        (
            "file/a/b.json",
            False,
            r"^--out=file/a/b.json: file is a file, and nothing can be below it; give a file below",
        ),
        (
            "nowhere",
            True,
            r"^--out=nowhere: nowhere is a broken link to gone; remove it",
        ),
        ("loop/x", True, r"^--out=loop/x: loop is a broken link to loop"),
        ("y" * 256, True, r"File name too long; give another name of a folder$"),
        ("closed/x", True, r"^--out=closed/x: closed cannot be written \(no permission\)"),
    ],
    ids=["empty", "file", "folder", "below", "far below", "dangling", "loop", "long", "closed"],
)
def test_outputs_that_cannot_be_are_refused_before_the_work(
    value, folder, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    Path("closed").mkdir()
    os.symlink("gone", "nowhere")
    os.symlink("loop", "loop")
    # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name != "closed")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        check_output("--out", value, folder=folder)
    check_output("--out", "folder/new/er", folder=True)
    check_output("--out", "file")
    assert sorted(tmp_path.rglob("*")) == before


@contextmanager
def full_disk(size: int):
    """No file may be larger than this: what the system then says is that of a full disk but for its
    number.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    write_text(tmp_path / "a.txt", "before")
    with full_disk(1000), pytest.raises(OSError, match="File too large") as caught:
        write_text(tmp_path / "a.txt", "x" * 2000)
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "b.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "b.txt")
    # what is of another file, or another kind, stays what it is
    with pytest.raises(OSError, match=r"c\.txt"), replacing(tmp_path / "b.txt"):
        raise OSError(errno.ENOSPC, "full", "c.txt")
    with pytest.raises(FileNotFoundError, match=r"d\.txt"), replacing(tmp_path / "b.txt"):
        (tmp_path / "d.txt").read_text()


@pytest.mark.parametrize(
    "number, expected_text",
    [
        (errno.ENOSPC, "; make room, and give the same command again"),
        (errno.EDQUOT, "; make room, and give the same command again"),
        (errno.ENOTDIR, "; expected a folder"),
        (errno.ENAMETOOLONG, "; give a shorter one"),
        (errno.EACCES, ""),
    ],
)
def test_what_the_system_refuses_comes_with_a_remedy(number, expected_text):
    found = remedy(OSError(number, os.strerror(number), "x"))
    assert found.startswith(expected_text)
    assert bool(found) == bool(expected_text)


def test_a_report_of_checks_below_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"^report=.*/file/x\.csv: .*/file is a file, and nothing can be below it"
    ):
        Checked.check_path(tmp_path / "file" / "x.csv")
