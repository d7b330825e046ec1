"""Labels videos with the model in this folder; needs jax, flatbuffers, numpy, av and opencv-python-headless only.

    python predict.py clip.mp4 another.avi      # the five best labels of every video; --json for one JSON object each

From Python:

    from predict import Served
    model = Served("labels.served")
    out = model(model.read_clip("clip.mp4")[None])    # {"scores" [1, K], …}, see about.json
"""

import argparse
import errno
import hashlib
import io
import json
import math
import struct
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import jax
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from jax import export

# files that FFmpeg reads without opening others
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,ogg,gif,apng,rm,mxf,gxf,nut,dv,swf,wtv,dhav,ivf,obu,av1,"
    "yuv4mpegpipe,jpegxl_anim,h264,hevc,vvc,evc,apv,m4v,mpegvideo,h261,h263,vc1,vc1test,dirac,dnxhd,cavsvideo,avs2,"
    "avs3,mjpeg,mjpeg_2000,jpeg_pipe,png_pipe,webp_pipe,webp_anim,bmp_pipe,tiff_pipe,"
    "mp3,aac,flac,wav,w64,aiff,caf,ac3,eac3,dts,truehd,ape,wv,tta,amr,au"
)


class Served:
    """The program and the weights of a folder; `labels` are its K labels, `frames` is T, `size` is R."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.labels, self.frames, self.size = (self.about[key] for key in ("labels", "frames", "size"))
        program = (folder / "program.jaxexport").read_bytes()
        if hashlib.sha256(program).hexdigest() != self.about["program_sha256"]:
            raise ValueError("program.jaxexport is damaged, copy it again")
        self._call = jax.jit(export.deserialize(bytearray(program)).call)
        try:
            with (folder / "weights.npz").open("rb") as file, np.load(file) as weights:
                self._weights = jax.device_put(dict(weights))
        except (zipfile.BadZipFile, EOFError, ValueError):
            raise ValueError("weights.npz is damaged, copy it again") from None

    def read_clip(self, path: str | Path) -> np.ndarray:
        """Frames of a video as this model sees them, uint8 RGB `[T, R, R, 3]`."""
        return read_clip(path, self.frames, self.size, squash=self.about["preprocessing"].get("squash", False))

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Frames of b videos, uint8 RGB `[b, T, R, R, 3]`, to `scores [b, K]` and more; compiles once for every b."""
        expected = (self.frames, self.size, self.size, 3)
        if frames.dtype != np.uint8 or frames.shape[1:] != expected or not len(frames):
            raise ValueError(f"frames {frames.shape} of {frames.dtype}, expected uint8 (videos, {str(expected)[1:]}")
        return jax.device_get(self._call(self._weights, frames))


