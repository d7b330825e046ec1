"""Hostile texts: JSON, lists, labels, and places where a file is expected."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from hostile.corpus.weights import ACTING

JSON: dict[str, bytes] = {
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "integer_400": b"9" * 400,
    "integer_5000": b"9" * 5000,
    "number": b"3",
    "text": b'"x"',
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "nan": b"NaN",
    "infinite": b"1e999",
    "surrogate": b'"\\ud800"',
    "empty": b"",
    "zeros": bytes(1000),
    "not_utf8": b'{"a": "\xff"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "cut": b'{"a": [1, 2',
    "twice": b"{} {}",
    "acting": f'{{"{ACTING[:2]}'.encode("latin-1", "replace"),
}

LABELS: dict[str, bytes] = {
    "stray_quote": b'id,name\n0,"red\n1,blue\n2,green\n',
    "long_field": b"id,name\n0," + b"x" * 200_000 + b"\n1,blue\n",
    "zero_bytes": b"id,name\n0,r\0d\n1,blue\n",
    "utf16": "id,name\n0,red\n".encode("utf-16"),
    "not_utf8": b"id,name\n0,r\xffd\n",
    "superscript": "id,name\n²,red\n1,blue\n".encode(),
    "huge_id": b"id,name\n" + b"9" * 5000 + b",red\n",
    "acting": f"id,name\n0,{ACTING.replace(chr(10), '')}\n0,blue\n".encode(),
}

LISTS: dict[str, bytes] = {
    "above": b"../../secret.mp4 0\n",
    "absolute": b"/etc/passwd 0\n",
    "long_name": b"a.mp4 0\n" + b"x" * 5000 + b".mp4 1\n",
    "zero_bytes": b"a\0.mp4 0\n",
    "label_99": b"a.mp4 99\n",
    "label_minus": b"a.mp4 -1\n",
    "label_superscript": "a.mp4 ²\n".encode(),
    "label_huge": b"a.mp4 " + b"9" * 5000 + b"\n",
    "acting": f"{ACTING.replace(chr(10), '')}.mp4 0\n".encode(),
    "long_line": b"a.mp4 " + b"0 " * 200_000 + b"\n",
}
# of these, what is a list in itself, but names what is not in its folder
OUTSIDE = ("above", "absolute", "long_name", "acting")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    # names of sockets are short
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


# what stands where a file is expected; a function makes it at a path
PLACES: dict[str, Callable[[Path], object]] = {
    "fifo": _fifo,
    "socket": _socket,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "circle": lambda path: path.symlink_to(path.name),
    "huge": _huge,
    "empty": lambda path: path.touch(),
}


def replace_with(path: Path, name: str) -> Path:
    """Puts one of PLACES where a file is."""
    path.unlink(missing_ok=True)
    PLACES[name](path)
    return path
