"""When the frames of a video are shown, and how far its packets reach.

Times of a file may restart: in recordings joined byte by byte, or after a lost signal. As in
ffmpeg, the format decides between a restart and a picture that stays long:

- MPEG-TS and MPEG-PS (FFmpeg's `AVFMT_TS_DISCONT`): decoding times that step back by more than 0.1
  s, or run more than 10 s ahead of all before, are a restart. Unlike in ffmpeg, a picture may stay
  longer if the sound continues, if B-frames reach across, or if other pictures of the video stay
  (slides): up to 20 times the longest stay.
- MP4 and AVI have an index; they are never joined byte by byte.
- Other formats: a keyframe that steps back to the beginning is a restart, as in joined Matroska.
- In all but the first, a picture stays as long as the file says, up to 30 hours; more is damage.

After a restart the video continues where it was.
"""

from collections.abc import Iterable
from fractions import Fraction
from numbers import Rational
from typing import NamedTuple

import av

from vtd_jax.untrusted.limits import STATED_FRAMES
from vtd_jax.video.codec.structure import shown_in_index

# seconds: ffmpeg's dts_delta_threshold and dts_error_threshold, a step back, a file's beginning
JUMP, LONGEST, BACK, BEGINNING = 10.0, 30 * 3600.0, 0.1, 1.0
# a picture may stay for this many times the longest stay before it
LONGER = 20
# flags of libavformat/avformat.h
TS_DISCONT, NO_TIMESTAMPS = 0x200, 0x80


def may_start_again(container) -> bool:
    """Whether times of this format may restart anywhere, so the last one is not the length."""
    return bool(container.format.flags & TS_DISCONT)


def stated_frames(container, stream) -> int:
    """Frames that the container states, without those that an edit list hides; 0 if it does not."""
    if stream.frames and "mp4" in container.format.name:
        return sane(shown_in_index(stream) or stream.frames)
    return sane(stream.frames)


def sane(frames: int) -> int:
    """A number of frames that a file may have; 0, as if it stated none, for any other."""
    return frames if 0 <= frames <= STATED_FRAMES else 0


def stated_seconds(container, stream) -> float:
    """Seconds of video that the container states; 0 if it states none."""
    if may_start_again(container):
        return 0.0
    if stream.duration is not None:
        return max(0.0, float(stream.duration * stream.time_base))
    begin = float((stream.start_time or 0) * stream.time_base)
    return max(0.0, (container.duration or 0) / av.time_base - begin)


def _seconds(ticks: int, base: Rational) -> float:
    """`ticks * base` as a float, without the cost of a Fraction."""
    return ticks * base.numerator / base.denominator


class Stamp(NamedTuple):
    """The times of a packet, or of a frame that is not decoded."""

    pts: int | None
    dts: int | None
    duration: int | None
    time_base: Fraction | None = None


class _Track:
    """Times of one stream, continued over every restart; integer ticks, which are fast.

    Attributes:
      base: seconds of a tick.
    """

    def __init__(self, container, stream):
        self.base, name = float(stream.time_base), container.format.name
        self._anywhere, self._indexed = may_start_again(container), name == "avi" or "mp4" in name
        self._limit = (JUMP if self._anywhere else LONGEST) / self.base
        # MPEG-PS: where a time is missing at a join, the demuxer takes that of the next part
        self._delay = (JUMP if name == "mpeg" else LONGEST) / self.base
        self._back, self._beginning = BACK / self.base, BEGINNING / self.base
        # as moved: the last decoding time, its end, and the end of what is shown
        self._first, self._last, self._end, self._shown, self._offset = None, None, 0, None, 0
        # the longest and the shortest step from packet to packet; None before the first
        self._step = self._usual = None

    @property
    def end(self) -> float:
        """Seconds at which the last packet is decoded and its length is over."""
        return float(self._end * self.base)

    @property
    def restarted(self) -> bool:
        """Whether times started again, so that later ones were moved."""
        return self._offset != 0

    def move(self, packet: av.Packet, sounds: Iterable["_Track"] = ()) -> None:
        """Changes the packet's times.

        Args:
          packet: not yet decoded.
          sounds: tracks of sound; a picture may stay for as long as they continue.
        """
        dts, pts, length = packet.dts, packet.pts, packet.duration or self._usual or 0
        if dts is not None:
            self._first = dts if self._first is None else self._first
            now = dts + self._offset
            if self._last is not None and (
                self._beyond(now, sounds) or self._steps_back(packet, now)
            ):
                # decoded after what was decoded, and shown after what was shown
                timed = pts is not None and self._shown is not None
                late = self._shown - (pts + self._offset) if timed else self._end - now
                shift = max(self._end - now, late)
                self._offset, now = self._offset + shift, now + shift
            elif self._last is not None:
                step = now - self._last
                self._step = step if self._step is None else max(self._step, step)
                self._usual = (
                    max(1, step) if self._usual is None else min(self._usual, max(1, step))
                )
            self._last, self._end = now, now + length
        if pts is not None:
            moved = pts + self._offset
            if dts is not None and pts - dts > self._delay and self._shown is not None:
                moved = self._shown
            self._shown = (
                moved + length if self._shown is None else max(self._shown, moved + length)
            )
            if moved != pts:
                packet.pts = moved
        if self._offset and dts is not None:
            packet.dts = dts + self._offset

    def _beyond(self, now: int, sounds: Iterable["_Track"]) -> bool:
        """Whether a time is further ahead than a picture may stay."""
        ahead = now - (self._end if self._shown is None else max(self._end, self._shown))
        if ahead <= self._limit:
            return False
        if any(now <= sound.end / self.base + self._limit for sound in sounds):
            return False
        return not self._anywhere or (self._step is not None and ahead > LONGER * self._step)

    def _steps_back(self, packet: av.Packet, now: int) -> bool:
        """Whether a time steps back as it does at a new start, not as damage has it."""
        if self._indexed or now >= self._last - self._back:
            return False
        return self._anywhere or (packet.is_keyframe and packet.dts - self._first < self._beginning)


