"""The door to FFmpeg: a file is its own whatever its name, only real containers, and the stream
that a player shows.
"""

import io
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from support.video_files import encode, frame_number, make_video, picture, write_catalog
from vtd_jax.errors import UserError
from vtd_jax.predict import serve_example
from vtd_jax.scenes.render import write_mp4
from vtd_jax.video.clip import frames_at, read_clip
from vtd_jax.video.codec import opening
from vtd_jax.video.decode import VideoError, decode_frames, header, probe
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.encode import encode_video
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.ingest.validate import check_videos
from vtd_jax.video.lists.catalog import Entry

# what FFmpeg takes for a protocol, an option or a pattern of names
NAMES = (
    *(
        "file:x.mp4",
        "12:30.mp4",
        "pipe:0.mp4",
        "fd:.mp4",
        "-i.mp4",
        "concat:x.mp4|x.mp4",
        "data:video,x.mp4",
    ),
    *(
        "subfile,,start,0,end,99,,:x.mp4",
        "cache:x.mp4",
        "async:x.mp4",
        "http:/127.0.0.1:9/x.mp4",
        "crypto+file:x.mp4",
    ),
    *(
        "a%20b?c#d.mp4",
        "img%03d.mp4",
        "*.mp4",
        "nl\nname.mp4",
        "ohne_endung",
        "film.txt",
        "film.m3u8",
        "größe.mp4",
    ),
    os.fsdecode(b"latin-\xe9.mp4"),
)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Two clips of different length."""
    folder = tmp_path_factory.mktemp("two")
    return make_video(folder / "mine.mp4", 5), make_video(folder / "other.mp4", 3, width=32)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_its_own_whatever_its_name(two, name, tmp_path, monkeypatch):
    shutil.copy(two[1], tmp_path / "x.mp4")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(two[0], path)
    expected = decode_frames(two[0].read_bytes(), range(5))
    monkeypatch.chdir(tmp_path)
    for source in (path, name, Path(name)):
        np.testing.assert_array_equal(decode_frames(source, range(5)), expected)
        assert (probe(source).frames, header(source)[0]) == (5, 5)
    clip = read_clip(two[0], 2, 32).frames
    for source in (name, path):
        np.testing.assert_array_equal(read_clip(source, 2, 32).frames, clip)
        np.testing.assert_array_equal(serve_example.read_clip(source, 2, 32), clip)
        np.testing.assert_array_equal(
            np.stack([moment.image for moment in frames_at(source, 0.1, 32)]), clip
        )


@pytest.mark.parametrize(
    "name", ["img%03d.png", "img%03d.gif", "a*b.gif", "what?.gif", "{a,b}.gif"]
)
def test_a_picture_whose_name_is_a_pattern(name, tmp_path):
    codec, pixels = ("png", "rgb24") if name.endswith("png") else ("gif", "rgb8")
    for path, index in ((tmp_path / name, 9), (tmp_path / name.replace("%03d", "001"), 50)):
        if path.exists():
            continue
        file = io.BytesIO()
        with av.open(file, "w", format="image2pipe" if codec == "png" else "gif") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            encode(container, stream, [picture(index, 48, 64)])
        path.write_bytes(file.getvalue())
    found = decode_frames(tmp_path / name, [0])
    np.testing.assert_array_equal(found, decode_frames((tmp_path / name).read_bytes(), [0]))
    assert frame_number(found[0]) in range(5, 15)


def test_rendered_clips_go_where_they_are_sent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "file:x.mp4", "img%03d.mp4"):
        write_mp4(name, np.zeros((2, 32, 32, 3), np.uint8))
        assert probe(tmp_path / name).frames == 2


FOLLOWED = {
    "ffconcat": "ffconcat version 1.0\nfile 'mine.mp4'\n",
    "concat": "file mine.mp4\nfile mine.mp4\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\nmine.mp4\n#EXT-X-ENDLIST\n",
    "session": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP "
        "96\na=rtpmap:96 H264/90000\n"
    ),
    "manifest": (
        '<?xml version="1.0"?>\n'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1">'
        "<BaseURL>mine.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    ),
    "subtitles": "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
    "picture": (
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image '
        'href="mine.png"/></svg>'
    ),
    "metadata": ";FFMETADATA1\ntitle=x\n",
    "mail": "this is not a video\n",
}


@pytest.mark.parametrize("kind", FOLLOWED)
@pytest.mark.parametrize("name", ["x.mp4", "x.m3u8", "x.ffconcat", "x.sdp", "x.mpd"])
def test_text_is_no_video_and_is_not_followed(two, kind, name, tmp_path):
    shutil.copy(two[0], tmp_path)
    path = tmp_path / name
    path.write_text(FOLLOWED[kind])
    for source in (path, path.read_bytes(), ("\ufeff" + FOLLOWED[kind]).encode("utf-16-le")):
        for read in (probe, header, lambda source: decode_frames(source, [0])):
            with pytest.raises(
                VideoError,
                match=r"it is text, not a video file\); .* give the videos that they name$",
            ):
                read(source)
    with pytest.raises(ValueError, match=r"not a video file, or of an unknown kind|Invalid data"):
        serve_example.read_clip(path, 1, 32)


@pytest.mark.slow
def test_text_is_not_built(two, tmp_path):
    shutil.copy(two[0], tmp_path)
    (tmp_path / "x.mp4").write_text(FOLLOWED["ffconcat"])
    lists = (tuple(map(str, write_catalog(tmp_path, ["mine.mp4 0", "x.mp4 1"]))),)
    config = BuildConfig("x", lists=lists, video_dir=str(tmp_path), storage="video")
    with pytest.raises(
        UserError, match=r"list\.txt:2: .*x\.mp4: cannot be read as a video \(it is text"
    ):
        build_records(config, tmp_path / "out")
    assert [(problem.kind, problem.file) for problem in check_videos(config).errors] == [
        ("unreadable", "x.mp4")
    ]
    for most in (None, 2):
        with pytest.raises(VideoError, match="it is text, not a video file"):
            encode_video(Entry("x.mp4", 1, 2), tmp_path / "x.mp4", "jpeg", max_frames=most)


def test_containers_that_cannot_be_read_name_those_that_can(tmp_path):
    path = tmp_path / "x.mp4"
    # a real container that is on no list: subtitles as a Blu-ray has them
    path.write_bytes(
        b"PG" + bytes(8) + b"\x16\x00\x0b" + bytes(11) + (b"PG" + bytes(8) + b"\x80\x00\x00") * 9
    )
    with pytest.raises(
        VideoError, match=r"expected a file that holds its own frames: MP4/MOV, Matroska/WebM, AVI"
    ):
        probe(path)
    with pytest.raises(ValueError, match="not a video file, or of an unknown kind"):
        serve_example.read_clip(path, 1, 32)


def test_nothing_beside_the_file_is_opened(two):
    with opening.container(two[0]) as opened:
        assert opened.name == "fd:"
        assert opened.container_options["protocol_whitelist"] == "fd"
    with opening.container(two[0].read_bytes()) as opened:
        assert opened.container_options["protocol_whitelist"] == "none"
    # what these words do
    for allowed in ("fd", "none"):
        with (
            pytest.raises(av.error.FFmpegError),
            av.open(f"file:{two[0]}", container_options={"protocol_whitelist": allowed}),
        ):
            pass


@pytest.mark.parametrize("place", [b"TITLE", b"HANDLER"])
def test_tags_in_other_encodings_are_of_no_interest(place, tmp_path):
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.metadata["title"], stream.metadata["title"] = "TITLE", "HANDLER"
        encode(container, stream, (picture(i, 48, 64) for i in range(3)))
    data = path.read_bytes()
    assert data.count(place) == 1
    path.write_bytes(data.replace(place, b"\xe9\xff\xc3\x28A" + place[5:]))
    assert probe(path).frames == probe(path.read_bytes()).frames == 3
    np.testing.assert_array_equal(
        serve_example.read_clip(path, 2, 32), read_clip(path, 2, 32).frames
    )


def test_names_that_cannot_be_opened(tmp_path):
    for name, words in (
        ("x" * 300 + ".mp4", "File name too long"),
        ("nul\0.mp4", "no such video file"),
    ):
        with pytest.raises(VideoError, match=words):
            probe(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="a pipe, expected a video file"):
        probe(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match=r"pipe\.mp4 is not a regular file"):
        serve_example.read_clip(tmp_path / "pipe.mp4", 1, 32)
    # a pipe that takes the file's place after it was seen
    with (
        pytest.raises(UserError, match=r"pipe\.mp4: a pipe, expected a video file"),
        opening.container(tmp_path / "pipe.mp4"),
    ):
        pass
