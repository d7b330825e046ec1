"""What strangers' tables become: no video stands for another, and none asks for endless time."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.hub_sets import tables
from vtd_jax.video.hub_sets.unpack import unpacked

VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def laid(tmp_path, monkeypatch):
    """Lays a table out, with what `datasets` says of its columns; name of a file -> its bytes."""
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))

    def lay(made: pa.Table, features=None, **options) -> dict[str, bytes]:
        about = json.dumps({"info": {"features": features or {}}})
        pq.write_table(
            made.replace_schema_metadata({"huggingface": about}), tmp_path / "train.parquet",
            **options,
        )  # fmt: skip
        found = unpacked(tmp_path, ["train.parquet"], {}, "mark", "hf:org/set")
        lines = Path(found.lists[0][0]).read_text().splitlines()
        files = [found.folder / line.rpartition(" ")[0] for line in lines]
        return {file.name: file.read_bytes() if file.is_file() else b"" for file in files}

    return lay


def videos(*rows: tuple[bytes | None, str]) -> pa.Table:
    """Rows of bytes and path, each of a class of its own."""
    column = pa.array([{"bytes": content, "path": path} for content, path in rows], VIDEO)
    return pa.table({"video": column, "label": [f"class {place}" for place in range(len(rows))]})


@pytest.mark.parametrize(
    "names",
    [
        ("0000002-a.mp4", "a.mp4", "a.mp4"),
        ("0000002-a.mp4", "0000002.-a.mp4", "a.mp4", "a.mp4"),
        ("A.mp4", "a.mp4", "0000001-a.MP4"),
    ],
)
def test_every_row_has_a_file_of_its_own(laid, names):
    # of the same length: a file of this size would count as written
    contents = [bytes([65 + place]) * 9 for place in range(len(names))]
    found = laid(videos(*zip(contents, names)))
    assert list(found.values()) == contents
    assert len({name.casefold() for name in found}) == len(names)


def test_no_video_is_taken_for_one_that_is_missing(laid):
    found = laid(videos((b"x", "missing-0000001-a.mp4"), (None, "a.mp4")))
    assert list(found.values()) == [b"x", b""]


@pytest.mark.parametrize(
    "column",
    [[1, 2], [True, False], [[b"x", None], [b"y", None]], pa.array([1, 2], pa.timestamp("s"))],
)
def test_what_is_called_a_video_and_is_none_is_refused(laid, column):
    made = pa.table({"video": column, "label": ["a", "b"]})
    with pytest.raises(UserError, match="no one column of videos"):
        laid(made, {"video": {"_type": "Video"}})


def test_two_classes_of_one_name_are_refused(laid):
    made = pa.table({"video": [b"x", b"y"], "label": [0, 1]})
    with pytest.raises(UserError, match="two classes are called 'a'"):
        laid(made, {"label": {"_type": "ClassLabel", "names": ["a", "a"]}})


def test_one_value_for_many_rows_without_a_label_ends(laid, monkeypatch):
    """A dictionary of one large video is small, however many rows repeat it."""
    rows = 200
    made = pa.table({"video": [bytes(2**14)] * rows, "label": pa.array([None] * rows, pa.string())})
    read, message = [], tables.Tables._message
    monkeypatch.setattr(tables.Tables, "_message", lambda *given: read.append(1) or message(*given))
    with pytest.raises(UserError, match="more bytes of videos than the tables' footers claim"):
        laid(made, compression="zstd", dictionary_pagesize_limit=2**30)
    assert len(read) < rows / 2


@pytest.mark.parametrize(
    "label, names", [("1", ["hug", "wave"]), (" 1 ", ["hug", "wave"]), ("7", ["hug", "7"])]
)
def test_numbers_in_a_csv_are_those_of_the_cards_classes(tmp_path, monkeypatch, label, names):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\na.mp4,{label}\n")
    (tmp_path / "a.mp4").write_bytes(b"x")
    found = unpacked(tmp_path, ["metadata.csv", "a.mp4"], {"label": names}, "mark", "hf:org/set")
    [(listed, labels)] = found.lists
    place = Path(listed).read_text().split()[1]
    assert f'{place},"{names[1]}"' in Path(labels).read_text().splitlines()


def test_splits_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    rows = [f"{place}.mp4,a,split{place}\n" for place in range(101)]
    (tmp_path / "metadata.csv").write_text("file_name,label,split\n" + "".join(rows))
    files = [f"{place}.mp4" for place in range(101)]
    for file in files:
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(UserError, match="hf:org/set: 101 splits, expected at most 100"):
        unpacked(tmp_path, ["metadata.csv", *files], {}, "mark", "hf:org/set")
    assert not list((tmp_path / "cache").rglob("*.txt"))
