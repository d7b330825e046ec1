"""Small real videos, made once a session with PyAV."""

from pathlib import Path

import av
import numpy as np

from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.decode import decode_frames, header, probe

# every way in which a video is read
READERS = {
    "probe": probe,
    "header": header,
    "bytes": lambda path: decode_frames(path.read_bytes(), [0], name=str(path), known_frames=1),
    "clip": lambda path: read_clip(path, 2, 32),
    "timeline": lambda path: list(frames_at(path, 0.5, 32)),
}

CODECS = {
    "mp4": ("libx264", {}),
    "avi": ("mpeg4", {}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}


def picture(index: int, height: int, width: int) -> np.ndarray:
    """Frame `index` of a test video: red on the left fades out, green on the right comes up, blue
    stays.
    """
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 250 - 4 * index
    image[:, width // 2 :, 1] = 4 * index
    image[..., 2] = 60
    return image


def frame_number(image: np.ndarray) -> int:
    """Reads the number of a frame back from its colours."""
    return round((250 - float(image[:, : image.shape[1] // 2 - 4, 0].mean())) / 4)


def make_video(
    path: Path, frames: int, *, width: int = 64, height: int = 48, rate: int = 25, **options
) -> Path:
    """Writes a video; the codec follows from the ending, options go to the container."""
    codec, settings = CODECS[path.suffix[1:]]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options=settings)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(frames):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture(index, height, width), "rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def make_audio(path: Path, seconds: float = 0.5) -> Path:
    """Writes a sound file without a picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, int(16000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_catalog(
    folder: Path, lines: list[str], names=("left turn", "right turn"), stem: str = "list"
) -> tuple[Path, Path]:
    """Writes a list and a label file; returns both paths."""
    listed, labels = folder / f"{stem}.txt", folder / f"{stem}_labels.csv"
    listed.write_text("".join(f"{line}\n" for line in lines))
    labels.write_text("id,name\n" + "".join(f'{i},"{name}"\n' for i, name in enumerate(names)))
    return listed, labels


def damage_shard(path: Path) -> None:
    """Overwrites 20 bytes in the middle of a shard's first records; the rest is padding, index and
    footer.
    """
    data = bytearray(path.read_bytes())
    middle = len(data[: len(data) // 2].rstrip(b"\0")) // 2
    data[middle : middle + 20] = bytes(byte ^ 0xFF for byte in data[middle : middle + 20])
    path.write_bytes(data)


def encode(container, stream, pictures) -> None:
    """Writes pictures to the end of a stream."""
    for image in pictures:
        frame = av.VideoFrame.from_ndarray(image, "rgb24")
        container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
    container.mux(stream.encode(None))
