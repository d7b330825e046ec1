"""Checks what the tables of an MP4 claim against the size of the file, before FFmpeg sees them.

Eight bytes can claim 5·10⁷ samples, for which FFmpeg allocates gigabytes. FFmpeg reads a table at
any place and depth, so this walk enters every box that FFmpeg may enter. It cannot match FFmpeg in
all details. Names of tables are therefore also searched in all bytes that FFmpeg may read.
"""

import mmap
import re
import zlib
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from vtd_jax.untrusted import limits
from vtd_jax.video.codec.mp4_boxes import (
    LEAVES,
    behind_tag,
    box_header,
    handlers,
    hides,
    is_mp4,
    is_text,
    meta,
)

# boxes of boxes, which FFmpeg walks from size to size as here; `meta` from its first box
_PLAIN = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"meta", b"ilst", b"moof", b"traf"}
# large data in which a name may occur by chance; `mdat` is data at the top only
_BLIND = {b"uuid", b"skip", b"wide", b"free", b"hoov", b"covr", b"XMP_", b"stco", b"co64"}
# how deep FFmpeg goes, and a little more
_DEPTH = 16
_TABLES = (b"stsz", b"stz2", b"stts", b"ctts", b"trun", b"elst")
_NAMES = re.compile(rb"st(?:sz|z2|ts)|ctts|trun|elst|cmov|sidx")
# handlers, behind a size of 4 or of 12 bytes, whose samples FFmpeg takes one by one
_ONE_BY_ONE = re.compile(rb"hdlr(?:.{8}){1,2}(?:vide|subp|clcp)", re.DOTALL)


class ClaimError(Exception):
    """A file claims more than its bytes can hold."""


def check_claims(data: bytes | mmap.mmap) -> None:
    """Refuses tables that claim more samples than there are bytes for; anything but an MP4 passes.

    Raises:
      ClaimError: says what is claimed.
    """
    begins = {at for at in (0, behind_tag(data)) if is_mp4(data, at)}
    if begins:
        # FFmpeg begins behind a tag or before it
        _Claims(len(data)).read(data, sorted({0} | begins))


class _Track:
    """What the tables of one track claim.

    Attributes:
      heard: whether its handler is one of sound, and no other is in it.
      sized, timed: the most samples in its tables of sizes and of times.
      ticks: whether its times are one run of one tick a sample, as of uncompressed sound, read by
        the chunk.
    """

    def __init__(self, heard: bool = False):
        self.heard, self.sized, self.timed, self.ticks = heard, 0, 0, None

    @property
    def samples(self) -> int:
        """Samples for which FFmpeg takes memory one by one."""
        return 0 if self.heard and self.ticks else max(self.sized, self.timed)


