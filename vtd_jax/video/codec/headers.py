"""What the headers of packets say about pictures: H.264 in MP4 or Matroska, and MPEG-4 Part 2.

In H.264, pictures with `nal_ref_idc` 0 are referred to by no other, and nothing refers back across
an IDR picture; the picture order count says in what order they are shown. In MPEG-4 Part 2 the same
holds for B-VOPs and for I-VOPs that no B-VOP follows. A stream that is raw, interlaced, layered,
damaged or otherwise unusual gives None.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av

START_CODE, VOP, GOV = b"\0\0\1", b"\0\0\1\xb6", b"\0\0\1\xb3"
# slices of an IDR picture and of others; SEI, access unit delimiter, filler
IDR, SLICE, HARMLESS = 5, 1, (6, 9, 12)
# profiles whose parameter sets describe chroma and bit depth
HIGH_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 138, 139, 244)
HEAD_BYTES = 32


@dataclass(frozen=True)
class Unit:
    """What the headers say of one packet, which holds one picture.

    Attributes:
      start: nothing from here on refers to anything before, and all before is shown before.
      reference: other pictures may refer to it.
      order: the place where it is shown, comparable within the video.
    """

    start: bool
    reference: bool
    order: tuple[int, int]


@dataclass(frozen=True)
class Widths:
    """Bits of frame number and picture order count in a slice; count 0 means stored order."""

    frame: int
    count: int


def h264_units(extradata: bytes, packets: Iterable[av.Packet]) -> list[Unit] | None:
    """Reads the NAL units of every packet."""
    if len(extradata) < 8 or extradata[0] != 1 or extradata[5] & 31 != 1:
        return None
    length_bytes = (extradata[4] & 3) + 1
    size = int.from_bytes(extradata[6:8], "big")
    widths = read_sps(extradata[8 : 8 + size])
    if widths is None:
        return None
    units, segment, high, low, previous = [], -1, 0, 0, 0
    for i, packet in enumerate(packets):
        heads = slice_heads(memoryview(packet), length_bytes)
        if not heads or len({(head[0], read_slice(head, widths)) for head in heads}) > 1:
            return None
        start, reference = heads[0][0] & 31 == IDR, bool(heads[0][0] >> 5 & 3)
        numbers = read_slice(heads[0], widths)
        # a number out of turn makes the decoder invent pictures
        if numbers is None or numbers[0] != (0 if start else (previous + 1) % (1 << widths.frame)):
            return None
        if start:
            segment, high, low = segment + 1, 0, 0
        count, top = i, 0
        if widths.count:
            count, top = numbers[1], unwrap(numbers[1], high, low, 1 << widths.count)
        if reference:
            high, low, previous = top, count, numbers[0]
        units.append(Unit(start, reference, (segment, top + count)))
    return units


def unwrap(count: int, high: int, low: int, period: int) -> int:
    """High part of the picture order count, as in H.264, 8.2.1.1."""
    if count < low and low - count >= period // 2:
        return high + period
    if count > low and count - low > period // 2:
        return high - period
    return high


def slice_heads(data: memoryview, length_bytes: int) -> list[bytes]:
    """The first bytes of all slices of a packet; none if a NAL unit is cut or unusual."""
    heads, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + length_bytes], "big")
        place += length_bytes
        if size == 0 or place + size > len(data):
            return []
        kind = data[place] & 31
        if kind in (IDR, SLICE):
            heads.append(bytes(data[place : place + min(size, HEAD_BYTES)]))
        elif kind not in HARMLESS:
            return []
        place += size
    return heads


class Bits:
    """Reads numbers from the payload of a NAL unit."""

    def __init__(self, nal: bytes):
        # the 3 is an emulation prevention byte (H.264, 7.4.1)
        payload = nal[1:].replace(b"\0\0\3", b"\0\0")
        self.bits = f"{int.from_bytes(payload, 'big'):0{8 * len(payload)}b}" if payload else ""
        self.place = 0

    def number(self, width: int) -> int:
        """The next `width` bits."""
        self.place += width
        if self.place > len(self.bits):
            raise ValueError("the header ends early")
        return int(self.bits[self.place - width : self.place], 2)

    def golomb(self) -> int:
        """The next Exp-Golomb code."""
        zeros = self.bits.find("1", self.place) - self.place
        if zeros < 0:
            raise ValueError("the header ends early")
        self.place += zeros
        return self.number(zeros + 1) - 1


def read_sps(sps: bytes) -> Widths | None:
    """Reads a sequence parameter set; None if frames may be interlaced or numbered with gaps."""
    try:
        return _widths(Bits(sps))
    except ValueError:
        return None


def _widths(bits: Bits) -> Widths | None:
    """Reads a sequence parameter set up to the flag that says that frames are whole."""
    profile = bits.number(8)
    bits.number(16)
    bits.golomb()
    if profile in HIGH_PROFILES:
        planes = bits.golomb() == 3
        bits.golomb(), bits.golomb(), bits.number(1)
        if planes or bits.number(1):
            return None  # separate colour planes or scaling lists: rare, and not worth reading
    frame_bits = bits.golomb() + 4
    kind = bits.golomb()
    if kind == 1:
        return None
    count_bits = bits.golomb() + 4 if kind == 0 else 0
    bits.golomb()
    gaps = bits.number(1)
    bits.golomb(), bits.golomb()
    if gaps or not bits.number(1):
        return None
    return Widths(frame_bits, count_bits)


def reorder_frames(extradata: bytes) -> int:
    """Frames that may be stored before one that is shown before them; 0 where H.264 says none."""
    bits = Bits(extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")])
    try:
        if _widths(bits) is None:
            return 0
        bits.number(1)
        if bits.number(1):
            bits.golomb(), bits.golomb(), bits.golomb(), bits.golomb()
        return _vui_reorder_frames(bits) if bits.number(1) else 0
    except ValueError:
        return 0


def _vui_reorder_frames(bits: Bits) -> int:
    """`max_num_reorder_frames` of the video usability information (H.264, E.1.1)."""
    if bits.number(1) and bits.number(8) == 255:
        bits.number(32)
    if bits.number(1):
        bits.number(1)
    if bits.number(1):
        bits.number(4)
        if bits.number(1):
            bits.number(24)
    if bits.number(1):
        bits.golomb(), bits.golomb()
    if bits.number(1):
        bits.number(65)
    # parameters of the NAL and of the VCL's reference decoder
    kinds = [_skip_hrd(bits) for _ in range(2) if bits.number(1)]
    bits.number(2 if kinds else 1)
    if not bits.number(1):
        return 0
    bits.number(1)
    bits.golomb(), bits.golomb(), bits.golomb(), bits.golomb()
    return bits.golomb()


def _skip_hrd(bits: Bits) -> None:
    """Skips the parameters of a reference decoder (H.264, E.1.2)."""
    count = bits.golomb() + 1
    bits.number(8)
    for _ in range(min(count, 32)):
        bits.golomb(), bits.golomb(), bits.number(1)
    bits.number(20)


def read_slice(nal: bytes, widths: Widths) -> tuple[int, int] | None:
    """Frame number and low picture order count of a slice; None if the header ends early."""
    bits = Bits(nal)
    try:
        bits.golomb(), bits.golomb(), bits.golomb()
        number = bits.number(widths.frame)
        if nal[0] & 31 == IDR:
            bits.golomb()
        return number, bits.number(widths.count) if widths.count else 0
    except ValueError:
        return None


def mpeg4_units(extradata: bytes, packets: Iterable[av.Packet]) -> list[Unit] | None:
    """Reads the VOP headers; None for several VOPs a packet, or headers that change."""
    kinds, heads = [], set()
    for packet in packets:
        data = bytes(packet)
        place = data.find(VOP)
        if place < 0 or len(data) < place + 5 or data.find(START_CODE, place + 4) >= 0:
            return None
        kinds.append("IPBS"[data[place + 4] >> 6])
        head, _, group = data[:place].partition(GOV)
        if START_CODE in group or (head and kinds[-1] != "I"):
            return None
        # unpacking turns the p (for packed) of DivX's user data into a zero, in the first packet
        # only
        heads.add(
            (head + START_CODE).replace(b"p" + START_CODE, b"\0" + START_CODE) if head else b""
        )
    if len(heads - {b""}) > 1:
        return None
    return list(_vop_units(kinds))


def _vop_units(kinds: list[str]) -> Iterator[Unit]:
    """Orders VOPs for display: a B-VOP comes before the reference that precedes it."""
    last = len(kinds) - 1
    for i, kind in enumerate(kinds):
        if kind == "B":
            yield Unit(False, False, (i, 0))
            continue
        after = next((j for j in range(i + 1, last + 1) if kinds[j] != "B"), last + 1)
        yield Unit(kind == "I" and after == i + 1, True, (after - 1, 1))
