"""A clip by the index of its file: every packet is looked at, only the needed ones are decoded.

What a pass over all frames counts and checks is taken from the packets and their headers. Where
these do not settle it (a codec whose headers are not read, hidden or damaged packets, times that
start again, a file that may be cut), nothing is returned, and the caller decodes everything.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np

from vtd_jax.video import decode, sampling
from vtd_jax.video.codec import opening
from vtd_jax.video.codec import plan as decode_plan
from vtd_jax.video.codec.clock import Stamp
from vtd_jax.video.codec.headers import Unit
from vtd_jax.video.codec.opening import Source
from vtd_jax.video.codec.orientation import shown_shape
from vtd_jax.video.codec.plan import Choice
from vtd_jax.video.codec.wholeness import VideoInfo

# bytes of packets that are kept between looking and decoding; larger files are read a second time
_KEPT_BYTES = 2**26
# frames that a decoder holds back at most, to put them into order (H.264, A.3.1)
_MOST_DELAY = 16


class _Unsure(Exception):
    """The index does not settle what a pass over all frames would find."""


class _Seen:
    """What is noted of all packets of a video.

    Attributes:
      stamps: of the packets with something in them, in stored order.
      repeats: an AVI's empty packets, each with the number of packets before it.
      kept: the packets; None where they are too many to be kept.
      time_base: of the frames, once one is decoded.
    """

    def __init__(self):
        self.stamps: list[Stamp] = []
        self.repeats: list[tuple[int, av.Packet]] = []
        self.kept: list[av.Packet] | None = []
        self.time_base: Fraction | None = None
        self._bytes = 0

    def note(self, packet: av.Packet) -> None:
        """One more packet, as the decoder would get it."""
        self.stamps.append(Stamp(packet.pts, packet.dts, packet.duration))
        self._bytes += packet.size
        if self._bytes > _KEPT_BYTES:
            self.kept = None
        if self.kept is not None:
            self.kept.append(packet)


def has_index(reader: decode.Reader) -> bool:
    """Whether packets of the video's codec can be read, so that `read_by_index` may be tried."""
    return reader.decoder.stream.codec_context.name in decode_plan.CODECS


def read_by_index(
    reader: decode.Reader, source: Source, frames: int, keep: Callable[[np.ndarray], Any]
) -> tuple[dict[int, tuple[Any, float]], VideoInfo] | None:
    """The centres of T segments, as a pass over all frames finds them.

    Args:
      reader: of a video that has an index; used up.
      source: its path, or the file's bytes.
      frames: T.
      keep: makes what is kept of an RGB image.

    Returns:
      `(kept, seconds)` by the frame's index, and what the whole file holds; None where only a pass
      over all frames settles it.
    """
    decoder, seen = reader.decoder, _Seen()
    try:
        units = _units(decoder, seen)
        wanted = set(sampling.test_indices(len(units), frames).tolist())
        choice = _choice(decoder, units, seen, wanted)
        lag, images = _decoded(source, reader, seen, choice, wanted, keep)
        if _has_slots(decoder) and lag == 0 and not all(unit.reference for unit in units):
            return None
        seconds = _seconds(decoder, seen, choice, lag)
        decoder.decoded = len(units)
        info = reader.info()
    except (av.error.FFmpegError, EOFError, ValueError, ArithmeticError, _Unsure):
        # a file that is refused (a `ValueError`) is so by its index alone: a pass over all frames
        # finds the reason
        return None
    if info.note or decoder.clock.backwards:
        return None
    return {i: (image, seconds[i]) for i, image in images.items()}, info


def _units(decoder: decode.Decoder, seen: _Seen) -> list[Unit]:
    """What the headers say of every packet of the video; the clock has followed all of them."""
    stream = decoder.stream
    read = decode_plan.CODECS[stream.codec_context.name]
    units = read(stream.codec_context.extradata or b"", _looked_at(decoder, seen))
    if not units or len(units) != decoder.clock.packets or decoder.clock.restarted:
        raise _Unsure
    return units


def _looked_at(decoder: decode.Decoder, seen: _Seen) -> Iterator[av.Packet]:
    """The packets of the video as its decoder takes them; raises at the first unusual one."""
    stream, context = decoder.stream, decoder.stream.codec_context
    unpack = _unpacking(stream)
    for packet in decoder.container.demux():
        decoder.clock.packet(packet)
        if packet.stream.index != stream.index:
            continue
        if packet.size == 0:
            if packet.dts is not None:
                _repeat(decoder, seen, packet)
            continue
        if decode_plan.unusual(packet):
            raise _Unsure
        # what a pass over all frames would count
        decoder.tally.packet(packet)
        decoder.tally.add(context.width, context.height)
        for out in unpack(packet):
            seen.note(out)
            yield out


def _unpacking(stream: av.VideoStream) -> Callable[[av.Packet], Sequence[av.Packet]]:
    """What makes one packet a picture; raises where a packet has none or several."""
    if stream.codec_context.name != "mpeg4":
        return lambda packet: [packet]
    try:
        unpack = decode_plan.unpacking(stream)
    except ValueError:
        raise _Unsure from None

    def one(packet: av.Packet) -> Sequence[av.Packet]:
        found = unpack.filter(packet)
        if len(found) != 1:
            raise _Unsure
        return found

    return one


