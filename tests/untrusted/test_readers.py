"""The readers of other people's files: what they take, and that everything else is one line."""

import functools
import io
import os
import zipfile
import zlib
from typing import Annotated, Literal

import msgspec
import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.untrusted import arrays, csv_text, json_text, regular_files


def _refused(call, *texts):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert all(text in message for text in texts), message
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_opened(tmp_path, make):
    path = tmp_path / "x"
    make(path)
    _refused(lambda: regular_files.read_bytes(path, "list"), str(path), "expected a list")


def test_a_device_is_refused():
    _refused(lambda: regular_files.read_bytes("/dev/zero"), "a device")


def test_no_more_is_read_than_was_requested(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert regular_files.read_bytes(path, most=5) == b"12345"
    _refused(lambda: regular_files.read_bytes(path, most=4), "5 bytes", "at most 4")
    # a file of /proc has no size
    _refused(lambda: regular_files.read_bytes("/proc/self/maps", most=10), "at most 10")


@pytest.mark.parametrize(
    "content, texts",
    [
        (b"\xff", ["byte 0 is not UTF-8"]),
        (b"a\nb\0", [":2: a zero byte"]),
    ],
)
def test_text_is_utf8(tmp_path, content, texts):
    (tmp_path / "x").write_bytes(content)
    _refused(lambda: regular_files.read_text(tmp_path / "x"), *texts)


def test_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffä".encode())
    assert regular_files.read_text(tmp_path / "x") == "ä"
    (tmp_path / "x").write_bytes("\ufeff[1]".encode())
    assert json_text.read_json(tmp_path / "x", list[int]) == [1]


@pytest.mark.parametrize(
    "content, kind, texts",
    [
        (b"[" * 100_000, object, ["nested too deep"]),
        (b"[" * 65 + b"]" * 65, object, ["more than 64 deep"]),
        (b'{"a":' * 65 + b"1" + b"}" * 65, object, ["more than 64 deep"]),
        (b"9" * 5000, object, ["out of range"]),
        (b"9" * 400, json_text.Whole, ["where: expected int <= 9223372036854775807"]),
        (b"1e999", object, ["out of range"]),
        (b"NaN", object, ["not JSON (line 1, column 1"]),
        (b'{"a": 1,\n "b" 2}', object, ["line 2, column 6"]),
        (b'{"a": "x\0y"}', object, ["not JSON"]),
        (b'"\\ud800"', object, ["not JSON"]),
        (b'"\xff"', object, ["not JSON"]),
        (b"", object, ["empty"]),
        (b"[1] x", object, ["not JSON"]),
        (b'{"a": [1, "x"]}', dict[str, list[int]], ["where: [...][1]: expected int, got str"]),
        (b"-1", json_text.Count, ["where: expected int >= 0"]),
        (b"true", int, ["expected int, got bool"]),
        (b"[]", dict, ["expected object, got array"]),
    ],
)
def test_json_is_strict_and_bounded(content, kind, texts):
    _refused(lambda: json_text.parse_json(content, "where", kind), *texts)


def test_json_of_a_type_is_read():
    assert json_text.parse_json('{"a": [1, 2.5]}', "w", dict[str, list[float]]) == {"a": [1.0, 2.5]}
    assert json_text.parse_json("[" * 64 + "]" * 64, "w")
    assert json_text.convert((1, 2), "w", tuple[int, int]) == (1, 2)
    _refused(
        lambda: json_text.convert({"a": "1"}, "progress", dict[str, int]),
        "progress: [...]: expected int",
    )


@pytest.mark.parametrize(
    "kind, value, bound, text",
    [
        (list, [1, 2, 3], {"max_length": 1}, "expected at most 1 entry"),
        (list, [], {"min_length": 2000}, "expected at least 2,000 entries"),
        (str, "abc", {"max_length": 2}, "expected at most 2 characters"),
        (str, "", {"min_length": 1}, "expected at least 1 character"),
        (dict, {"a": 1}, {"min_length": 2}, "expected at least 2 keys"),
    ],
)
def test_a_length_is_counted_in_what_it_is_made_of(kind, value, bound, text):
    wanted = Annotated[kind, msgspec.Meta(**bound)]
    message = _refused(lambda: json_text.convert([value], "labels", list[wanted]))
    assert message == f"labels: [0]: {text}"


def test_a_value_that_is_quoted_stays_as_it_is():
    value = "Expected array of length <= 5"
    _refused(lambda: json_text.convert(value, "kind", Literal["a", "b"]), f"'{value}'")


def test_json_says_what_to_do(tmp_path):
    (tmp_path / "x.json").write_text("[")
    _refused(
        lambda: json_text.read_json(tmp_path / "x.json", remedy="build again"),
        "x.json",
        "; build again",
    )
    _refused(
        lambda: json_text.read_json(tmp_path / "none.json", remedy="build again"),
        "No such file",
        "; build again",
    )


def test_csv_rows():
    text = '1,"a, b"\r\n\n2,"say ""hi"""\r3, c\n'
    assert list(csv_text.csv_rows(text, "f")) == [
        (1, ["1", "a, b"]),
        (3, ["2", 'say "hi"']),
        (4, ["3", "c"]),
    ]


@pytest.mark.parametrize(
    "text", ['1,a\n2,"b\n3,c\n4,d"\n', '1,a\n2,"b" c\n', "1,a\n2," + "x" * 200_000]
)
def test_one_stray_quote_takes_one_line(text):
    _refused(lambda: list(csv_text.csv_rows(text, "labels.csv")), "labels.csv:2:")


def _npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _read(content, **options):
    return arrays.read_array(io.BytesIO(content), len(content), "f.npy", **options)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3), np.float16),
        np.array(3.5),
        np.array([True, False]),
        np.array(["a", "böö"]),
        np.arange(3, dtype=">i4"),
    ],
)
def test_arrays_come_back(array):
    found = _read(_npy(array), kinds="fiubU")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape


