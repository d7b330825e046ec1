"""Limits of one video: pixels of a frame, of all frames, moments of its timeline.

Their values are in `vtd_jax.untrusted.raised`, with the flags that raise them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import av
import simplejpeg

from vtd_jax.untrusted import limits
from vtd_jax.untrusted.raised import MAX_FRAME_PIXELS, MAX_MOMENTS, MAX_VIDEO_PIXELS
from vtd_jax.video.augment import short_side_size
from vtd_jax.video.codec.wholeness import VideoError

# FFmpeg's names of codecs whose frames are JPEGs, and of those whose frames are pictures of their
# own
_JPEGS = frozenset(["mjpeg", "amv", "sp5x", "mxpeg", "thp", "smvjpeg", "jpegls"])
_PICTURES = _JPEGS | frozenset(["gif", "png", "apng", "webp", "webp_anim", "bmp", "tiff"])


def counted_pixels(width: int, height: int) -> int:
    """Pixels of a frame, or of what it becomes where its short side is scaled up."""
    short, long = sorted((width, height))
    side = max(short, limits.FRAME_SHORT_SIDE)
    return side * side * long // short if short > 0 else 0


def check_frame(width: int, height: int, name: str) -> None:
    """Refuses a frame that is too large; one without a size passes.

    Raises:
      VideoError: it has more pixels than the limit.
    """
    most = MAX_FRAME_PIXELS.value
    if counted_pixels(width, height) <= most:
        return
    scaled = ""
    if width * height <= most:
        scaled = f" once its short side is scaled to {limits.FRAME_SHORT_SIDE}"
    raise VideoError(
        f"{name}: a frame of {width} × {height}, more than {most:,} pixels{scaled}; "
        f"{MAX_FRAME_PIXELS.remedy}"
    )


class Tally:
    """Counts what is decoded from a file: bytes of packets, pixels of frames.

    Attributes:
      name: what messages call the video.
    """

    def __init__(self, name: str, size: int, codec: str = ""):
        self.name, self._jpeg = name, codec in _JPEGS
        a_byte = limits.PICTURE_PIXELS_A_BYTE if codec in _PICTURES else limits.PIXELS_A_BYTE
        self._pixels, self._most, self._size = 0, MAX_VIDEO_PIXELS.value + a_byte * size, size
        self._bytes = limits.PACKET_RATIO * size + limits.PACKET_BYTES
        self._shape, self._scans = None, 1

    def packet(self, packet: av.Packet) -> None:
        """One more packet, before it is decoded.

        Raises:
          VideoError: packets are far more than the file, as where an index names the same bytes
            again and again; or it is a JPEG of too many scans.
        """
        # no decoder takes a scan whose header has 256 bytes or more
        self._scans = max(1, bytes(packet).count(b"\xff\xda\0")) if self._jpeg else 1
        if self._scans > limits.VIDEO_JPEG_SCANS:
            raise VideoError(
                f"{self.name}: a JPEG of {self._scans:,} scans, expected at most "
                f"{limits.VIDEO_JPEG_SCANS}; save it again"
            )
        self._bytes -= packet.size
        if self._bytes < 0:
            raise VideoError(
                f"{self.name}: more than {limits.PACKET_RATIO} times the file's {self._size:,} "
                "bytes to be decoded; its index names the same bytes again and again"
            )

    def add(self, width: int, height: int) -> None:
        """One more frame.

        Raises:
          VideoError: it is too large, or with it the video is.
        """
        if (width, height) != self._shape:
            check_frame(width, height, self.name)
            self._shape = width, height
        self._pixels += cost(width * height, not self._pixels) * self._scans
        if self._pixels > self._most:
            is_large = width * height > limits.LARGE_FRAME_PIXELS
            large = ", where large ones count more" if is_large else ""
            raise VideoError(
                f"{self.name}: more than {self._most:,} pixels in all its frames, of {width} × "
                f"{height}{large}, from a file of {self._size:,} bytes; {MAX_VIDEO_PIXELS.remedy}"
            )


def cost(pixels: int, first: bool) -> int:
    """Pixels that a frame counts for; the first, maybe a picture, counts once."""
    if first:
        return pixels
    return pixels * max(pixels, limits.LARGE_FRAME_PIXELS) ** 2 // limits.LARGE_FRAME_PIXELS**2


def claimed_size(head: bytes) -> tuple[int, int] | None:
    """Width and height that the head of a GIF, PNG or JPEG claims; None for all else."""
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head.startswith(b"\xff\xd8"):
        try:
            height, width = simplejpeg.decode_jpeg_header(head)[:2]
        except ValueError:
            return None
        return width, height
    return None


def check_stored(jpegs: Sequence[bytes], frames: int, record: Mapping[str, Any], name: str) -> None:
    """Checks the headers of stored frames against their record; decodes nothing.

    Args:
      jpegs: about to be decoded; anything but a JPEG passes.
      frames: of the clip that is made of them.
      record: has the video's `width` and `height`.
      name: what messages call it.

    Raises:
      VideoError: a frame is too large, has too many scans or not the video's shape, or the clip is
        too large.
    """
    of_video = int(record["height"]), int(record["width"])
    for data in jpegs:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError:
            continue
        _check_jpeg(data, (height, width), of_video, name)
        check_clip(width, height, frames, name)


def _check_jpeg(data: bytes, size: tuple[int, int], of_video: tuple[int, int], name: str) -> None:
    check_frame(size[1], size[0], name)
    fits = 1 <= min(of_video) >= min(size)
    if not fits or short_side_size(*of_video, min(size)) != size:
        raise VideoError(
            f"{name}: a stored frame of {size[1]} × {size[0]}, of a video that the record says is "
            f"{of_video[1]} × {of_video[0]}; build the records again"
        )
    # every scan of a progressive picture costs all its pixels, in ten bytes
    if data.count(b"\xff\xda") > limits.JPEG_SCANS:
        raise VideoError(
            f"{name}: a stored frame of more than {limits.JPEG_SCANS} scans, expected 1; build "
            "the records again"
        )


def check_clip(width: int, height: int, frames: int, name: str) -> None:
    """Refuses a clip that does not fit into memory.

    Raises:
      VideoError: frames of this size are too many to be held at once.
    """
    most = MAX_FRAME_PIXELS.value * limits.CLIP_FRAMES
    if counted_pixels(width, height) * frames > most:
        raise VideoError(
            f"{name}: a clip of {frames} frames of {width} × {height}, more than {most:,} pixels; "
            f"{MAX_FRAME_PIXELS.remedy}"
        )


def check_moments(moments: float, frames: int, seconds: float, name: str) -> None:
    """Refuses a timeline whose length comes from a time stamp, not from frames.

    Args:
      moments: of the timeline so far.
      frames: of the video so far.
      seconds: that these take.
      name: what messages call the video.

    Raises:
      VideoError: there are more moments than the limit.
    """
    most = MAX_MOMENTS.value + limits.MOMENTS_A_FRAME * frames
    if not moments <= most:
        raise VideoError(
            f"{name}: {frames} frames that last {seconds:,.0f} s by their time stamps, a timeline "
            f"of {moments:,.0f} moments, expected at most {most:,}; the times are damaged, or "
            f"{MAX_MOMENTS.remedy}"
        )
