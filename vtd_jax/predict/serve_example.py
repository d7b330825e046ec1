"""Labels videos with the model in this folder; needs jax, flatbuffers, numpy, av and
opencv-python-headless only.

    python predict.py clip.mp4 another.avi      # the five best labels of each; --json for JSON

From Python:

    from predict import Served
    model = Served("labels.served")
    out = model(model.read_clip("clip.mp4")[None])    # {"scores" [1, K], …}, see about.json

This file and program.jaxexport are code: do not run a stranger's. All other files are data. The
file is alone on purpose: `vtd_jax.predict.serve` copies it into a folder that runs without vtd_jax,
so its checks of videos repeat those of `vtd_jax.video`.
"""

import argparse
import errno
import hashlib
import io
import json
import math
import mmap
import os
import re
import stat
import struct
import sys
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import jax
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition
from jax import export

# formats that FFmpeg reads without opening other files
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,ogg,gif,apng,rm,mxf,gxf,nut,"
    "dv,swf,wtv,dhav,ivf,obu,av1,yuv4mpegpipe,jpegxl_anim,h264,hevc,vvc,evc,apv,"
    "m4v,mpegvideo,h261,h263,vc1,vc1test,dirac,dnxhd,cavsvideo,avs2,avs3,mjpeg,"
    "mjpeg_2000,jpeg_pipe,png_pipe,webp_pipe,webp_anim,bmp_pipe,tiff_pipe,mp3,aac,"
    "flac,wav,w64,aiff,caf,ac3,eac3,dts,truehd,ape,wv,tta,amr,au"
)
# most pixels of a frame, with its short side scaled up to 512, and of all frames of a video, in
# addition to PIXELS_A_BYTE
LIMITS = {"max_frame_pixels": 2**26, "max_video_pixels": 2**31}
# tables of an MP4, boxes in which FFmpeg looks for them (others are data), and what uncompressed
# sound does not have
TABLES = re.compile(rb"stsz|stz2|stts|ctts|trun|elst|cmov.{4}dcom", re.DOTALL)
NESTED = (
    b"moov trak mdia minf stbl udta meta ilst moof traf edts mvex dinf tref wave sinf schi "
    b"ipro iprp stsd gmhd"
)
ENTERED = {*NESTED.split(), *b"stsz stz2 stts ctts trun elst cmov".split()}
ODD = re.compile(
    rb"hdlr(?:.{8}){1,2}(?:vide|subp|clcp)|ctts|stts(?!.{4}\0{3}\x01.{4}\0{3}\x01)", re.DOTALL
)
# filters that smooth: pixels that they reach, and their weights by distance; and the longest side
# of a frame that is squashed with them, where all of it is needed
FILTERS = {
    "bicubic": (2, lambda x: cubic(x)),
    "bilinear": (1, lambda x: np.maximum(1 - x, 0)),
}
LONGEST = 16_384
# what reading a video may raise
UNREADABLE = (OSError, ValueError, MemoryError, OverflowError, av.error.FFmpegError, cv2.error)
PIXELS_A_BYTE, ABOUT_BYTES, SIDES = 250_000, 2**26, ("frames", "size")


