"""What becomes of good files: bits and lengths changed, pieces moved, values replaced; a seed
decides all of it.
"""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

HOSTILE_TEXTS = (
    "",
    " ",
    "\x1b]0;x\x07\x1b[31mred",
    "\u202egnp.exe",
    "a\nb",
    "\x00",
    "\ud800",
    "../../../etc/passwd",
    "/etc/passwd",
    "http://127.0.0.1:1/x.mp4",
    "{0.__class__}",
    "%s%n",
    "x" * 100_000,
    "²",
    "007",
    "NaN",
    "-1",
    "é" * 300,
)
HOSTILE_NUMBERS = (
    -1, 0, 1, 2, 99, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**18, 10**400,
    0.5, -0.0, 1e308, 1e-320,
)  # fmt: skip
# names of entries that an archive can have
_NAMES = (
    "x" * 60_000,
    "../../evil",
    "/etc/passwd",
    "\x1b[31m",
    "\u202e",
    "a\nb",
    "archive/data.pkl",
)
# how a JSON text says what json.dumps cannot
_RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'"\\ud800"',
    b"01",
    b"\xff",
)


def hostile_value(rng: random.Random) -> Any:
    """A value of any JSON type that a reader may not expect."""
    return rng.choice(
        (
            lambda: rng.choice(HOSTILE_NUMBERS),
            lambda: rng.choice(HOSTILE_TEXTS),
            lambda: rng.choice((None, True, False)),
            lambda: rng.choice(([], [[]], [None], [1] * 1000, [-1], ["x"])),
            lambda: rng.choice(({}, {"": {}}, {"a": None}, {"__class__": 1})),
        )
    )()


def mutate_value(rng: random.Random, value: Any) -> Any:
    """The JSON value with one place replaced, left out, doubled or renamed."""
    places = list(_places(value))
    parent, key = rng.choice(places) if places else (None, None)
    if parent is None:
        return hostile_value(rng)
    act = rng.randrange(6)
    if act == 0:
        del parent[key]
    elif act == 1 and isinstance(parent, dict):
        parent[rng.choice(HOSTILE_TEXTS)] = parent.pop(key)
    elif act == 1 or (act == 2 and isinstance(parent, list)):
        parent.insert(key, parent[key])
    elif act == 2 and isinstance(parent[key], (int, float)):
        parent[key] = rng.choice(
            (-parent[key], parent[key] + 1, parent[key] * 2**40, str(parent[key]))
        )
    else:
        parent[key] = hostile_value(rng)
    return value


def _places(value: Any):
    """All (parent, key) of a value."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in list(inside):
        yield value, key
        yield from _places(child)


def mutate_json(rng: random.Random, content: bytes) -> bytes:
    """The text with values replaced; now and then something that is no JSON."""
    try:
        value = json.loads(content)
    except ValueError:
        return mutate_bytes(rng, content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = mutate_value(rng, value)
    out = json.dumps(value).encode()
    if rng.random() < 0.2:
        # a value in another spelling
        at = [i for i, byte in enumerate(out) if byte in b"0123456789"]
        if at:
            place = rng.choice(at)
            out = out[:place] + rng.choice(_RAW) + out[place + 1 :]
    if rng.random() < 0.1:
        out = rng.choice(
            (
                out.decode(errors="replace").encode("utf-16"),
                b"\xef\xbb\xbf" + out,
                out + b"\0",
                out + out,
                b"",
            )
        )
    return out


def mutate_lines(rng: random.Random, content: bytes) -> bytes:
    """Text with lines or cells changed."""
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        cells = lines[at].replace(b" ", b",").split(b",")
        text = rng.choice(HOSTILE_TEXTS).encode(errors="surrogatepass")
        number = str(rng.choice(HOSTILE_NUMBERS)).encode()
        cells[rng.randrange(len(cells))] = rng.choice(
            (text, number, b'"', b'"a""', b"\xff\xfe", "²".encode(), b"x" * 200_000)
        )
        lines[at : at + 1] = rng.choice(
            (
                [b",".join(cells)],
                [b" ".join(cells)],
                [],
                [lines[at]] * rng.choice((2, 3000)),
                [lines[at], *reversed(lines[at + 1 : at + 3])],
                [lines[at].replace(b"\n", b"\r")],
                [lines[at] + b'"'],
                [lines[at][: rng.randrange(len(lines[at]) + 1)]],
            )
        )
        lines = lines or [b""]
    return b"\n".join(lines)


def _flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _length(rng: random.Random, data: bytearray) -> None:
    """A field of 2, 4 or 8 bytes gets a number that a size should not be."""
    kind = rng.choice("HIQ")
    size = struct.calcsize(kind)
    most = 2 ** (8 * size) - 1
    value = (
        rng.choice((0, 1, most, most // 2, most // 2 + 1, 2**31 - 1, 2**20, len(data), most - 8))
        & most
    )
    if len(data) > size:
        at = rng.randrange(len(data) - size)
        data[at : at + size] = struct.pack(rng.choice("<>") + kind, value)


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _cut(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data)
    del data[start:end]


def _double(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data)
    data[end:end] = data[start:end]


def _splice(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data)
    at = rng.randrange(len(data))
    data[at : at + end - start] = data[start:end]


def _fill(rng: random.Random, data: bytearray) -> None:
    start, end = _span(rng, data)
    data[start:end] = bytes([rng.choice((0, 0xFF, 0x7F, 0x80, 0x20))]) * (end - start)


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.randrange(1, 64)), b"\0" * 4096, b"\xff" * 16))


def _span(rng: random.Random, data: bytearray) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 4, 8, 64, 512, 4096)))


_ACTS: Sequence[Callable[[random.Random, bytearray], None]] = (
    _flip, _flip, _length, _length, _truncate, _cut, _double, _splice, _fill, _insert,
)  # fmt: skip


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Bytes changed without regard to what they mean; half of the changes where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data:
            return b""
        if rng.random() < 0.5:
            head, rest = data[:1024], data[1024:]
            rng.choice(_ACTS)(rng, head)
            data = head + rest
        else:
            rng.choice(_ACTS)(rng, data)
    return bytes(data)


def mutate_safetensors(rng: random.Random, content: bytes) -> bytes:
    """The header's JSON changed and its length set right, or bytes as they come."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, content)
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    about = header.get("__metadata__", {})
    inner = [key for key, text in about.items() if text.startswith("{")]
    if inner and rng.random() < 0.5:
        key = rng.choice(inner)
        about[key] = mutate_json(rng, about[key].encode()).decode("utf-8", "surrogateescape")
        changed = json.dumps(header).encode()
    else:
        changed = mutate_json(rng, content[8 : 8 + size])
    return struct.pack("<Q", len(changed)) + changed + content[8 + size :]