def _header(text, body=b""):
    head = text.encode("latin-1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        _npy(np.zeros(3))[:-1],
        _npy(np.zeros(3)) + b"x",
        _npy(np.array([None])),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"),
        _header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 20}}}", b"1234"),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1.5,)}", b"1234"),
        _header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"1234"),
        _header("{'descr': '|V0', 'fortran_order': False, 'shape': (9,)}"),
        _header("[" * 100),
        _header("__import__('os')"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
        b"\x93NUMPY\x09\x00" + bytes(100),
    ],
)
def test_arrays_that_lie_are_one_line(content):
    _refused(lambda: _read(content, kinds="fiubU"), "f.npy")


def test_an_array_is_mapped_as_it_was_written(tmp_path):
    path, rows = tmp_path / "x.npy", np.arange(12, dtype=np.float32).reshape(4, 3)
    path.write_bytes(_npy(rows))
    found = arrays.map_array(path, (4, 3))
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, rows)
    np.save(path, rows[:0])
    assert arrays.map_array(path, (0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"123",
        _npy(np.zeros((4, 3), np.float32))[:-1],
        _npy(np.zeros((4, 3), np.float32)) + b"none",
        _npy(np.zeros((3, 4), np.float32)),
        _npy(np.zeros((4, 3), np.float64)),
        _npy(np.zeros((4, 3), ">f4")),
        _npy(np.asfortranarray(np.zeros((4, 3), np.float32))),
        _npy(np.full((4, 3), None)),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}", bytes(40)),
        _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}", bytes(48)),
        _header("[" * 100),
        _header("__import__('os')"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f",
    ],
)
def test_a_mapped_array_that_lies_is_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    _refused(lambda: arrays.map_array(tmp_path / "x.npy", (4, 3)), str(tmp_path))


def test_a_file_of_a_terabyte_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(_npy(np.zeros((4, 3), np.float32)))
    os.truncate(path, 2**40)
    _refused(lambda: arrays.map_array(path, (4, 3)), "bytes, 1,099,511,627,648 are there")


def test_the_end_of_a_file_is_mapped_and_nothing_else(tmp_path):
    path, rows = tmp_path / "x", np.arange(12, dtype=np.float16).reshape(4, 3)
    path.write_bytes(b"headhead" + rows.tobytes())
    crc = zlib.crc32(rows)
    found = arrays.map_rows(path, 8, 32, (4, 3), np.float16, crc)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, rows)
    for wrong in ((33, (4, 3), crc), (32, (5, 3), crc), (32, (4, 3), crc ^ 1)):
        total, shape, other = wrong
        call = functools.partial(arrays.map_rows, path, 8, total, shape, np.float16, other)
        _refused(call, str(path))
    os.truncate(path, 2**40)
    _refused(lambda: arrays.map_rows(path, 8, 2**40, (4, 3), np.float16, crc), str(path))


def test_text_that_is_no_unicode_is_refused():
    content = bytearray(_npy(np.array(["ab"])))
    content[-4:] = b"\xff\xff\xff\x7f"
    _refused(lambda: _read(bytes(content), kinds="U"), "Unicode")


def test_archives_come_back_and_lies_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(
        path, **{"a/scores": np.ones((2, 3), np.float32), "names": np.array(["x", "y"])}
    )
    found = arrays.read_npz(path, "scores")
    assert list(found) == ["a/scores", "names"]
    assert found["names"].tolist() == ["x", "y"]
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        _refused(lambda: arrays.read_npz(path, "scores"), str(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", _npy(np.zeros(2**26, np.uint8)))
    _refused(lambda: arrays.read_npz(path, "scores"), "100 times")
    np.savez(path, a=np.zeros(1000))
    _refused(lambda: arrays.read_npz(path, "scores", most=100), "expected at most")
    _refused(lambda: arrays.read_npz(tmp_path / "none.npz", "scores"), "there is no such scores")
    os.mkfifo(tmp_path / "pipe")
    _refused(lambda: arrays.read_npz(tmp_path / "pipe", "scores"), "a pipe")
