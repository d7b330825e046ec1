"""The table of known copies, and what is noted beside records."""

import dataclasses
import json
import shutil

import pytest

from experiments.common import program
from vtd_jax.errors import UserError
from vtd_jax.untrusted import limits
from vtd_jax.video.copies import beside, known
from vtd_jax.video.copies.data_copy import DataCopy, data_copies
from vtd_jax.video.copies.known import COLUMNS, KnownCopy, NamedCopy, known_as, read_known
from vtd_jax.video.records import open_records

COPY = DataCopy(2, 9, "0" * 16, "1" * 16, "video files", (("a.mp4", "2" * 16),))
ROW = KnownCopy("hmdb51", "val1", "official", "hmdb51_org.rar", COPY.fingerprint)


def test_the_table_of_the_repository_is_read():
    rows = read_known(program.KNOWN_COPIES)
    assert len({row.fingerprint for row in rows}) == len(rows)


def test_what_is_said(tmp_path):
    other = dataclasses.replace(COPY, frames=8)
    assert known_as(COPY, "hmdb51", [ROW]) == "known copy: official (hmdb51_org.rar)"
    assert known_as(other, "hmdb51", [ROW]) == "not among the known copies of hmdb51"
    assert known_as(other, "ucf101", [ROW]) == "no copy of ucf101 is known by its fingerprint yet"
    assert known_as(other, "video_folder", [ROW]) == ""
    assert NamedCopy(COPY, "x").describe() == f"{COPY.describe()}; x"
    assert NamedCopy(COPY, "").describe() == COPY.describe()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,b,c,d", "known.csv:2: expected dataset,list,copy,source,fingerprint, none"),
        ("a,b,,d,0123456789abcdef", "known.csv:2: expected dataset"),
        ("a,b,c,d,0123", "known.csv:2: fingerprint '0123', expected 16 hex digits"),
        ("a,b,c,d,0123456789ABCDEF", "known.csv:2: fingerprint '0123456789ABCDEF'"),
        ('a,"b', "known.csv:2: a quote that is not closed"),
        ("\udcff", "known.csv: byte 37 is not UTF-8"),
    ],
)
def test_a_table_that_is_not_one(tmp_path, row, message):
    path = tmp_path / "known.csv"
    path.write_text(",".join(COLUMNS) + f"\n{row}\n", errors="surrogateescape")
    with pytest.raises(UserError, match=message):
        read_known(path)


def test_a_table_is_bounded(tmp_path, monkeypatch):
    path = tmp_path / "known.csv"
    path.write_text("\n".join(",".join(ROW) for _ in range(3)))
    assert read_known(path) == (ROW,) * 3
    monkeypatch.setattr(known, "KNOWN_COPIES", 2)
    with pytest.raises(UserError, match=r"known.csv:3: .*in at most 2 rows"):
        read_known(path)
    path.write_text("x" * (limits.KNOWN_COPIES_BYTES + 1))
    with pytest.raises(UserError, match="expected a table of known copies of at most"):
        read_known(path)
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        read_known(tmp_path / "none.csv")


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built / "video_folder/video/1.0.0", tmp_path / "1.0.0")


def test_what_is_noted_is_compared_with_the_records(folder):
    records = open_records(folder, "video")
    [copy] = data_copies([records])
    # of an earlier version
    assert beside.changed_since(records, copy) == ""
    assert beside.note_copies(folder) == {"video": copy}
    path = folder / beside.FINGERPRINTS
    written = path.stat().st_mtime_ns
    assert beside.read_noted(folder) == {"video": copy}
    assert beside.changed_since(records, copy) == ""
    # read-only folders are left alone
    assert beside.note_copies(folder) == {"video": copy}
    assert path.stat().st_mtime_ns == written
    # a note that lies changes nothing but a warning: the records count
    content = json.loads(path.read_text())
    content["video"]["frames"] = 7
    path.write_text(json.dumps(content))
    said = beside.changed_since(records, copy)
    assert said.startswith(f"{path}: the records of list video are not those that this says: 7 and")
    assert data_copies([records]) == [copy]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": -1}, "frames: expected int >= 0"),
        ({"frames": 2**60}, "frames: expected int <="),
        ({"list_digest": "\x1b[31m"}, "list_digest: expected str matching regex"),
        ({"storage": "x" * 101}, "storage: expected at most 100 characters"),
        ({"sample": [["a", "0" * 16]] * 17}, "sample: expected at most 16 entries"),
        ({"sample": [["a" * 5000, "0" * 16]]}, "expected at most 4,096 characters"),
        ({"sample": [["a"]]}, "sample"),
    ],
)
def test_a_hostile_note_is_one_line(folder, change, words):
    beside.note_copies(folder)
    path = folder / beside.FINGERPRINTS
    content = json.loads(path.read_text())
    content["video"] |= change
    path.write_text(json.dumps(content))
    records = open_records(folder, "video")
    said = beside.changed_since(records, data_copies([records])[0])
    assert words in said
    assert "\n" not in said
    assert "\x1b" not in said