def _repeat(decoder: decode.Decoder, seen: _Seen, packet: av.Packet) -> None:
    """Notes an AVI's "show the last frame again"; in other formats it is damage."""
    if not _has_slots(decoder):
        raise _Unsure
    decoder.repeats += 1
    seen.repeats.append((len(seen.stamps), packet))


def _choice(
    decoder: decode.Decoder, units: Sequence[Unit], seen: _Seen, wanted: set[int]
) -> Choice:
    """The packets to be decoded; raises unless headers and times prove what comes out of them."""
    stream = decoder.stream
    slots = _has_slots(decoder)
    if slots and stream.codec_context.name != "mpeg4":
        # a frame's time is when it comes out, which is the decoder's choice
        raise _Unsure
    times = None if slots else [stamp.pts for stamp in seen.stamps]
    choice = decode_plan.choose(units, times, wanted)
    if choice is None or choice.out[0] != 0 or choice.shown[0] != 0:
        raise _Unsure
    # a decoder that expects fewer frames out of order drops some
    if _delay(choice.shown) > decode_plan.stated_delay(stream):
        raise _Unsure
    return choice


def _delay(shown: Sequence[int]) -> int:
    """Most frames that are decoded before one that is shown before them."""
    place, most, later = {packet: i for i, packet in enumerate(shown)}, 0, []
    for packet in range(len(shown)):
        later = [i for i in later if i > place[packet]]
        most = max(most, len(later))
        if most > _MOST_DELAY:
            raise _Unsure
        later.append(place[packet])
    return most


def _decoded(
    source: Source,
    reader: decode.Reader,
    seen: _Seen,
    choice: Choice,
    wanted: set[int],
    keep: Callable[[np.ndarray], Any],
) -> tuple[int, dict[int, Any]]:
    """Decodes the chosen packets; raises unless the chosen frames come out, at their times.

    Returns:
      How many packets later than its own a frame of MPEG-4 comes out, and what is kept of the
      wanted frames.
    """
    decoder = reader.decoder
    context, lags, images, count = decoder.stream.codec_context, set(), {}, 0
    slots = _has_slots(decoder)
    # damage that the decoder would patch up from other frames must be seen
    context.options = opening.decoder_options() | {"err_detect": "explode"}
    size = context.width, context.height
    for number, packet in enumerate(chain(_again(source, reader, seen, choice.fed), [None])):
        for frame in context.decode(packet):
            if count == len(choice.out) or frame.is_corrupt or (frame.width, frame.height) != size:
                raise _Unsure
            index = choice.out[count]
            stamp = seen.stamps[choice.shown[index]]
            if count == 0:
                reader.shape, seen.time_base = shown_shape(frame), frame.time_base
            timed = slots or (frame.pts, frame.duration or 0) == (stamp.pts, stamp.duration or 0)
            if not timed:
                raise _Unsure
            lags.add(number - count)
            if index in wanted:
                images[index] = keep(reader.image(frame))
            count += 1
    if count < len(choice.out) or (slots and (len(lags) != 1 or max(lags) > 1)):
        raise _Unsure
    return max(lags), images


def _again(
    source: Source, reader: decode.Reader, seen: _Seen, fed: Sequence[int]
) -> Iterator[av.Packet]:
    """The chosen packets, kept ones or from the file."""
    if seen.kept is not None:
        yield from (seen.kept[i] for i in fed)
        return
    chosen, number = set(fed), 0
    with decode.reading(source, reader.name) as again:
        unpack = _unpacking(again.decoder.stream)
        for packet in again.decoder.container.demux(again.decoder.stream):
            for out in unpack(packet) if packet.size else ():
                if number in chosen:
                    yield out
                number += 1
            if number > fed[-1]:
                return


def _seconds(decoder: decode.Decoder, seen: _Seen, choice: Choice, lag: int) -> list[float]:
    """When the frames are shown, by the clock of a pass over all of them."""
    stamps, clock = seen.stamps, decoder.clock
    if not _has_slots(decoder):
        return [clock.frame(stamps[i]._replace(time_base=seen.time_base)) for i in choice.shown]
    # an AVI's frame has the time of the packet that the decoder was given when it came out
    seconds, repeats = [], deque(seen.repeats)
    for number in range(len(stamps) + 1):
        while repeats and repeats[0][0] == number:
            clock.repeat(repeats.popleft()[1])
        # at the end come those that the decoder still holds
        for place in [number] if number < len(stamps) else range(len(stamps), len(stamps) + lag):
            if place >= lag:
                dts = stamps[place].dts if place < len(stamps) else None
                seconds.append(clock.frame(Stamp(None, dts, None, seen.time_base)))
    return seconds


def _has_slots(decoder: decode.Decoder) -> bool:
    """Whether packets have no times, only slots."""
    return decoder.container.format.name == "avi"