class Served:
    """The program and the weights of a folder; `labels` are its K labels, `frames` is T, `size` is
    R.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.about = about = read_about(folder / "about.json")
        self.labels, self.frames, self.size = about["labels"], about["frames"], about["size"]
        with opened(folder / "program.jaxexport") as file:
            program = file.read()
        if hashlib.sha256(program).hexdigest() != about["program_sha256"]:
            raise ValueError("program.jaxexport is damaged, copy it again")
        try:
            exported = export.deserialize(bytearray(program))
            (expected, images), _ = exported.in_tree.unflatten(exported.in_avals)
            scores = exported.out_tree.unflatten(exported.out_avals)["scores"]
        except Exception as error:  # JAX raises whatever damage or another version causes
            raise ValueError(
                f"program.jaxexport cannot be read by JAX {jax.__version__} ({error})"
            ) from None
        sides = (self.frames, self.size, self.size, 3, len(self.labels))
        if (*images.shape[1:], scores.shape[1]) != sides:
            raise ValueError("about.json is of another program, copy the folder again")
        weights = read_weights(folder / "weights.npz")
        digest = hashlib.sha256()
        for name in sorted(weights):
            digest.update(name.encode() + weights[name].tobytes())
        shapes = {
            str({k: (v.shape, v.dtype) for k, v in sorted(one.items())})
            for one in (weights, expected)
        }
        if len(shapes) > 1 or digest.hexdigest() != about.get("weights_sha256"):
            raise ValueError("weights.npz is damaged or of another program, copy the folder again")
        self._call, self._weights = jax.jit(exported.call), jax.device_put(weights)

    def read_clip(self, path: str | Path) -> np.ndarray:
        """Frames of a video as this model sees them, uint8 RGB `[T, R, R, 3]`."""
        return read_clip(path, self.frames, self.size, way=self.about["preprocessing"])

    def __call__(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Frames of b videos, uint8 RGB `[b, T, R, R, 3]`, to `scores [b, K]` and more; compiles
        once for every b.
        """
        expected = (self.frames, self.size, self.size, 3)
        if frames.dtype != np.uint8 or frames.shape[1:] != expected or not len(frames):
            raise ValueError(
                f"frames {frames.shape} of {frames.dtype}, expected uint8 (videos, "
                f"{str(expected)[1:]}"
            )
        return jax.device_get(self._call(self._weights, frames))


def opened(path: str | Path) -> io.FileIO:
    """Opens a file to read, never a pipe or a device, which could block for ever."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb", buffering=0)
    os.close(number)
    raise ValueError(f"{Path(path).name} is not a regular file")


def read_about(path: Path) -> dict:
    """Reads `about.json`; checks what is used here, and its digest, which early versions lack."""
    try:
        with opened(path) as file:
            about = json.loads(file.read(ABOUT_BYTES))
        rest = {key: about[key] for key in about if key != "about_sha256"}
        digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
        # raises for labels that are not texts
        "".join([*about["labels"], about["program_sha256"]]).encode()
        way = about["preprocessing"]
        good = way.get("squash", False) in (False, True)
        good = good and way.get("preprocess", "release") in ("release", "clip")
        # the release's has no choice of a filter
        filters = FILTERS if way.get("preprocess") == "clip" else {None, *FILTERS}
        good = good and way.get("interpolation") in filters
        good = good and isinstance(about["labels"], list) and bool(about["labels"])
        good = good and about.get("about_sha256") in (None, digest)
        if good and all(type(about[key]) is int and 0 < about[key] < 2**16 for key in SIDES):
            return about
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        pass
    raise ValueError("about.json is damaged, copy it again")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads an uncompressed `.npz`, whose arrays are no larger than it; no Python objects."""
    try:
        with opened(path) as file, np.load(file, allow_pickle=False) as weights:
            if not any(part.compress_type for part in weights.zip.infolist()):
                return dict(weights)
    except (
        zipfile.BadZipFile,
        EOFError,
        ValueError,
        MemoryError,
        NotImplementedError,
        AttributeError,
        TypeError,
    ):
        pass
    raise ValueError("weights.npz is damaged, copy it again")