def read_clip(path: str | Path, frames: int, size: int, count: int = 0, squash: bool = False) -> np.ndarray:
    """The centre of each of T uniform segments, uint8 RGB `[T, R, R, 3]`, as the model saw videos in evaluation.

    `count` is how many frames decode; 0 believes the container, and reads the file again where that was wrong. `squash`
    scales frames to R × R as a whole, for a model whose `about.json` says so.
    """
    images, shape, decoded = {}, None, 0
    with open(path, "rb", buffering=0) as file, open_video(file) as container:
        stream = shown_stream(container.streams)
        count = count or stream.frames
        indices = [(2 * i + 1) * count // (2 * frames) for i in range(frames)]
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:
                continue  # AVI's "show the last frame again"; it would end the decoder
            try:
                pictures = packet.decode()
            except (av.error.InvalidDataError, EOFError):
                continue
            for frame in pictures:
                if shape is None:
                    shape = (frame.width, frame.height) if orientation(frame)[0] else (frame.height, frame.width)
                if decoded in indices:
                    images[decoded] = crop(shown(frame), shape, size, squash)
                decoded += 1
    if not decoded:
        raise ValueError("no frame of it decodes")
    return (
        np.stack([images[i] for i in indices]) if decoded == count else read_clip(path, frames, size, decoded, squash)
    )


def open_video(file: io.FileIO) -> av.container.InputContainer:
    """Opens a file by its number: its name is no address or pattern, and no other file is opened for it."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "fd", "fd": str(file.fileno())}
    tags = {"metadata_errors": "replace"} if hasattr(av.container.InputContainer, "metadata_errors") else {}
    try:
        return av.open("fd:", container_options=options, **tags)
    except av.error.FFmpegError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError("not a video file, or of a kind that is not read") from None


def shown_stream(streams: av.container.streams.StreamContainer) -> av.VideoStream:
    """The stream that a player shows, never a cover or thumbnails."""
    beside = Disposition.attached_pic | Disposition.timed_thumbnails
    films = [stream for stream in streams.video if not stream.disposition & beside]
    best = streams.best("video")
    if best is None or best.index not in {stream.index for stream in films}:
        best = max(films, key=merit, default=None)
    if best is None or best.codec_context is None:
        raise ValueError("no video in it" if best is None else "no decoder for its video")
    return best


def merit(stream: av.VideoStream) -> tuple[bool, int]:
    """By what a stream is chosen where FFmpeg thinks a cover best: the default one, the one with more pixels."""
    pixels = stream.codec_context.width * stream.codec_context.height if stream.codec_context else 0
    return bool(stream.disposition & Disposition.default), pixels


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool, int]:
    """What the display matrix asks for, as FFmpeg obeys it: transpose, flip rows, flip columns, or an odd angle."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV lists nothing where it does not know the name of one
        unknown = set(range(64)) - {kind.value for kind in Type}
        deleted = filtered(frame, [("sidedata", f"mode=delete:type={i}") for i in sorted(unknown)])
        data = deleted.side_data.get("DISPLAYMATRIX")
    m = struct.unpack("=9i", bytes(data)) if data is not None else (1, 0, 0, 0, 1)
    columns, rows = math.hypot(m[0], m[3]), math.hypot(m[1], m[4])
    degrees = math.degrees(math.atan2(m[1] / rows, m[0] / columns)) if rows and columns else 0.0
    angle = int(math.copysign(math.floor(abs(degrees) + 0.5), degrees)) % 360
    right = {
        0: (False, m[4] < 0 < rows * columns, False, 0),
        1: (False, False, False, 0),
        90: (True, False, m[3] <= 0, 0),
        180: (False, m[4] < 0, m[0] < 0, 0),
        270: (True, True, m[3] < 0, 0),
    }
    return right.get(angle, (False, False, False, angle))


def shown(frame: av.VideoFrame) -> np.ndarray:
    """A frame in RGB, turned and mirrored as the file asks."""
    transpose, rows, columns, angle = orientation(frame)
    frame = filtered(frame, [("rotate", f"{angle}*PI/180")]) if angle else frame
    image = frame.to_ndarray(format="rgb24")
    image = image.transpose(1, 0, 2) if transpose else image
    return image[:: -1 if rows else 1, :: -1 if columns else 1]


def filtered(frame: av.VideoFrame, filters: list[tuple[str, str]]) -> av.VideoFrame:
    """The frame after some of FFmpeg's filters."""
    graph, clock = av.filter.Graph(), frame.time_base or Fraction(1, av.time_base)
    source = last = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=clock)
    for name, args in [*filters, ("buffersink", "")]:
        following = graph.add(name, args)
        last.link_to(following)
        last = following
    graph.configure()
    source.push(frame)
    return last.pull()


def crop(image: np.ndarray, shape: tuple[int, int], size: int, squash: bool) -> np.ndarray:
    """Short side to `size · 256 / 224`, bilinear, then the middle; `shape` is that of the video's first frame."""
    height, width = (int(side * round(size * (256 / 224)) / min(shape) + 0.5) for side in shape)
    height, width = (size, size) if squash else (height, width)
    for h, w in (shape, (height, width)):
        if image.shape[:2] != (h, w):
            image = cv2.resize(np.ascontiguousarray(image), (w, h), interpolation=cv2.INTER_LINEAR)
    y, x = (height - size) // 2, (width - size) // 2
    return image[y : y + size, x : x + size]


def utf8(text: str) -> str:
    r"""Text that JSON takes: bytes of a file name that are not UTF-8 become `\xff`."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def shown_text(text: str) -> str:
    """Text in one line that does nothing to a terminal but to be shown."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in utf8(text))


def main() -> int:
    """Prints the best labels of every video; 2 where one could not be read."""
    parser = argparse.ArgumentParser(description="Labels videos.")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--json", action="store_true", help="one JSON object a video")
    args, folder, status = parser.parse_args(), Path(__file__).parent, 0
    try:
        model = Served(folder)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {folder}: {error}\n")
    for path in args.videos:
        try:
            out = model(model.read_clip(path)[None])
        except (OSError, ValueError, av.error.FFmpegError) as error:
            print(shown_text(f"error: {path}: {getattr(error, 'strerror', None) or error}"), file=sys.stderr)
            status = 2
            continue
        scores = out["scores"][0]
        best = [{"label": model.labels[k], "score": float(scores[k])} for k in np.argsort(-scores, kind="stable")[:5]]
        found = {"video": utf8(path), **best[0], "top": best, "words": [model.labels[k] for k in out["assignment"][0]]}
        lines = map(shown_text, [path, *(f"  {100 * one['score']:5.1f} %  {one['label']}" for one in best)])
        print(json.dumps(found, ensure_ascii=False) if args.json else "\n".join(lines), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
