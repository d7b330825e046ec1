"""Whether a video file is whole: what decoded, against what its container promises."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from vtd_jax.errors import UserError
from vtd_jax.video.codec.clock import may_start_again
from vtd_jax.video.codec.structure import complete, ends_in_fragment, shown_in_index

# what a whole file may lack of what its container promises: 2 frames, or 2 %
SLACK_FRAMES = 2
SLACK_SHARE = 0.02


class VideoError(UserError):
    """A video that is missing, empty, truncated, damaged or not a video at all."""


class NoFrames(VideoError):
    """A video without a frame that decodes."""


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video showed.

    Attributes:
      frames: number of frames that decode.
      fps: frames a second, 0 if the file does not say.
      duration: seconds from the first to the end of the last frame.
      width, height: in pixels, as displayed (after rotation).
      codec: name of the codec, such as "h264".
      damaged: frames that the decoder had to patch up or could not decode.
      note: what is odd about a whole file, in one line; empty where nothing is.
    """

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    codec: str
    damaged: int = 0
    note: str = ""


def check_whole(decoder, name: str, source: str | Path | bytes) -> str:
    """Compares what was decoded with what the container promises.

    Args:
      decoder: that has given all its frames.
      name: what messages call the video.
      source: path, or the file's bytes.

    Returns:
      A note where the container's header promises more than the file, which is whole, was ever made
      of; else "".

    Raises:
      VideoError: no frame decodes, there is less than promised and nothing proves that the file is
        whole, or it ends within a fragment.
    """
    if decoder.decoded == 0:
        raise NoFrames(f"{name}: no frame decodes; the file is damaged or truncated")
    seen = decoder.decoded + max(decoder.repeats, _holes(decoder.container, decoder.stream))
    lack = _frames_lacking(decoder, seen) or _seconds_lacking(decoder, seen)
    if not lack and ends_in_fragment(source, decoder.container, decoder.stream):
        raise VideoError(
            f"{name}: ends within a fragment ({seen} frames decode); the file is truncated"
        )
    if not lack:
        return ""
    swallowed = decoder.clock.packets - decoder.decoded > _slack_frames(decoder.clock.packets)
    damaged = decoder.failed or decoder.corrupt or decoder.clock.backwards or swallowed
    if damaged or not complete(source, decoder):
        raise VideoError(f"{name}: {lack}; the file is truncated or damaged")
    return f"{lack}, but the file is whole: its header says more than it was made of"


def _frames_lacking(decoder, seen: int) -> str:
    """How many frames are missing, for a message; "" for none."""
    promised = seen + decoder.failed
    if "mp4" not in decoder.container.format.name:
        promised = max(promised, decoder.stream.frames)
    if promised - seen > _slack_frames(promised):
        return f"only {seen} of {promised} frames decode"
    # an MP4's index also holds frames that its edit list hides
    indexed = shown_in_index(decoder.stream) if "mp4" in decoder.container.format.name else 0
    if indexed - decoder.clock.packets > _slack_frames(indexed):
        return f"only {decoder.clock.packets} of {indexed} frames are there"
    return ""


def _slack_frames(promised: int) -> float:
    return max(SLACK_FRAMES, SLACK_SHARE * promised)


def _seconds_lacking(decoder, seen: int) -> str:
    """Where frames end too early, for a message; "" if they do not."""
    container, stream, clock = decoder.container, decoder.stream, decoder.clock
    if may_start_again(container):
        return ""  # the demuxer guessed their length from the last times it found
    reached, length = clock.reached_by_any, (container.duration or 0) / av.time_base
    if stream.duration is not None:
        reached, length = clock.reached - clock.began, float(stream.duration * stream.time_base)
        # an AVI begins at 0, even where its first slots are empty; so may what an edit list puts
        # before the first frame
        if container.format.name == "avi" or "mp4" in container.format.name:
            reached = max(
                reached, clock.reached + _held(container, stream) * float(stream.time_base)
            )
    slack = max(SLACK_SHARE * length, SLACK_FRAMES / float(stream.average_rate or 25))
    if length - reached > slack:
        return f"frames end at {reached:.2f} s of {length:.2f} s ({seen} decode)"
    return ""


def _avi_index(container, stream) -> Any:
    # older versions of PyAV have no `index_entries`
    return getattr(stream, "index_entries", ()) if container.format.name == "avi" else ()


def _holes(container, stream) -> int:
    """Empty slots in an AVI's index, which repeat a frame; the demuxer skips them."""
    entries = _avi_index(container, stream)
    if not len(entries):
        return 0
    return max(0, entries[-1].timestamp + 1 - len(entries)) + _held(container, stream)


def _held(container, stream) -> int:
    """Extra slots an AVI's last frame is assumed to stay: the average of the others."""
    entries = _avi_index(container, stream)
    if len(entries) < 2:
        return 0
    return max(0, round((entries[-1].timestamp - entries[0].timestamp) / (len(entries) - 1)) - 1)
