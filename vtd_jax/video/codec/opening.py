"""Opens videos with FFmpeg: limits what it may open, and chooses the stream to show.

FFmpeg may take a name for an address (`http:…`, `concat:…`) or a pattern (`img%03d.png`), and
follows playlists. So it gets an open file, the allowed containers, and the largest frame size.
"""

import codecs
import errno
import io
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av.container
import av.error
from av.stream import Disposition

from vtd_jax.errors import UserError
from vtd_jax.untrusted.regular_files import open_regular
from vtd_jax.video import limits
from vtd_jax.video.codec.mp4_claims import ClaimError, check_claims
from vtd_jax.video.codec.wholeness import VideoError

Source = str | Path | bytes
File = io.BytesIO | io.FileIO

# demuxers that read one file only; of sound for better messages; pictures are one-frame videos
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,asf,ogg,gif,apng,rm,mxf,gxf,nut,"
    "dv,swf,wtv,dhav,ivf,obu,av1,yuv4mpegpipe,jpegxl_anim,h264,hevc,vvc,evc,apv,"
    "m4v,mpegvideo,h261,h263,vc1,vc1test,dirac,dnxhd,cavsvideo,avs2,avs3,mjpeg,"
    "mjpeg_2000,jpeg_pipe,png_pipe,webp_pipe,webp_anim,bmp_pipe,tiff_pipe,mp3,aac,"
    "flac,wav,w64,aiff,caf,ac3,eac3,dts,truehd,ape,wv,tta,amr,au"
)
KNOWN_AS = "MP4/MOV, Matroska/WebM, AVI, MPEG, FLV, ASF/WMV, Ogg, GIF, raw H.264 or HEVC, …"
# pictures beside a video, which no player plays
_BESIDE = Disposition.attached_pic | Disposition.timed_thumbnails
# tags that are not UTF-8 are common in old AVIs; PyAV 19 needs no option for them
_HAS_OPTION = hasattr(av.container.InputContainer, "metadata_errors")
_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if _HAS_OPTION else {}
_HEAD_BYTES = 1024


@contextmanager
def container(source: Source) -> Iterator[av.container.InputContainer]:
    """Opens a file or bytes with FFmpeg, which never sees the file's name.

    Raises:
      OSError: if the file cannot be opened.
      av.error.FFmpegError: if it is in none of `FORMATS`, or damaged.
    """
    with _file(source) as file, _demuxer(file) as opened:
        yield opened


def _file(source: Source) -> File:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        # without a buffer: FFmpeg reads on where the file is
        return open_regular(source, "video file").detach()
    except UserError as error:
        raise VideoError(str(error)) from None


def _demuxer(file: File) -> av.container.InputContainer:
    options = {"format_whitelist": FORMATS}
    if isinstance(file, io.BytesIO):
        # no protocol has this name: nothing else can be opened
        options |= {"protocol_whitelist": "none"}
        return av.open(file, container_options=options, options=decoder_options(), **_TAGS)
    # FFmpeg reads the open file by its number, as fast as by its name
    options |= {"protocol_whitelist": "fd", "fd": str(file.fileno())}
    return av.open("fd:", container_options=options, options=decoder_options(), **_TAGS)


def decoder_options() -> dict[str, str]:
    """Options of every decoder, also of the probe: larger frames count as damage."""
    return {"max_pixels": str(limits.MAX_FRAME_PIXELS.value)}


def target(path: str | Path) -> str:
    """A path to be written, as FFmpeg takes it for nothing but a path."""
    return f"file:{os.fspath(path)}"


def shown_stream(streams: av.container.streams.StreamContainer) -> av.VideoStream | None:
    """The stream that a player shows; never a cover or thumbnails."""
    films = [stream for stream in streams.video if not stream.disposition & _BESIDE]
    best = streams.best("video")
    if best is None or best.index in {stream.index for stream in films}:
        return best
    # FFmpeg may think a cover best
    return max(films, key=_merit, default=None)


def _merit(stream: av.VideoStream) -> tuple[bool, int]:
    pixels = stream.codec_context.width * stream.codec_context.height if stream.codec_context else 0
    return bool(stream.disposition & Disposition.default), pixels


