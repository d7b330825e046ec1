"""Which packets of a video are needed for chosen frames, where the headers of the packets prove it.

Pictures without references to them are left out, as are whole groups of pictures and their ends.
The headers give the display order (`headers.py`), and H.264 timestamps must agree with it. Anything
unusual gives no plan, and the video is decoded in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import av.error
from av.bitstream import BitStreamFilterContext

from vtd_jax.video.codec.headers import Unit, h264_units, mpeg4_units, reorder_frames

CODECS = {"h264": h264_units, "mpeg4": mpeg4_units}


@dataclass(frozen=True)
class Plan:
    """What to decode and what comes out.

    Attributes:
      packets: to be decoded, in order.
      frames: index in the whole video of every frame that comes out, in order.
      times: timestamps of these frames; None where timestamps mean nothing.
    """

    packets: list[av.Packet]
    frames: list[int]
    times: list[int | None] | None


def make_plan(
    stream: av.VideoStream, packets: Sequence[av.Packet], frames: int, wanted: set[int]
) -> Plan | None:
    """Finds the packets needed for the wanted frames.

    Args:
      stream: the video stream.
      packets: all its packets; unpacking empties them.
      frames: how many frames decode from them in all.
      wanted: indices of frames, all below `frames`.

    Returns:
      None where it cannot be proved that fewer packets give the same frames.
    """
    codec = stream.codec_context.name
    if any(unusual(packet) for packet in packets):
        return None
    if codec == "mpeg4":
        packets = _unpacked(stream, packets)
    if len(packets) != frames:
        return None
    units = CODECS[codec](stream.codec_context.extradata or b"", packets)
    if not units:
        return None
    times = [packet.pts for packet in packets] if codec == "h264" else None
    found = choose(units, times, wanted)
    if found is None:
        return None
    fed, out = [packets[i] for i in found.fed], found.out
    return Plan(fed, out, times and [times[found.shown[i]] for i in out])


class Choice(NamedTuple):
    """Packets and frames by their numbers.

    Attributes:
      shown: the packet of every frame of the video, in the order in which they are shown.
      fed: packets to be decoded, in order.
      out: frames that come out of these, in order.
    """

    shown: list[int]
    fed: list[int]
    out: list[int]


def choose(
    units: Sequence[Unit], times: Sequence[int | None] | None, wanted: set[int]
) -> Choice | None:
    """Finds the packets needed for the wanted frames.

    Args:
      units: what the headers say of all packets, at least one.
      times: timestamps of the packets; None where they mean nothing.
      wanted: indices of frames, all below the number of packets.

    Returns:
      None where headers and timestamps do not agree, or the video starts within a group.
    """
    if not units[0].start:
        return None
    shown = sorted(range(len(units)), key=lambda i: units[i].order)
    in_order = [] if times is None else [times[i] for i in shown]
    if any(a is None or b is None or a >= b for a, b in pairwise(in_order)) or None in in_order:
        return None
    # the first packet may carry headers that hold for all
    fed = sorted(_closure(units, {shown[i] for i in wanted}) | {0})
    place = {packet: i for i, packet in enumerate(shown)}
    return Choice(shown, fed, sorted(place[i] for i in fed))


def _closure(units: Sequence[Unit], needed: set[int]) -> set[int]:
    """The needed packets and all references before them, back to the last start."""
    fed, run = set(), []
    for i, unit in enumerate(units):
        if unit.start:
            run = []
        if i in needed:
            fed.update(run)
            fed.add(i)
            run = []
        elif unit.reference:
            run.append(i)
    return fed


def unusual(packet: av.Packet) -> bool:
    """Whether a packet is dropped, damaged, or changes the stream's headers."""
    if not hasattr(packet, "has_sidedata"):
        return True  # PyAV 15 does not say whether headers change
    changes = packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
    return packet.is_discard or packet.is_corrupt or changes


def _unpacked(stream: av.VideoStream, packets: Sequence[av.Packet]) -> Sequence[av.Packet]:
    """One packet a VOP, without the placeholders that stand for B-VOPs packed elsewhere."""
    try:
        unpack = unpacking(stream)
        filtered = [out for packet in packets for out in unpack.filter(packet)]
        return filtered + list(unpack.filter(None))
    except (av.error.FFmpegError, ValueError):
        return packets


def unpacking(stream: av.VideoStream) -> BitStreamFilterContext:
    """A filter that makes one packet a VOP, as the decoder does for itself.

    Raises:
      av.error.FFmpegError, ValueError: the stream's headers are damaged.
    """
    return BitStreamFilterContext("mpeg4_unpack_bframes", stream)


def stated_delay(stream: av.VideoStream) -> int:
    """Frames that the decoder holds back to put them into order, by the stream's headers."""
    if stream.codec_context.name == "mpeg4":
        # one, of which nothing is lost: `headers.mpeg4_units` orders them by the same rule
        return 1
    return reorder_frames(stream.codec_context.extradata or b"")
