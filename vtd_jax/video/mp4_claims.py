"""What the tables of an MP4 claim, held against the bytes of the file before FFmpeg believes them.

A run of times or of sizes says "5·10⁷ samples" in eight bytes, for which FFmpeg takes gigabytes. Boxes are entered here
wherever FFmpeg may enter them: it reads a table at any place and depth.
"""

import mmap
import struct
import zlib
from collections.abc import Iterator

from vtd_jax.untrusted import limits

# what is not entered: data, and tables whose entries are no boxes
_LEAVES = {
    *(b"mdat", b"stsz", b"stz2", b"stts", b"ctts", b"stco", b"co64", b"stsc", b"stss", b"stps", b"sdtp", b"sbgp"),
    *(b"sgpd", b"trun", b"tfhd", b"tfra", b"sidx", b"elst", b"senc", b"saiz", b"saio", b"subs", b"stsd", b"cmov"),
}
# how deep FFmpeg goes, and a little more
_DEPTH = 16
_TABLES = (b"stsz", b"stz2", b"stts", b"ctts", b"trun", b"elst")


class ClaimError(Exception):
    """A file claims more than its bytes can hold."""


def check_claims(data: bytes | mmap.mmap) -> None:
    """Refuses tables that claim more samples than there are bytes for; anything but an MP4 passes.

    Raises:
      ClaimError: says what is claimed.
    """
    _Claims(len(data)).read(data)


class _Track:
    """What the tables of one track claim.

    Attributes:
      kinds: of media, by its handlers.
      sized, timed: the most samples in its tables of sizes and of times.
      sound: whether all its times are one run of one tick a sample, as of uncompressed sound, read by the chunk.
    """

    def __init__(self):
        self.kinds, self.sized, self.timed, self.sound = set(), 0, 0, True

    @property
    def samples(self) -> int:
        """Samples for which FFmpeg takes memory one by one."""
        by_chunk = self.sound and b"soun" in self.kinds and b"vide" not in self.kinds
        return 0 if by_chunk else max(self.sized, self.timed)


class _Claims:
    """Adds up what the boxes of one file claim."""

    def __init__(self, size: int):
        self._most = limits.SAMPLES + size // limits.SAMPLE_BYTES
        self._boxes = self._samples = self._edits = 0
        self._seen = False
        self._track = _Track()

    def read(self, data: bytes | mmap.mmap) -> None:
        self._read(data)
        self._close()

    def _read(self, data: bytes | mmap.mmap) -> None:
        for kind, at, end in self._walk(data, 0, len(data), 0):
            if kind == b"trak":
                self._close()
            elif kind == b"hdlr":
                self._track.kinds.add(data[at + 8 : at + 12])
            elif kind == b"stsd":
                # the boxes of a sample entry begin at a place that depends on the codec
                self._search(data[at:end])
            elif kind == b"cmov":
                self._unpacked(data[at:end])
            elif kind in _TABLES:
                self._claim(kind, data, at, end)

    def _close(self) -> None:
        """The end of a track: what it claims is added."""
        self._add(self._track.samples)
        self._track = _Track()

    def _walk(self, data: bytes | mmap.mmap, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
        """Kind, begin and end of boxes, sizes cut at the end of what they are in, as FFmpeg does."""
        while end - at >= 8:
            size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
            if size == 1:
                size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
            size = min(size or end - at, end - at)
            if size < head:
                return
            self._boxes += 1
            self._seen |= kind in (b"moov", b"moof")
            if self._boxes > limits.BOXES and not self._seen:
                return  # no MP4: its bytes happen to look like boxes
            if self._boxes > limits.BOXES:
                raise ClaimError(f"more than {limits.BOXES:,} boxes")
            yield kind, at + head, at + size
            if kind not in _LEAVES and depth < _DEPTH:
                # some have 4 bytes of version and flags before their boxes
                more = 4 if kind == b"meta" and data[at + head : at + head + 4] == bytes(4) else 0
                yield from self._walk(data, at + head + more, at + size, depth + 1)
            at += size

    def _search(self, content: bytes) -> None:
        for kind in _TABLES:
            at = content.find(kind)
            while at >= 0:
                self._claim(kind, content, at + 4, len(content))
                at = content.find(kind, at + 4)

    def _unpacked(self, content: bytes) -> None:
        """A compressed movie header: a box with its length, and one with the bytes."""
        at = content.find(b"cmvd")
        if at < 0:
            return
        try:
            unpacked = zlib.decompressobj().decompress(content[at + 8 :], limits.MOVIE_HEADER_BYTES + 1)
        except zlib.error:
            return
        if len(unpacked) > limits.MOVIE_HEADER_BYTES:
            raise ClaimError(f"a compressed movie header of more than {limits.MOVIE_HEADER_BYTES:,} bytes")
        self._read(unpacked)

    def _claim(self, kind: bytes, data: bytes | mmap.mmap, at: int, end: int) -> None:
        """What one table claims."""
        # behind version and flags, and of sizes what all samples have
        begin = at + (8 if kind in (b"stsz", b"stz2") else 4)
        count = int.from_bytes(data[begin : min(end, begin + 4)], "big")
        if kind == b"elst":
            self._edits += count
        elif kind == b"trun":
            self._add(count)
        elif kind in (b"stts", b"ctts"):
            runs = min(count, max(0, end - begin - 4) // 8)
            lengths = list(struct.iter_unpack(">II", data[begin + 4 : begin + 4 + 8 * runs]))
            self._track.timed = max(self._track.timed, sum(run for run, _ in lengths))
            self._track.sound &= kind == b"stts" and [ticks for _, ticks in lengths] == [1]
        else:
            self._track.sized = max(self._track.sized, count)

    def _add(self, count: int) -> None:
        self._samples += count
        if self._samples > self._most:
            raise ClaimError(f"{self._samples:,} samples claimed by a file that has room for {self._most:,}")
        if self._edits > 100 and self._edits * self._samples > limits.EDITED_SAMPLES:
            raise ClaimError(f"an edit list of {self._edits:,} entries for {self._samples:,} samples")