@contextmanager
def video(
    source: Source, name: str
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Opens a video and its stream; every failure inside the block becomes one line.

    Args:
      source: path, or the file's bytes.
      name: what messages call the video.

    Raises:
      VideoError: for a file that is missing, empty, unreadable, not a video or without one.
    """
    try:
        if not isinstance(source, bytes) and not Path(source).exists():
            raise VideoError(f"{name}: there is no such video file")
        with _file(source) as file:
            head = file.read(_HEAD_BYTES)
            if not head:
                raise VideoError(f"{name}: the file is empty (0 bytes)")
            file.seek(0)
            _check(file, head, name)
            with _opened(file, head, name) as opened:
                stream = shown_stream(opened.streams)
                if stream is None:
                    raise VideoError(
                        f"{name}: the file has no video stream {_held(opened.streams)}"
                    )
                if stream.codec_context is None:
                    raise VideoError(
                        f"{name}: no decoder for the video stream; the file is damaged or of an "
                        "unknown codec"
                    )
                limits.check_frame(stream.codec_context.width, stream.codec_context.height, name)
                stream.codec_context.options = decoder_options()
                # one thread: videos are decoded in parallel, and results are deterministic
                stream.thread_type = "NONE"
                stream.codec_context.thread_count = 1
                yield opened, stream
    except UserError:
        raise
    except PermissionError:
        raise VideoError(
            f"{name}: cannot be read (permission denied); check the file's permissions"
        ) from None
    except (av.error.FFmpegError, EOFError, UnicodeDecodeError) as error:
        text = _text(error)
        raise VideoError(
            f"{name}: cannot be read as a video ({text}); it is damaged, truncated or not a video "
            "file"
        ) from None
    except OSError as error:
        raise VideoError(f"{name}: cannot be opened ({_text(error)})") from None
    except MemoryError:
        raise VideoError(
            f"{name}: needs more memory than there is; its frames are large, or it is damaged"
        ) from None
    except (ValueError, ArithmeticError) as error:
        # numbers of the file that PyAV or NumPy do not take
        raise VideoError(f"{name}: cannot be read as a video ({error}); it is damaged") from None


def _check(file: File, head: bytes, name: str) -> None:
    """Refuses excessive claims before FFmpeg sees them; keeps the position of `file`."""
    limits.check_frame(*(limits.claimed_size(head) or (0, 0)), name)
    try:
        if isinstance(file, io.BytesIO):
            check_claims(file.getvalue())
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_claims(data)
    except ClaimError as error:
        raise VideoError(f"{name}: cannot be read as a video ({error}); it is damaged") from None


def _opened(file: File, head: bytes, name: str) -> av.container.InputContainer:
    """Opens a file with FFmpeg; VideoError for text, and for what is in none of `FORMATS`."""
    try:
        return _demuxer(file)
    except av.error.FFmpegError as error:
        if _is_text(head):
            raise VideoError(
                f"{name}: cannot be read as a video (it is text, not a video file); "
                "lists and playlists are not followed, give the videos that they name"
            ) from None
        if error.errno != errno.EINVAL:
            raise
        raise VideoError(
            f"{name}: cannot be read as a video ({_text(error)}); expected a file that holds its "
            f"own frames: {KNOWN_AS}"
        ) from None


def _held(streams: av.container.streams.StreamContainer) -> str:
    """What a file without a video holds, for a message."""
    # not by their `type`: PyAV 15 crashes on a stream that is of none
    kinds = {
        kind for kind in ("audio", "subtitles", "data", "attachments") if getattr(streams, kind)
    }
    beside = {stream.disposition & _BESIDE for stream in streams.video}
    kinds |= {
        "a cover picture" if Disposition.attached_pic in one else "thumbnails" for one in beside
    }
    found = f"(it holds {', '.join(sorted(kinds)) or 'nothing'})"
    return f"{found}; a cover is no video" if beside else f"{found}; is it whole?"


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _is_text(head: bytes) -> bool:
    """Whether a file begins like text, in UTF-8 or with the mark of UTF-16."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        # the last character may be cut
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(ord(character) < 32 and character not in "\t\n\v\f\r\x1b" for character in text)