def mutate_zip(rng: random.Random, content: bytes) -> bytes:
    """One entry changed and its checksum set right, so that what is inside is read; or bytes as
    they come.
    """
    if rng.random() < 0.3:
        return mutate_bytes(rng, content)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        small = [name for name in names if name.endswith((".pkl", ".npy", "byteorder", "version"))]
        chosen, act = rng.choice(small if small and rng.random() < 0.8 else names), rng.random()
        for name in names:
            data = old.read(name)
            if name == chosen:
                if act < 0.05:
                    continue
                data = mutate_npy(rng, data) if name.endswith(".npy") else mutate_bytes(rng, data)
            new.writestr(rng.choice(_NAMES) if name == chosen and act > 0.95 else name, data)
    return out.getvalue()


def mutate_npy(rng: random.Random, content: bytes) -> bytes:
    """The header's text changed, or bytes as they come."""
    if rng.random() < 0.4 or not content.startswith(b"\x93NUMPY\x01\x00"):
        return mutate_bytes(rng, content)
    (size,) = struct.unpack("<H", content[8:10])
    header = content[10 : 10 + size]
    number = str(rng.choice(HOSTILE_NUMBERS)).encode()
    old, new = rng.choice(
        (
            (b"(", b"(" + number + b", "),
            (
                b"'<f4'",
                rng.choice(
                    (
                        b"'<f8'",
                        b"'|O'",
                        b"'<U2000000000'",
                        b"'|V0'",
                        b"'>i4'",
                        b"[('a', '<f4')]",
                        b"'<c16'",
                        b"''",
                    )
                ),
            ),
            (b"False", rng.choice((b"True", b"None", b"[]"))),
            (b"'shape'", b"'shaqe'"),
            (b"(", b"(" * 2000),
            (b"(", b"(0, " + number + b", "),
        )
    )
    header = header.replace(old, new, 1)[:65000]
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + size :]


_BOXES = (
    b"stts", b"stsz", b"stsc", b"stco", b"mdhd", b"mvhd", b"tkhd", b"elst", b"ctts", b"stsd",
    b"avc1", b"avcC", b"hdlr", b"stss", b"moov", b"trak", b"mdia", b"stbl", b"mp4v", b"esds",
)  # fmt: skip


def mutate_mp4(rng: random.Random, content: bytes) -> bytes:
    """Numbers in the tables of an MP4 changed, or bytes as they come."""
    there = [box for box in _BOXES if box in content]
    if not there or rng.random() < 0.3:
        return mutate_bytes(rng, content)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2))):
        at = data.find(rng.choice(there))
        if at < 0:
            continue
        place = at + rng.choice((-4, 4, 8, 12, 16, 20, 24, 28, 32, 36))
        value = rng.choice((0, 1, 2**32 - 1, 2**31 - 1, 2**31, 50_000_000, 65500, 2**16, 1000))
        data[place : place + 4] = struct.pack(">I", value)
    return bytes(data)