class Clock:
    """Follows a video stream through all packets before decoding, and all decoded frames.

    Attributes:
      rate: frames a second; 0 if the file does not say.
      packets: of the video, without those that are empty or that an edit list hides.
      began, reached: seconds at which the first packet of the video begins and the last ends, by
        the file's own times.
      reached_by_any: end of the last packet of all streams.
      backwards: frames whose times lie before those of frames that are shown before them.
    """

    def __init__(self, container, stream):
        self._index, flags = stream.index, container.format.flags
        # libavformat's average for raw streams is its default of 25, whatever their headers say
        raw = stream.guessed_rate if flags & NO_TIMESTAMPS else None
        self.rate = float(raw or stream.average_rate or stream.guessed_rate or 0)
        self.packets, self.began, self.reached, self.reached_by_any = 0, float("inf"), 0.0, 0.0
        # an AVI has no times, only the slots of its packets
        self._slots = container.format.name == "avi"
        self.backwards = 0
        self._container, self._base, self._video = container, None, _Track(container, stream)
        self._others, self._sounds = {}, []
        self._first, self._end, self._repeated = None, 0.0, 0.0
        ends = "mp4" in container.format.name and stream.duration is not None
        self._stated = (
            ((stream.start_time or 0) + stream.duration, stream.time_base) if ends else None
        )
        self._count, self._seconds, self._step = 0, 0.0, 0.0
        self._known = 1, 0.0

    def packet(self, packet: av.Packet) -> None:
        """Notes how far the file reaches; after a new start, moves the packet's times."""
        mine = packet.stream.index == self._index
        self.packets += mine and packet.size > 0 and not packet.is_discard
        if packet.pts is None and packet.dts is None:
            return
        if mine:
            self._reach(packet, self._video)
            self._video.move(packet, self._sounds)
            return
        index = packet.stream.index
        if index not in self._others:
            self._others[index] = _Track(self._container, packet.stream)
            self._sounds += [self._others[index]] if packet.stream.type == "audio" else []
        self._reach(packet, self._others[index])
        self._others[index].move(packet)

    def _reach(self, packet: av.Packet, track: _Track) -> None:
        """How far the file reaches, by its own times."""
        begin, length = packet.pts, (packet.duration or 0) * track.base
        if begin is None or (track is self._video and self._slots and packet.dts is not None):
            begin = packet.dts
        begin *= track.base
        if track is self._video:
            length = length or (1 / self.rate if self.rate else 0.0)
            self.began, self.reached = min(self.began, begin), max(self.reached, begin + length)
        self.reached_by_any = max(self.reached_by_any, begin + length)

    def repeat(self, packet: av.Packet) -> None:
        """Takes an AVI's empty packet: what is shown stays for one more slot."""
        if self._first is not None:
            ticks = packet.dts + (packet.duration or 1) - self._first
            self._repeated = float(ticks * packet.time_base)

    def frame(self, frame: av.VideoFrame | Stamp) -> float:
        """Seconds from the first frame to this one; they never run backwards."""
        self._count += 1
        before, moment = self._seconds, (frame.dts if self._slots else frame.pts)
        self._base = self._base or frame.time_base or self._container.streams[self._index].time_base
        length = 0.0 if self._slots else _seconds(frame.duration or 0, self._base)
        # of a frame without a length: an AVI's shortest, else by the rate
        length = length or self._step or 1 / (self.rate or 25.0)
        if moment is None:
            count, seconds = self._known
            self._seconds = seconds + (self._count - count) * length
        else:
            self._first = moment if self._first is None else self._first
            seconds = _seconds(moment - self._first, self._base)
            # times that run backwards are damage, which players ignore too
            self.backwards += seconds < before
            self._seconds = max(before, seconds)
            self._known = self._count, self._seconds
        if self._slots and self._seconds > before:
            self._step = min(self._step or self._seconds, self._seconds - before)
        self._end = self._seconds + length
        return self._seconds

    @property
    def restarted(self) -> bool:
        """Whether times of the video started again."""
        return self._video.restarted

    @property
    def span(self) -> float:
        """Seconds from the first frame to the end of the last; 0 before there is one."""
        if self._stated and self._first is not None:
            # the lengths in an MP4 follow decoding order, which B-frames change
            ticks, base = self._stated
            stated = float((ticks - self._first) * base)
            if stated > self._seconds:
                return min(self._end, stated)
        return max(self._end, self._repeated)
