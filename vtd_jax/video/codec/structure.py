"""Whether a container's bytes are complete, and hold exactly the packets that were read.

A header that promises more than a file holds may be wrong, or the file may be cut. Nothing is
missing if elements follow each other without gaps to the end of the file, and the demuxer found all
packets. Only Matroska, AVI, FLV and MP4 can prove this. A fragmented MP4 cannot: it does not state
how many fragments it should have.
"""

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtd_jax.video.codec.mp4_boxes import box_header

# what may stand at the top of an MP4
BOXES = set(b"ftyp moov mdat free skip wide udta meta uuid pnot pdin".split())
# chunks of an AVI: headers, indices, padding, data of the streams, texts
CHUNK = re.compile(
    rb"RIFF|LIST|avih|str[hfdn]|indx|vprp|dmlh|JUN[KQ]|idx1|ix\d\d|\d\d(dc|db|wb|tx|pc)|I[A-Z]{3}"
)
# ids of Matroska: elements that contain others, then all that may lie between them
SEGMENT, TRACKS, CLUSTER, GROUP = 0x18538067, 0x1654AE6B, 0x1F43B675, 0xA0
TRACK, EBML, SEEK, INFO, CUES = 0xAE, 0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1C53BB6B
CHAPTERS, ATTACHED, TAGS, VOID, CRC = 0x1043A770, 0x1941A469, 0x1254C367, 0xEC, 0xBF
SIMPLE, BLOCK, NUMBER = 0xA3, 0xA1, 0xD7
ENTERED = {SEGMENT, TRACKS, CLUSTER, GROUP}
# in a cluster: time, position, previous size; in a group: duration, references, padding, additions
WITHIN = {0xE7, 0xA7, 0xAB, 0x9B, 0xFB, 0xFA, 0xFD, 0x75A2, 0x75A1, 0xA4}
KNOWN = {EBML, TRACK, SEEK, INFO, CUES, CHAPTERS, ATTACHED, TAGS, VOID, CRC, SIMPLE, BLOCK}
KNOWN |= ENTERED | WITHIN


class _BrokenError(Exception):
    """The bytes are not what the format allows."""


def complete(source: str | Path | bytes, decoder) -> bool:
    """Whether it is certain that nothing is missing from a file.

    Args:
      source: path, or the file's bytes.
      decoder: that has read all its packets.
    """
    name, index = decoder.container.format.name, decoder.stream.index
    try:
        with _bytes_of(source) as data:
            found = _packets(name, data, index)
    except (_BrokenError, LookupError, StopIteration, struct.error):
        return False
    if name.startswith("mov"):
        # an edit list may show less than the tables hold, or the same twice
        shown = shown_in_index(decoder.stream)
        return found == decoder.stream.frames and shown == decoder.clock.packets
    return found == decoder.clock.packets


def ends_in_fragment(source: str | Path | bytes, container, stream) -> bool:
    """Whether a fragmented MP4 was cut within a fragment."""
    if "mp4" not in container.format.name or stream.frames:
        return False
    with _bytes_of(source) as data:
        at, fragments = 0, 0
        while at < len(data):
            size, kind, head = box_header(data, at)
            if size < head:
                return False
            fragments += kind == b"moof"
            if fragments and kind in (b"moof", b"mdat") and at + size > len(data):
                return True
            at += size
    return False