def read_clip(
    path: str | Path, frames: int, size: int, count: int = 0, way: dict | None = None
) -> np.ndarray:
    """Reads the centre of each of T uniform segments, uint8 RGB `[T, R, R, 3]`, as in evaluation.

    `count` is the number of frames that decode; 0 takes it from the container, and reads the file
    again if that was wrong. `way` is how frames are scaled, `preprocessing` of `about.json`.
    """
    images, shape, seen, pixels, read = {}, None, 0, 0, 0
    with opened(path) as file, open_video(file) as container:
        stream = shown_stream(container.streams)
        count, whole = count or max(0, stream.frames), os.fstat(file.fileno()).st_size
        indices = [(2 * i + 1) * count // (2 * frames) for i in range(frames)]
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:
                continue  # AVI's "show the last frame again"; it would end the decoder
            if (read := read + packet.size) > 16 * whole + 2**20:
                raise ValueError("its index names the same bytes again and again")
            scans = (
                bytes(packet).count(b"\xff\xda\0") if stream.codec_context.name == "mjpeg" else 1
            )
            if scans > 100:
                raise ValueError(f"a JPEG of {scans} scans, expected at most 100")
            try:
                pictures = packet.decode()
            except (av.error.InvalidDataError, EOFError):
                check_frame(stream.codec_context)
                continue
            for frame in pictures:
                check_frame(frame)
                area = frame.width * frame.height
                # a later frame that is n times as large as 4K counts n² times
                pixels += (area * max(area, 2**23) ** 2 // 2**46 if pixels else area) * max(
                    1, scans
                )
                if pixels > LIMITS["max_video_pixels"] + PIXELS_A_BYTE * whole:
                    raise ValueError("more pixels in all its frames than --max_video_pixels allows")
                if shape is None:
                    shape = (frame.height, frame.width)
                    shape = shape[::-1] if orientation(frame)[0] else shape
                if seen in indices:
                    images[seen] = crop(shown(frame), shape, size, way or {}).copy()
                seen += 1
    if not seen:
        raise ValueError(
            "no frame of it decodes, or all have more pixels than --max_frame_pixels allows"
        )
    if seen != count:
        return read_clip(path, frames, size, seen, way)
    return np.stack([images[i] for i in indices])


def open_video(file: io.FileIO) -> av.container.InputContainer:
    """Opens a file by its number, so that FFmpeg takes its name for no URL or pattern."""
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "fd", "fd": str(file.fileno())}
    known = hasattr(av.container.InputContainer, "metadata_errors")
    tags = {"metadata_errors": "replace"} if known else {}
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        check_samples(data)
    decoders = {"max_pixels": str(LIMITS["max_frame_pixels"])}
    try:
        return av.open("fd:", container_options=options, options=decoders, **tags)
    except av.error.FFmpegError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError("not a video file, or of an unknown kind") from None


def check_frame(frame: av.VideoFrame | av.VideoCodecContext) -> None:
    """Refuses a frame that is too large, as it is or with its short side scaled up."""
    short, long = sorted((frame.width, frame.height))
    if short and max(short, 512) ** 2 * long // short > LIMITS["max_frame_pixels"]:
        raise ValueError(
            f"a frame of {frame.width} × {frame.height}, more pixels than --max_frame_pixels allows"
        )


