"""The reader of Parquet: claims that no file can keep, and other types."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vtd_jax.errors import UserError
from vtd_jax.untrusted import parquet
from vtd_jax.untrusted.parquet import ParquetTable

VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.parquet"


def write(path, columns=None, **options):
    """Three rows of a video and a label, or other columns."""
    rows = [{"bytes": bytes([i]) * 50, "path": f"{i}.mp4"} for i in range(3)]
    columns = columns or {"video": pa.array(rows, VIDEO), "label": pa.array([0, 1, 0])}
    pq.write_table(pa.table(columns), path, **options)


def everything(path):
    with ParquetTable(path) as table:
        return list(table.read(list(table.kinds)))


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("rows", [1, 2, 10])
def test_rows_come_one_by_one(path, codec, rows):
    write(path, compression=codec, row_group_size=rows)
    assert everything(path) == [
        ((bytes([i]) * 50, f"{i}.mp4"), label) for i, label in zip(range(3), [0, 1, 0])
    ]


def test_kinds_of_columns(path):
    write(path, {
        "video": pa.array([None], VIDEO),
        "image": pa.array([{"bytes": 5}]),
        "raw": pa.array([b"a"], pa.large_binary()),
        "word": pa.array(["a"], pa.large_string()),
        "many": pa.array([["a"]]),
        "share": pa.array([0.5]),
        "a.b": pa.array([1]),
    })  # fmt: skip
    with ParquetTable(path) as table:
        assert table.kinds == {
            "video": "file", "image": "other", "raw": "bytes", "word": "text", "many": "other",
            "share": "other",
        }  # fmt: skip
        assert list(table.read(["video", "raw", "word"])) == [((None, None), b"a", "a")]


@pytest.mark.parametrize("name, most, said", [
    ("DATA_SET_ROWS", 2, "rows: 3, expected at most 2"),
    ("PARQUET_GROUPS", 2, "row groups: 3, expected at most 2"),
    ("PARQUET_COLUMNS", 2, "columns: 3, expected at most 2"),
    ("PARQUET_FOOTER_BYTES", 100, r"a footer of [\d,]+ bytes in a file of .*expected at most 100"),
    ("DATA_SET_VIDEO_BYTES", 49, "row 0, 'video': 50 bytes, expected at most 49"),
    ("TEXT_CHARACTERS", 1, "row 0, 'video': 5 bytes, expected at most 4"),
])  # fmt: skip
def test_limits(path, monkeypatch, name, most, said):
    write(path, row_group_size=1)
    monkeypatch.setattr(parquet, name, most)
    with pytest.raises(UserError, match=said):
        everything(path)


def test_two_million_rows_are_too_many(path):
    write(path, {"label": pa.array([0] * 2_000_000, pa.int8())})
    with pytest.raises(UserError, match="rows: 2,000,000, expected at most 1,048,576"):
        everything(path)


def test_a_bomb_is_not_unpacked(path, monkeypatch):
    monkeypatch.setattr(parquet, "PARQUET_FREE_BYTES", 2**20)
    zeros = pa.array([{"bytes": bytes(5_000_000), "path": "a.mp4"}], VIDEO)
    write(path, {"video": zeros}, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 50_000
    with pytest.raises(UserError, match=r"claims 5,\d+,\d+ bytes of \['video'\], packed into"):
        everything(path)


def test_structs_in_structs(path):
    deep = pa.array([1])
    for _ in range(20):
        deep = pa.StructArray.from_arrays([deep], ["a"])
    write(path, {"deep": deep})
    with pytest.raises(UserError, match="not a Parquet file, or damaged"):
        everything(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(4) + b"PAR1", b"x" * 100,
    b"PAR1" + b"\xff" * 50 + b"\xff\xff\xff\x7fPAR1", b"PAR1" + bytes(30) + b"\x1e\0\0\0PAR1",
    b"PARE" + bytes(30) + b"\x1e\0\0\0PARE"])  # fmt: skip
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet: "):
        everything(path)


def test_pipes_and_folders(tmp_path):
    with pytest.raises(UserError, match="a folder, expected a Parquet file"):
        ParquetTable(tmp_path)


def test_features_of_another_form(path):
    made = pa.table({"label": [1]})
    for text, said in ((b"[" * 200, "its features: "), (b"\xff", "its features: ")):
        pq.write_table(made.replace_schema_metadata({b"huggingface": text}), path)
        with pytest.raises(UserError, match=said):
            everything(path)
    for text in (b"[]", b'{"info": 5}', b'{"info": {"features": []}}'):
        pq.write_table(made.replace_schema_metadata({b"huggingface": text}), path)
        with ParquetTable(path) as table:
            assert table.features == {}


def test_an_older_arrow_is_named(path, monkeypatch):
    write(path)
    monkeypatch.setattr(pa, "__version__", "25.0.1")
    with pytest.raises(UserError, match=r"pyarrow 26 or later, here is 25\.0\.1: pip install -U"):
        ParquetTable(path)
