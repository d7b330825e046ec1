"""Boxes of an MP4 as FFmpeg finds them: its probe, the boxes it enters, and their contents."""

import mmap
from collections.abc import Iterator

# boxes that contain no boxes: data and tables
LEAVES = set(
    b"mdat stsz stz2 stts ctts stco co64 stsc stss stps sdtp sbgp sgpd trun tfhd tfra sidx elst "
    b"senc saiz saio subs stsd cmov".split()
)


def box_header(data: bytes | mmap.mmap, at: int) -> tuple[int, bytes, int]:
    """Size, kind and header length of the box at a place."""
    size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
    # a size of 1 means that 64 bits follow
    return (
        (int.from_bytes(data[at + 8 : at + 16], "big"), kind, 16) if size == 1 else (size, kind, 8)
    )


def meta(data: bytes | mmap.mmap, begin: int, end: int) -> int:
    """Where the boxes of a `meta` begin: FFmpeg looks for the first handler, 4 bytes at a time."""
    at = begin
    while True:
        at = data.find(b"hdlr", at, end)
        if at < 0:
            return begin
        if (at - begin) % 4 == 0:
            return at - 4
        at += 1


def handlers(data: bytes | mmap.mmap, begin: int, end: int) -> set[bytes]:
    """Handlers of the media in a track, each where FFmpeg surely finds it."""
    found = set()
    for kind, media, stop in boxes(data, begin, end):
        if kind == b"mdia":
            found |= {
                data[at + 8 : at + 12]
                for inner, at, _ in boxes(data, media, stop)
                if inner == b"hdlr"
            }
    return found


def boxes(data: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of boxes side by side, up to one that is odd."""
    for _ in range(100):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or size > end - at:
            return
        yield data[at + 4 : at + 8], at + 8, at + size
        at += size


def hides(data: bytes | mmap.mmap, kind: bytes, at: int) -> bool:
    """Whether FFmpeg takes free space for a movie header."""
    return kind in (b"free", b"hoov") and data[at + 4 : at + 8] in (b"mvhd", b"cmov")


def is_text(data: bytes | mmap.mmap, kind: bytes, at: int) -> bool:
    """Whether the "count" is letters of a comment (at least 2²⁹), which FFmpeg refuses."""
    begin = at + (8 if kind in (b"stsz", b"stz2") else 4)
    return kind != b"elst" and all(0x20 <= byte < 0xF5 for byte in data[begin : begin + 4])


# by what FFmpeg takes a file for an MP4
_TAGS = set(b"moov mdat pnot udta ftyp ediw wide free junk pict skip uuid prfl".split())
_TAGS.add(b"\x82\x82\x7f\x7d")
# bytes of the beginning that its probe reads, twice as many at every try
_PROBES = tuple(2048 << i for i in range(10))


def behind_tag(data: bytes | mmap.mmap) -> int:
    """Where a file begins behind an ID3 tag, which FFmpeg skips before it probes."""
    head = data[:10]
    if not head.startswith(b"ID3") or len(head) < 10:
        return 0
    length = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0)))
    return length + (20 if head[5] & 16 else 10)


def is_mp4(data: bytes | mmap.mmap, begin: int) -> bool:
    """Whether FFmpeg's probe may find an MP4, box after box, in any of its tries."""
    for size in _PROBES:
        # how much of a try is left behind a tag
        content = data[begin : min(begin + size, len(data))] if begin < _PROBES[-1] else b""
        for end in {len(content), max(0, min(len(content), size - begin))}:
            if _has_tag(content[:end]):
                return True
        if begin + size >= len(data):
            break
    return False


def _has_tag(content: bytes) -> bool:
    at = 0
    while at + 8 <= len(content):
        size, least = int.from_bytes(content[at : at + 4], "big"), 8
        if size == 1 and at + 16 <= len(content):
            size, least = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        size = size or len(content) - at
        if size >= least and content[at + 4 : at + 8] in _TAGS:
            return True
        at += size if size >= least else 4
    return False