def check_samples(data: bytes | mmap.mmap) -> None:
    """Refuses an MP4 with far more samples than bytes in its tables: FFmpeg allocates for each."""
    found = dict.fromkeys([b"stsz", b"stz2", b"stts", b"ctts", b"trun", b"elst", b"runs"], 0)
    most = dict.fromkeys(found, len(data) // 4 + 1000) | {b"elst": 1000}
    for kind, begin, end in boxes(data, 0, len(data)):
        if kind not in ENTERED and data[begin + 4 : begin + 8] not in (b"mvhd", b"cmov"):
            continue
        inner = boxes(data, begin, end) if kind == b"moov" else ()
        traks = [place for one, *place in inner if one == b"trak"][:100]
        heard = [
            trak
            for trak in traks
            if b"soun" in handlers(data, *trak) and not ODD.search(data, *trak)
        ]
        # at any depth: no walk over boxes equals FFmpeg's in every detail
        for match in TABLES.finditer(data, begin - 4, end):
            wide = data[match.start() - 4 : match.start()] == b"\0\0\0\1"
            # after version and flags; `stsz` and `stz2` have a common size before the count
            name, place = match[0], match.end() + 8 * wide
            place += 8 if name in (b"stsz", b"stz2") else 4
            count = int.from_bytes(data[place : place + 4], "big")
            if min(data[place : place + 4], default=32) >= 32 and name != b"elst":
                continue  # letters of a comment, as of "trunk": FFmpeg refuses such a count
            if name in (b"stts", b"ctts"):
                found[b"runs"] += count
                some = found[b"runs"] <= most[b"runs"]
                runs = data[place + 4 : place + 4 + 8 * count] if some else b""
                counts = np.frombuffer(runs, ">u4", len(runs) // 8 * 2)[::2]
                count = int(counts.sum(dtype=np.uint64))
            if not any(first <= place < last for first, last in heard):
                found[name] = found.get(name, 0) + count
            if name not in most or any(found[one] > most[one] for one in most):
                raise ValueError("its tables claim more than it has room for, or are compressed")


def boxes(data: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the boxes of an MP4, side by side."""
    while end - at >= 8:
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = max(8, min(size or end - at, end - at))
        yield kind, at + head, at + size
        at += size


def handlers(data: bytes | mmap.mmap, *trak: int) -> list[bytes]:
    """Kinds of the media of a track."""
    inner = [
        one for kind, *media in boxes(data, *trak) if kind == b"mdia" for one in boxes(data, *media)
    ]
    return [data[at + 8 : at + 12] for kind, at, _ in inner if kind == b"hdlr"]


def shown_stream(streams: av.container.streams.StreamContainer) -> av.VideoStream:
    """The stream that a player shows, never a cover or thumbnails."""
    beside = Disposition.attached_pic | Disposition.timed_thumbnails
    films = [stream for stream in streams.video if not stream.disposition & beside]
    best = streams.best("video")
    if best is None or best.index not in {stream.index for stream in films}:
        # as FFmpeg does: the default one, then the one with more pixels
        pixels = {
            one: one.codec_context.width * one.codec_context.height if one.codec_context else 0
            for one in films
        }
        best = max(
            films,
            key=lambda one: (bool(one.disposition & Disposition.default), pixels[one]),
            default=None,
        )
    if best is None or best.codec_context is None:
        raise ValueError("no video in it" if best is None else "no decoder for its video")
    check_frame(best.codec_context)
    best.codec_context.options = {"max_pixels": str(LIMITS["max_frame_pixels"])}
    return best


def orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool, int]:
    """The display matrix as FFmpeg applies it: transpose, flip rows, flip columns, other angle."""
    try:
        data = SideDataContainer(frame).get("DISPLAYMATRIX")
    except ValueError:  # PyAV raises for all if it knows no name for one
        unknown = set(range(64)) - {kind.value for kind in Type}
        deleted = filtered(frame, [("sidedata", f"mode=delete:type={i}") for i in sorted(unknown)])
        data = SideDataContainer(deleted).get("DISPLAYMATRIX")
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
    """A frame in RGB, rotated and flipped as the file asks."""
    transpose, rows, columns, angle = orientation(frame)
    image = (filtered(frame, [("rotate", f"{angle}*PI/180")]) if angle else frame).to_ndarray(
        format="rgb24"
    )
    image = image.transpose(1, 0, 2) if transpose else image
    return image[:: -1 if rows else 1, :: -1 if columns else 1]


def filtered(frame: av.VideoFrame, filters: list[tuple[str, str]]) -> av.VideoFrame:
    """The frame after FFmpeg's filters."""
    graph, clock = av.filter.Graph(), frame.time_base or Fraction(1, av.time_base)
    source = last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=clock
    )
    for name, args in [*filters, ("buffersink", "")]:
        following = graph.add(name, args)
        last.link_to(following)
        last = following
    graph.configure()
    source.push(frame)
    return last.pull()


def crop(image: np.ndarray, shape: tuple[int, int], size: int, way: dict) -> np.ndarray:
    """Scales a frame and crops its middle; `shape` is of the first frame."""
    squash, as_clip = way.get("squash", False), way.get("preprocess") == "clip"
    if as_clip:
        # no video has longer sides; weights along them would take much memory
        shape = (min(shape[0], LONGEST), min(shape[1], LONGEST)) if squash else shape
        sides = tuple(size if squash else int(size * side / min(shape)) for side in shape)
    else:
        short = round(size * (256 / 224))
        sides = tuple(size if squash else int(side * short / min(shape) + 0.5) for side in shape)
    for h, w in (shape,) if as_clip else (shape, sides):
        if image.shape[:2] != (h, w):
            shrunk = as_clip and image.shape[0] * image.shape[1] > h * w
            method = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
            image = cv2.resize(np.ascontiguousarray(image), (w, h), interpolation=method)
    if as_clip:
        rows, columns = (
            taps(source, side, size, way["interpolation"])
            for source, side in zip(image.shape[:2], sides)
        )
        needed = image[rows[0][0] : rows[-1][1], columns[0][0] : columns[-1][1]]
        across = smoothed(cv2.transpose(np.ascontiguousarray(needed)), columns)
        return smoothed(cv2.transpose(across), rows)
    y, x = ((side - size) // 2 for side in sides)
    return image[y : y + size, x : x + size]


def taps(source: int, whole: int, size: int, filter_: str) -> list[tuple[int, int, np.ndarray]]:
    """How the middle `size` of `whole` pixels are made of `source` pixels, as Pillow does it: for
    a few results each the first pixel, the one behind the last, and whole weights of 2**-22.
    """
    reach, curve = FILTERS[filter_]
    first, found, step = round((whole - size) / 2), [], 8
    wide = max(source / whole, 1.0)
    for begin in range(0, size, step):
        numbers = first + np.arange(begin, min(begin + step, size))
        centres = ((numbers + 0.5) * (source / whole))[:, None]
        low = np.maximum((centres - reach * wide + 0.5).astype(int), 0)
        high = np.minimum((centres + reach * wide + 0.5).astype(int), source)
        places = np.arange(low[0, 0], high[-1, 0])
        inside = (places >= low) & (places < high)
        weights = np.where(inside, curve(np.abs((places - centres + 0.5) / wide)), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        weights = np.trunc(weights * 2**22 + np.copysign(0.5, weights))
        found.append((int(low[0, 0]), int(high[-1, 0]), weights))
    return found


def smoothed(image: np.ndarray, sums: list[tuple[int, int, np.ndarray]]) -> np.ndarray:
    """Sums of rows, `[n, m, 3]` to `[size, m, 3]`, as `taps` gives them, rounded to uint8; the
    first row is the first that is needed.

    Whole numbers in float64 are exact.
    """
    start, flat, parts = sums[0][0], image.reshape(len(image), -1), []
    for low, high, weights in sums:
        rows = flat[low - start : high - start]
        # little memory; and more multiplications would start threads, slower where cores are busy
        step = max(1, 2**18 // weights.size)
        pieces = [rows[:, at : at + step] for at in range(0, rows.shape[1], step)]
        exact = np.hstack([weights @ piece.astype(np.float64) for piece in pieces])
        parts.append(np.floor(exact / 2**22 + 0.5).clip(0, 255).astype(np.uint8))
    return np.concatenate(parts).reshape(-1, *image.shape[1:])


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -1/2, of distances."""
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, far, 0.0))


def utf8(text: str) -> str:
    r"""Text that JSON takes: bytes of a file name that are not UTF-8 become `\xff`."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def shown_text(text: str) -> str:
    """Text in one line, without control characters."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in utf8(text)
    )


def shown_json(found: dict) -> str:
    """JSON in one line, without control characters."""
    return "".join(
        c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(found, ensure_ascii=False)
    )


def main() -> int:
    """Prints the best labels of every video; returns 2 if one could not be read."""
    parser = argparse.ArgumentParser(description="Labels videos.")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--json", action="store_true", help="one JSON object a video")
    for name, most in LIMITS.items():
        parser.add_argument(f"--{name}", type=int, default=most, help="of a video that is read")
    args, folder, status = parser.parse_args(), Path(__file__).parent, 0
    LIMITS.update({name: getattr(args, name) for name in LIMITS})
    try:
        model = Served(folder)
    except (OSError, ValueError) as error:
        parser.exit(2, shown_text(f"error: {folder}: {error}") + "\n")
    for path in args.videos:
        try:
            out = model(model.read_clip(path)[None])
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or error
            print(shown_text(f"error: {path}: {reason}"), file=sys.stderr)
            status = 2
            continue
        scores = out["scores"][0]
        best = [
            {"label": model.labels[k], "score": float(scores[k])}
            for k in np.argsort(-scores, kind="stable")[:5]
        ]
        found = {
            "video": utf8(path),
            **best[0],
            "top": best,
            "words": [model.labels[k] for k in out["assignment"][0]],
        }
        lines = map(
            shown_text, [path, *(f"  {100 * one['score']:5.1f} %  {one['label']}" for one in best)]
        )
        print(shown_json(found) if args.json else "\n".join(lines), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