class _Claims:
    """Adds up what the boxes of one file claim."""

    def __init__(self, size: int):
        self._most = limits.SAMPLES + size // limits.SAMPLE_BYTES
        self._boxes = self._samples = self._edits = self._runs = self._packed = 0
        # bytes to search: all, and those of a track or of what an index names once more
        self._left = 4 * (size + limits.MOVIE_HEADER_BYTES)
        self._track = _Track()

    def read(self, data: bytes | mmap.mmap, begins: list[int]) -> None:
        """Adds the claims of boxes from these places on, and of boxes that an index names."""
        met, tops, pointed = set(), [], []
        for begin in begins:
            self._read(data, begin, met, tops, pointed)
        tops.sort()
        # FFmpeg follows an index into what is data otherwise
        for at in pointed:
            if len(pointed) > limits.BOXES:
                raise ClaimError(f"an index of more than {limits.BOXES:,} boxes")
            i = bisect_left(tops, at)
            if at < len(data) and tops[i : i + 1] != [at] and at not in met:
                met.add(at)
                self._read(data, at, met, tops, pointed, listed=True)

    def _read(
        self,
        data: bytes | mmap.mmap,
        begin: int,
        met: set,
        tops: list[int],
        pointed: list[int],
        listed: bool = False,
    ) -> None:
        """What boxes side by side claim.

        Args:
          met: gets the places of names.
          tops: where boxes at the top begin; gets them, or if these are `listed` in an index, ends
            them.
          pointed: gets the places that an index names.
        """
        searched = top = begin
        for kind, start, at, end, depth, blind in self._walk(data, begin, len(data), 0, True):
            if depth == 0:
                top = end
                if not listed:
                    tops.append(start)
                elif tops[(i := bisect_left(tops, start)) : i + 1] == [start]:
                    top = start
                    break
            if kind == b"trak":
                self._close()
                self._track = _Track(self._is_heard(data, at, end))
            elif start + 4 not in met and (kind in _TABLES or kind in (b"cmov", b"sidx")):
                met.add(start + 4)
                if kind == b"cmov":
                    self._unpacked(data[at:end])
                elif kind == b"sidx":
                    pointed += self._pointed(data, at, end)
                else:
                    self._claim(kind, data, at)
            # an index may be wrong, and what it names is then anything
            if (blind and at < end) or (listed and depth == 0 and kind not in _PLAIN):
                self._search(data, searched, at, met, pointed)
                searched = end
        self._close()
        self._search(data, searched, top if listed else len(data), met, pointed)

    def _is_heard(self, data: bytes | mmap.mmap, begin: int, end: int) -> bool:
        """Whether a track has the handler of sound and no other."""
        self._spend(end - begin)
        return (
            b"soun" in handlers(data, begin, end) and _ONE_BY_ONE.search(data, begin, end) is None
        )

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ClaimError("its index names the same bytes again and again")

    def _close(self) -> None:
        """The end of a track: what it claims is added."""
        self._add(self._track.samples)
        self._track = _Track()

    def _walk(
        self, data: bytes | mmap.mmap, at: int, end: int, depth: int, plain: bool
    ) -> Iterator[tuple[bytes, int, int, int, int, bool]]:
        """Boxes, sizes cut at the end of what they are in, as FFmpeg does.

        Yields:
          Kind, where box, content and what follows begin, depth, and whether FFmpeg surely passes
          over the content.
        """
        while end - at >= 8:
            size, kind, head = box_header(data, at)
            size = min(size or end - at, end - at)
            if size < head:
                return
            self._boxes += 1
            if self._boxes > limits.BOXES:
                raise ClaimError(f"more than {limits.BOXES:,} boxes")
            is_data = kind in _BLIND or (kind == b"mdat" and depth == 0)
            blind = plain and is_data and not hides(data, kind, at + head)
            yield kind, at, at + head, at + size, depth, blind
            if size >= head + 8 and not blind and kind not in LEAVES and depth < _DEPTH:
                begin = at + head
                if kind == b"meta":
                    self._spend(size)
                    begin = meta(data, begin, at + size)
                yield from self._walk(data, begin, at + size, depth + 1, plain and kind in _PLAIN)
            at += size

    def _search(
        self, data: bytes | mmap.mmap, begin: int, end: int, met: set, pointed: list
    ) -> None:
        """Counts table names that the walk missed; FFmpeg refuses only sizes 2 to 7."""
        if begin >= end:
            return
        self._spend(end - begin)
        for match in _NAMES.finditer(data, begin, end):
            place, kind = match.start(), match[0]
            size = int.from_bytes(data[max(0, place - 4) : place], "big")
            if place in met or 2 <= size < 8:
                continue
            at = place + (12 if size == 1 else 4)
            if kind == b"cmov":
                # without these FFmpeg goes no further
                if data[at + 4 : at + 12] == b"dcomzlib":
                    self._unpacked(data[at:end])
            elif kind == b"sidx":
                pointed += self._pointed(data, at, min(end, place - 4 + size))
            else:
                track, self._track = self._track, _Track()
                self._claim(kind, data, at)
                self._close()
                self._track = track

    def _pointed(self, data: bytes | mmap.mmap, at: int, end: int) -> list[int]:
        """Where the fragments begin that an index lists."""
        wide = data[at : at + 1] == b"\1"
        place = at + (28 if wide else 20)
        first = int.from_bytes(data[at + (20 if wide else 16) : place], "big")
        count = int.from_bytes(data[place + 2 : place + 4], "big")
        lengths = data[place + 4 : place + 4 + 12 * count]
        self._count_runs(len(lengths) // 12)
        found = [end + first]
        for i in range(0, len(lengths) - 11, 12):
            found.append(found[-1] + int.from_bytes(lengths[i : i + 4], "big"))
        return found

    def _unpacked(self, content: bytes) -> None:
        """Adds the claims of a compressed movie header, at the offsets FFmpeg assumes."""
        self._packed += 1
        if self._packed > _DEPTH:
            raise ClaimError(f"more than {_DEPTH} compressed movie headers")
        if content[4:12] != b"dcomzlib" or content[16:20] != b"cmvd":
            raise ClaimError("a compressed movie header without its parts")
        stream = zlib.decompressobj()
        try:
            unpacked = stream.decompress(content[24:], limits.MOVIE_HEADER_BYTES + 1)
        except zlib.error:
            raise ClaimError("a compressed movie header that does not unpack") from None
        if max(len(unpacked), int.from_bytes(content[20:24], "big")) > limits.MOVIE_HEADER_BYTES:
            raise ClaimError(
                f"a compressed movie header of more than {limits.MOVIE_HEADER_BYTES:,} bytes"
            )
        track, self._track = self._track, _Track()
        self.read(unpacked, [0])
        self._track = track

    def _claim(self, kind: bytes, data: bytes | mmap.mmap, at: int) -> None:
        """What one table claims; FFmpeg reads on behind a box that is shorter than its table."""
        if is_text(data, kind, at):
            return
        # behind version and flags, and of sizes what all samples have
        begin = at + (8 if kind in (b"stsz", b"stz2") else 4)
        count = int.from_bytes(data[begin : begin + 4], "big")
        if kind == b"elst":
            self._edits += count
            self._add(0)
        elif kind == b"trun":
            self._add(count)
        elif kind in (b"stts", b"ctts"):
            self._count_runs(count)
            content = data[begin + 4 : begin + 4 + 8 * count]
            runs = np.frombuffer(content, ">u4", len(content) // 8 * 2).reshape(-1, 2)
            self._track.timed = max(self._track.timed, int(runs[:, 0].sum(dtype=np.uint64)))
            alone = kind == b"stts" and count == 1 and runs[:, 1].tolist() == [1]
            self._track.ticks = alone and self._track.ticks is not False
        else:
            self._track.sized = max(self._track.sized, count)

    def _count_runs(self, count: int) -> None:
        """Entries of tables that are read: no byte belongs to many of them."""
        self._runs += count
        if self._runs > self._most:
            raise ClaimError(
                f"{self._runs:,} runs of samples claimed by a file that has room for {self._most:,}"
            )

    def _add(self, count: int) -> None:
        self._samples += count
        if self._samples > self._most:
            raise ClaimError(
                f"{self._samples:,} samples claimed by a file that has room for {self._most:,}"
            )
        if self._edits > 100 and self._edits * self._samples > limits.EDITED_SAMPLES:
            raise ClaimError(
                f"an edit list of {self._edits:,} entries for {self._samples:,} samples"
            )
