"""Whether a video file is whole: what decoded, against what its container promises."""

from dataclasses import dataclass

import av

from vtd_jax.errors import UserError

# what a sound file may lack of what its container promises: 2 frames, or 2 %
SLACK_FRAMES = 2
SLACK_SHARE = 0.02


class VideoError(UserError):
    """A video that is missing, empty, truncated, damaged or not a video at all."""


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
    """

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    codec: str
    damaged: int = 0


def check_whole(decoder, name: str) -> None:
    """Compares what was decoded with what the container promises."""
    container, stream = decoder.container, decoder.stream
    if decoder.decoded == 0:
        raise VideoError(f"{name}: no frame decodes; the file is damaged or truncated")
    seen = decoder.decoded + max(decoder.repeats, _holes(container, stream))
    promised = seen + decoder.failed
    if "mp4" not in container.format.name:
        promised = max(promised, stream.frames)
    if promised - seen > max(SLACK_FRAMES, SLACK_SHARE * promised):
        raise VideoError(f"{name}: only {seen} of {promised} frames decode; the file is truncated or damaged")
    reached, length = decoder.reached, (container.duration or 0) / av.time_base
    if stream.duration is not None:
        reached, length = decoder.span, float(stream.duration * stream.time_base)
    slack = max(SLACK_SHARE * length, SLACK_FRAMES / float(stream.average_rate or 25))
    if length - reached > slack:
        raise VideoError(
            f"{name}: frames end at {reached:.2f} s of {length:.2f} s ({seen} decode); the file is truncated"
        )


def _holes(container, stream) -> int:
    """Places in an AVI's index without data, which repeat a frame; the demuxer passes over them in silence."""
    entries = getattr(stream, "index_entries", ()) if container.format.name == "avi" else ()
    return max(0, entries[-1].timestamp + 1 - len(entries)) if len(entries) else 0
