"""From videos to their features: decoding ahead, then the devices."""

import contextlib
import functools
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.predict.batching.options import Encoding
from vtd_jax.predict.batching.packing import Packer
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure
from vtd_jax.video.clip import Clip, read_clip
from vtd_jax.video.clips.arguments import Video
from vtd_jax.video.clips.processes import Processes
from vtd_jax.video.lists.addresses import named
from vtd_jax.video.read_ahead import read_ahead

# fewer videos are decoded before processes for the others have paid
_SOME_VIDEOS = 64
# 1 to 20 % of a clip's CPU time is Python's (median of 7 real clips: 7 %), which runs in one thread
# at a time
_MOST_THREADS = 8


def encode(
    on_devices: DeviceModel, videos: Iterable[Video], how: Encoding
) -> Generator[Encoded | Failure, None, None]:
    """Yields the frames of each video and their features, in order.

    Args:
      on_devices: the model.
      videos: read as they are needed; what they raise is raised after the results of those before.
      how: they are read and encoded.
    """
    read = functools.partial(
        read_clip,
        frames=how.frames,
        size=on_devices.size,
        fps=how.fps,
        fit=on_devices.fit,
        check=how.check,
    )
    with Processes(read, _use_from(how)) as processes:

        def one(video: Video) -> Clip | Failure:
            try:
                if isinstance(video, np.ndarray):
                    return read(video)
                return processes(video)
            except UserError as error:
                return Failure("frames" if isinstance(video, np.ndarray) else named(video), error)

        with contextlib.closing(read_ahead(videos, one, how.decoders)) as clips:
            if how.deterministic:
                yield from _alone(on_devices, clips)
            else:
                size = on_devices.batch_frames(how.batch_frames)
                yield from Packer(on_devices, size).encode(clips)


def _use_from(how: Encoding) -> int | None:
    """How many videos are decoded here before processes take the others; None for all."""
    if how.processes is None:
        return _SOME_VIDEOS if how.decoders > _MOST_THREADS else None
    return 0 if how.processes and how.decoders else None


def _alone(on_devices: DeviceModel, clips: Iterator[Clip | Failure]) -> Iterator[Encoded | Failure]:
    """Every video by itself: last digits depend on the shape of a batch, and on what is in it."""
    for clip in clips:
        if isinstance(clip, Clip):
            yield Encoded(clip, on_devices.encode_frames(clip.frames))
        else:
            yield clip