@contextmanager
def _bytes_of(source: str | Path | bytes) -> Iterator[bytes | mmap.mmap]:
    """What a file holds, without reading all of it."""
    if isinstance(source, bytes):
        yield source
        return
    with (
        Path(source).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        yield data


def shown_in_index(stream) -> int:
    """Indexed packets that no edit list hides; 0 if PyAV is too old to list them."""
    entries = getattr(stream, "index_entries", ())
    return sum(entry.size > 0 and not entry.is_discard for entry in entries)


def _packets(name: str, data: bytes | mmap.mmap, index: int) -> int:
    """Packets of a stream with something in them; raises where bytes do not fit."""
    if name.startswith("mov"):
        return _samples(data, index)
    if name.startswith("matroska"):
        return _matroska(data, index)
    if name == "avi":
        return _avi(data, index)
    if name == "flv":
        return sum(_tags(data))
    raise _BrokenError


def _boxes(data: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of what is in the boxes of a part of an MP4, which must fit."""
    while at < end:
        size, kind, head = box_header(data, at)
        if size < head or at + size > end:
            raise _BrokenError
        yield kind, at + head, at + size
        at += size


def _samples(data: bytes | mmap.mmap, index: int) -> int:
    """Samples of a track of an MP4; the tables of sizes and of times must have as many."""
    top = list(_boxes(data, 0, len(data)))
    if not {kind for kind, _, _ in top} <= BOXES:
        raise _BrokenError
    at, end = next((at, end) for kind, at, end in top if kind == b"moov")
    at, end = [(at, end) for kind, at, end in _boxes(data, at, end) if kind == b"trak"][index]
    for inner in (b"mdia", b"minf", b"stbl"):
        at, end = next((at, end) for kind, at, end in _boxes(data, at, end) if kind == inner)
    tables = {kind: at for kind, at, _ in _boxes(data, at, end)}
    sizes, times = tables[b"stsz"], tables[b"stts"]
    count = int.from_bytes(data[sizes + 8 : sizes + 12], "big")
    runs = int.from_bytes(data[times + 4 : times + 8], "big")
    timed = sum(run for run, _ in struct.iter_unpack(">II", data[times + 8 : times + 8 + 8 * runs]))
    if count != timed:
        raise _BrokenError
    return count


def _avi(data: bytes | mmap.mmap, index: int) -> int:
    """Chunks of a stream with something in them; its index must know as many."""
    mine, found, listed = re.compile(rb"%02d(dc|db)" % index), 0, 0
    for kind, at, size in _chunks(data):
        found += bool(mine.fullmatch(kind)) and size > 0
        if kind == b"idx1":
            entries = struct.iter_unpack("<4s8xI", data[at : at + size - size % 16])
            listed += sum(bool(mine.fullmatch(kind)) and size > 0 for kind, size in entries)
    if listed != found:
        raise _BrokenError
    return found


def _chunks(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of all chunks of an AVI, those within lists as well."""
    at, ends = 0, []
    while at < len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        # the last chunk of a file may lack its padding
        if not CHUNK.fullmatch(kind) or min(end, len(data)) < at + 8 + size:
            raise _BrokenError
        listed, body = kind in (b"RIFF", b"LIST"), at + 8
        ends += [end] if listed else []
        at = at + 12 if listed else end
        yield kind, body, size
        ends = _left(ends, at, len(data))


def _left(ends: list[int], at: int, length: int) -> list[int]:
    """The ends of lists that are still to come; each must be where a chunk ends."""
    if any(end < at for end in ends if end <= length):
        raise _BrokenError
    if at >= length and any(end > at for end in ends):
        raise _BrokenError
    return [end for end in ends if end > at]


def _tags(data: bytes | mmap.mmap) -> Iterator[bool]:
    """For every tag of an FLV, whether it holds a picture."""
    at = int.from_bytes(data[5:9], "big")
    if data[at : at + 4] != bytes(4):
        raise _BrokenError
    at += 4
    while at < len(data):
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        end = at + 11 + size
        if (
            kind not in (8, 9, 18)
            or int.from_bytes(data[end : end + 4], "big") != 11 + size
            or end + 4 > len(data)
        ):
            raise _BrokenError
        head = data[at + 11 : at + 13] if kind == 9 else b""
        if head and head[0] & 128:
            raise _BrokenError  # the newer kind of tag, with codecs by name
        # the first of H.264 holds its headers; 5 is a command to the player
        yield bool(head) and head[0] >> 4 != 5 and (head[0] & 15 != 7 or head[1] == 1)
        at = end + 4


def _matroska(data: bytes | mmap.mmap, index: int) -> int:
    """Blocks of the track that is the stream of this index."""
    numbers, blocks, ends, at = [], [], [], 0
    while at < len(data):
        kind, at = _number(data, at, keep=True)
        size, body = _number(data, at, keep=False)
        unknown = size is None and kind in (SEGMENT, CLUSTER)
        if (
            kind not in KNOWN
            or (size is None and not unknown)
            or (not unknown and body + size > len(data))
        ):
            raise _BrokenError
        if kind == TRACK:
            numbers.append(_track_number(data, body, body + size))
        if kind in (SIMPLE, BLOCK):
            blocks.append(_number(data, body, keep=False)[0])
        if kind in ENTERED:
            ends += [] if unknown else [body + size]
        at = body if kind in ENTERED else body + size
        ends = _left(ends, at, len(data))
    return blocks.count(numbers[index])


def _number(data: bytes | mmap.mmap, at: int, keep: bool) -> tuple[int | None, int]:
    """An EBML number and its end; ids keep their length bits, None is an unknown size."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    if length > 8 or at + length > len(data):
        raise _BrokenError
    if keep:
        return value, at + length
    value &= (1 << 7 * length) - 1
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def _track_number(data: bytes | mmap.mmap, at: int, end: int) -> int:
    """The number by which blocks name a track."""
    while at < end:
        kind, at = _number(data, at, keep=True)
        size, at = _number(data, at, keep=False)
        if kind == NUMBER:
            return int.from_bytes(data[at : at + size], "big")
        at += size or 0
    raise _BrokenError
