"""Reading video files with PyAV: in order, converting only the frames that are wanted.

A file's frames are those that decode; containers may promise more. Two promises show whether a file
is whole: the duration, and the frame count (not of MP4, whose edit lists hide frames).
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from vtd_jax.errors import UserError
from vtd_jax.video.augment import resize, short_side_size
from vtd_jax.video.codec import opening
from vtd_jax.video.codec import plan as decode_plan
from vtd_jax.video.codec.clock import Clock, may_start_again, sane, stated_frames, stated_seconds
from vtd_jax.video.codec.opening import Source
from vtd_jax.video.codec.orientation import shown, shown_shape
from vtd_jax.video.codec.wholeness import VideoError, VideoInfo, check_whole
from vtd_jax.video.limits import Tally, check_clip


class Decoder:
    """Yields the frames of an open container in order, and counts packets and frames."""

    def __init__(self, container, stream, tally):
        self.container, self.stream, self.tally = container, stream, tally
        self.decoded = self.failed = self.repeats = self.corrupt = 0
        self.clock = Clock(container, stream)

    def __iter__(self) -> Iterator[av.VideoFrame]:
        for packet in self.container.demux():
            self.clock.packet(packet)
            if packet.stream.index != self.stream.index:
                continue
            if packet.size == 0 and packet.dts is not None:
                # AVI's "show the last frame again", which would end the decoder
                self.repeats += 1
                self.clock.repeat(packet)
                continue
            self.tally.packet(packet)
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, EOFError):
                self.failed += 1
                # it knows the size of what it did not decode, and may have worked at it for long
                self.tally.add(self.stream.codec_context.width, self.stream.codec_context.height)
                continue
            for frame in frames:
                self.tally.add(frame.width, frame.height)
                self.decoded += 1
                self.corrupt += frame.is_corrupt
                yield frame


@contextmanager
def _open(source: Source, name: str) -> Iterator[Decoder]:
    with opening.video(source, name) as (container, stream):
        yield Decoder(container, stream, Tally(name, _size(source), stream.codec_context.name))


class Reader:
    """An open video; iterating yields `(index, seconds, raw frame)` of all frames, in order.

    A raw frame costs nothing but its decoding; `image` converts it.

    Attributes:
      decoder: of the open container.
      name: what messages call the video.
      shape: height and width of the first frame as displayed.
    """

    def __init__(self, decoder: Decoder, name: str, source: Source):
        self.decoder, self.name, self._source = decoder, name, source
        self.shape, self._converter = (0, 0), VideoReformatter()

    def __iter__(self) -> Iterator[tuple[int, float, av.VideoFrame]]:
        for index, frame in enumerate(self.decoder):
            if index == 0:
                self.shape = shown_shape(frame)
            yield index, self.decoder.clock.frame(frame), frame

    def image(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        """RGB as displayed; frames whose size changes in mid-stream get the size of the first."""
        return _image(frame, self.shape, self._converter)

    def info(self) -> VideoInfo:
        """What was seen; after the last frame only.

        Raises:
          VideoError: no frames, or the file ends before its time.
        """
        decoder = self.decoder
        note = check_whole(decoder, self.name, self._source)
        clock, (height, width) = decoder.clock, self.shape
        damaged, codec = decoder.failed + decoder.corrupt, decoder.stream.codec_context.name
        return VideoInfo(
            decoder.decoded, clock.rate, clock.span, width, height, codec, damaged, note
        )

    def expected_frames(self) -> int:
        """Frames stated, else packets counted, which uses up this `Reader`."""
        container, stream = self.decoder.container, self.decoder.stream
        return stated_frames(container, stream) or sum(
            packet.size > 0 for packet in container.demux(stream)
        )


@contextmanager
def reading(source: Source, name: str = "") -> Iterator[Reader]:
    """Opens a video.

    Args:
      source: path, or the file's bytes.
      name: what messages call the video; the path if empty.

    Raises:
      VideoError: for a file that cannot be opened or has no video.
    """
    name = name or _name(source)
    with _open(source, name) as decoder:
        yield Reader(decoder, name, source)


def scan(source: Source, wanted: Sequence[int] | np.ndarray | None = None, name: str = ""):
    """Decodes and checks a whole video, yielding `(index, image)` of the wanted frames.

    Args:
      source: path, or the file's bytes.
      wanted: indices of frames to convert; None converts all, an empty sequence none.
      name: what messages call the video; the path if empty.

    Yields:
      `(index, uint8 RGB image [h, w, 3])` in order, oriented as displayed.

    Returns:
      VideoInfo (the generator's return value).

    Raises:
      VideoError: for a file that cannot be opened, has no video, no frames, or ends before its
        time.
    """
    keep = None if wanted is None else {int(i) for i in wanted}
    with reading(source, name) as video:
        for index, _, frame in video:
            if keep is None or index in keep:
                yield index, video.image(frame)
        return video.info()


def probe(source: Source, name: str = "") -> VideoInfo:
    """Decodes a whole video without converting frames; raises VideoError for a bad one."""
    frames = scan(source, (), name)
    while True:
        try:
            next(frames)
        except StopIteration as end:
            return end.value


def decode_frames(
    source: Source,
    indices: Sequence[int] | np.ndarray,
    short_side: int | None = None,
    name: str = "",
    known_frames: int | None = None,
) -> UInt8[np.ndarray, "t h w 3"]:
    """Decodes chosen frames, in one pass that ends at the last of them.

    Args:
      source: path, or the file's bytes.
      indices: frames to return, in any order, repeats allowed; 0 is the first.
      short_side: scale frames so that the short side has this many pixels; None keeps their size.
      name: what messages call the video.
      known_frames: how many frames `scan` or `probe` found in this very file, none of them damaged.
        With it, frames that no wanted frame depends on are left out where that changes nothing; the
        result is the same.

    Raises:
      VideoError: as for `scan`, or if the video ends before the last index.
    """
    name = name or _name(source)
    wanted = [int(i) for i in indices]
    if not wanted or min(wanted) < 0:
        raise UserError(f"{name}: expected one or more frame indices >= 0, got {wanted}")
    keep, last = set(wanted), max(wanted)
    images = None
    if known_frames is not None and last < known_frames:
        images = _planned_images(source, keep, short_side, name, known_frames)
    if images is None or last not in images:
        with _open(source, name) as decoder:
            images = _images(enumerate(decoder), keep, short_side, name)
            found = decoder.decoded
    if last not in images:
        raise VideoError(f"{name}: frame {last} is wanted, but only {found} frames decode")
    height, width = images[last].shape[:2]
    # repeats are frames of their own from here on
    check_clip(width, height, len(wanted), name)
    return np.stack([images[i] for i in wanted])


def _images(
    frames: Iterable[tuple[int, av.VideoFrame]], keep: set[int], short_side: int | None, name: str
) -> dict[int, np.ndarray]:
    """Converts the wanted frames to the size of the first; stops after the last of them."""
    images, shape, last, converter = {}, None, max(keep), VideoReformatter()
    for index, frame in frames:
        if index in keep:
            image = _image(frame, shape, converter)
            if shape is None:
                shape = image.shape[:2]
                if short_side is not None:
                    shape = short_side_size(*shape, short_side)
                check_clip(shape[1], shape[0], len(keep), name)
            images[index] = resize(image, *shape)
        if index == last:
            break
    return images


class _PlanFailedError(Exception):
    """The decoder's output differs from the plan."""


def _planned_images(
    source: Source, keep: set[int], short_side: int | None, name: str, known_frames: int
) -> dict[int, np.ndarray] | None:
    """Decodes the wanted frames by a plan, or in order; None if the plan fails."""
    with _open(source, name) as decoder:
        stream = decoder.stream
        if stream.codec_context.name not in decode_plan.CODECS:
            return _images(enumerate(decoder), keep, short_side, name)
        try:
            packets = _packets(decoder, _size(source))
            if packets is None:
                return None
            plan = decode_plan.make_plan(stream, packets, known_frames, keep)
            if plan is None:
                return None
            # damage that the decoder would patch up from other frames must be seen
            stream.codec_context.options = opening.decoder_options() | {"err_detect": "explode"}
            frames = _follow(stream, plan, decoder.tally)
            images = _images(frames, keep, short_side, name)
            # to the end, so that everything is checked
            deque(frames, maxlen=0)
            return images
        except (av.error.FFmpegError, EOFError, _PlanFailedError):
            return None


def _packets(decoder: Decoder, most: int) -> list[av.Packet] | None:
    """All packets that are not empty; None if they hold more bytes than the file."""
    packets = []
    for packet in decoder.container.demux(decoder.stream):
        most -= packet.size
        if most < 0:
            return None
        packets += [packet] if packet.size else []
    return packets


def _follow(
    stream: av.VideoStream, plan: decode_plan.Plan, tally: Tally
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes the plan's packets; raises unless one frame comes out for each, in order."""
    count = 0
    for packet in [*plan.packets, None]:
        for frame in stream.codec_context.decode(packet):
            if count == len(plan.frames) or frame.is_corrupt:
                raise _PlanFailedError
            if plan.times and frame.pts != plan.times[count]:
                raise _PlanFailedError
            tally.add(frame.width, frame.height)
            yield plan.frames[count], frame
            count += 1
    if count < len(plan.frames):
        raise _PlanFailedError


def header(source: Source, name: str = "") -> tuple[int, int, int]:
    """Stated frames (0 if unknown), height and width as displayed; decodes one frame.

    Of formats whose times may start again, whose length means nothing, the packets are counted.
    """
    name = name or _name(source)
    with _open(source, name) as decoder:
        container, stream = decoder.container, decoder.stream
        frames = stated_frames(container, stream)
        if not frames and not may_start_again(container) and stream.average_rate:
            frames = sane(round(stated_seconds(container, stream) * stream.average_rate))
        counted = not frames and may_start_again(container)
        try:
            first = next(iter(decoder), None)
        except av.error.FFmpegError:
            first = None
        height, width = (stream.height, stream.width) if first is None else shown_shape(first)
    if counted:
        with _open(source, name) as decoder:
            frames = sum(packet.size > 0 for packet in decoder.container.demux(decoder.stream))
    # a frame takes at least a byte: more are a damaged time, for which builds would need terabytes
    return frames if frames <= _size(source) else 0, height, width


def length(source: Source, name: str = "") -> float:
    """Seconds that the container states, 0 if unknown; decodes nothing."""
    with _open(source, name or _name(source)) as decoder:
        return stated_seconds(decoder.container, decoder.stream)


def _name(source: Source) -> str:
    return "video" if isinstance(source, bytes) else str(source)


def _size(source: Source) -> int:
    """Bytes of the file."""
    return len(source) if isinstance(source, bytes) else os.path.getsize(source)


def _image(
    frame: av.VideoFrame, shape: tuple[int, int] | None, converter: VideoReformatter
) -> np.ndarray:
    """Converts to RGB as displayed; scales to `shape`, as sizes may change in mid-stream."""
    image = shown(frame, converter)
    return image if shape is None else resize(image, *shape)
