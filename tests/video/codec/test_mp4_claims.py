"""MP4s whose tables claim more than their bytes can hold, wherever these tables stand."""

import struct
import zlib

import av
import numpy as np
import pytest

from support.video_files import READERS, make_video, picture
from vtd_jax.predict import serve_example
from vtd_jax.untrusted import limits as constants
from vtd_jax.video.codec.mp4_claims import ClaimError, check_claims
from vtd_jax.video.decode import VideoError, probe


def patched(data: bytes, box: bytes, *changes: tuple[int, int]) -> bytes:
    """Numbers of a table changed; places count from behind its name."""
    content = bytearray(data)
    for place, value in changes:
        at = content.index(box) + 4 + place
        content[at : at + 4] = struct.pack(">I", value)
    return bytes(content)


def moov(mp4: bytes) -> bytes:
    at = mp4.index(b"moov") - 4
    return mp4[at : at + int.from_bytes(mp4[at : at + 4], "big")]


def packed(stream: bytes, before: bytes = bytes(4)) -> bytes:
    """A compressed movie header; FFmpeg minds no size of its parts, so that one may be a name."""
    return box(
        b"moov",
        box(b"cmov", before + b"dcomzlib" + struct.pack(">I4sI", 0, b"cmvd", 10_000) + stream),
    )


def in_meta(mp4: bytes, before: bytes) -> bytes:
    """The tables of samples in a `meta`, of which FFmpeg looks for the first handler."""
    at = mp4.index(b"stbl") - 4
    length = int.from_bytes(mp4[at : at + 4], "big")
    meta = box(
        b"meta", before + box(b"hdlr", bytes(8) + b"vide" + bytes(13)) + mp4[at : at + length]
    )
    found = mp4[:at] + meta + mp4[at + length :]
    for kind in (b"moov", b"trak", b"mdia", b"minf"):
        found = patched(
            found,
            kind,
            (-8, int.from_bytes(found[found.index(kind) - 4 :][:4], "big") + len(meta) - length),
        )
    return found


def listed(mp4: bytes, content: bytes) -> bytes:
    """Boxes in what is data, but for an index that names them."""
    sidx = struct.pack(">IIIIIHHIII", 0, 1, 1000, 0, 8, 0, 1, len(content), 1000, 0)
    return mp4 + box(b"sidx", sidx) + box(b"mdat", content)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


TABLES = {
    "sizes": lambda mp4: patched(mp4, b"stsz", (4, 1), (8, 50_000_000)),
    "times": lambda mp4: patched(mp4, b"stts", (8, 50_000_000)),
    "shifts": lambda mp4: patched(mp4, b"ctts", (8, 50_000_000)),
    "edits": lambda mp4: patched(mp4, b"elst", (4, 50_000_000)),
    "in a sample entry": lambda mp4: mp4.replace(b"avcC", b"stts").replace(b"pasp", b"stsz"),
    "compressed": lambda mp4: packed(zlib.compress(moov(TABLES["sizes"](mp4)))),
    "compressed, names": lambda mp4: packed(
        zlib.compress(moov(TABLES["sizes"](mp4))), before=b"cmvd"
    ),
    "compressed, damaged": lambda mp4: packed(b"no stream"),
    "compressed, no parts": lambda mp4: box(
        b"moov", box(b"cmov", box(b"cmvd", zlib.compress(moov(mp4))))
    ),
    "compressed, in itself": lambda mp4: packed(zlib.compress(TABLES["compressed"](mp4))),
    "bomb": lambda mp4: packed(zlib.compress(bytes(2**26 + 2**10), 1)),
    "fragment": lambda mp4: (
        mp4 + box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 50_000_000))))
    ),
    "boxes": lambda mp4: mp4 + box(b"free", b"") * 100,
    "boxes first": lambda mp4: mp4[:32] + box(b"free", b"") * 100 + mp4[32:],
    "meta": lambda mp4: in_meta(TABLES["sizes"](mp4), b"\0\0\0\7"),
    "meta, far": lambda mp4: in_meta(TABLES["sizes"](mp4), b"\0\0\0\7" * 9),
    "listed": lambda mp4: listed(
        mp4, box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, 50_000_000))))
    ),
    "times, behind": lambda mp4: (
        mp4 + box(b"udta", box(b"stts", struct.pack(">IIII", 0, 1, 50_000_000, 1))[4:])
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_claim_more_than_the_file(kind, tmp_path, monkeypatch):
    mp4 = make_video(tmp_path / "x.mp4", 6).read_bytes()
    check_claims(mp4)
    monkeypatch.setattr(constants, "BOXES", 100)
    path = tmp_path / "claims.mp4"
    path.write_bytes(TABLES[kind](mp4))
    with pytest.raises(ClaimError):
        check_claims(path.read_bytes())
    for read in READERS.values():
        with pytest.raises(
            VideoError, match=r"claims\.mp4: cannot be read as a video \(.*\); it is damaged$"
        ):
            read(path)
    if kind not in ("boxes", "boxes first", "listed", "in a sample entry", "compressed, no parts"):
        with pytest.raises(ValueError, match="its tables claim more"):
            serve_example.read_clip(path, 2, 32)


def test_sound_has_a_sample_a_tick(tmp_path):
    path = tmp_path / "x.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_u8", rate=8000)
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 40_000), np.uint8), format="u8", layout="mono"
        )
        block.sample_rate = 8000
        container.mux(stream.encode(block))
    data = path.read_bytes()
    assert len(data) // constants.SAMPLE_BYTES + constants.SAMPLES < 40_000
    check_claims(data)
    with pytest.raises(ClaimError, match=r"^40,000 samples claimed"):
        check_claims(data.replace(b"soun", b"vide"))
    serve_example.check_samples(data)
    with pytest.raises(ValueError, match="its tables claim more"):
        serve_example.check_samples(data.replace(b"soun", b"vide"))


def test_names_in_what_ffmpeg_passes_over(tmp_path):
    mp4 = make_video(tmp_path / "x.mp4", 6).read_bytes()
    chance = b"\0\1\0\0stsz" + b"\xff" * 16
    for kind in (b"mdat", b"free", b"uuid", b"skip"):
        check_claims(mp4 + box(kind, chance))
    art = box(
        b"meta",
        bytes(4)
        + box(b"hdlr", bytes(8) + b"mdir" + bytes(13))
        + box(b"ilst", box(b"covr", chance)),
    )
    check_claims(mp4 + box(b"moov", box(b"udta", art)))
    # no MP4: its bytes happen to look like boxes
    check_claims(b"\x1aE\xdf\xa3" + bytes(4) + box(b"free", b"") * 10 + chance)
    # where FFmpeg may look, however odd
    for kind in (b"moov", b"udta", b"what"):
        with pytest.raises(ClaimError, match="samples claimed"):
            check_claims(mp4 + box(kind, b"odd" + chance))
    with pytest.raises(ClaimError, match="samples claimed"):
        check_claims(mp4 + box(b"free", box(b"mvhd", b"") + chance))


@pytest.mark.parametrize("name", [b"trunk, truncated", b"cttsx stts stz2 stsz of a title"])
def test_letters_of_a_comment_are_no_table(tmp_path, name):
    path = make_video(tmp_path / "x.mp4", 6)
    content = path.read_bytes()
    header = moov(content)
    text = box(
        b"udta",
        box(b"\xa9cmt", struct.pack(">HH", 60, 0) + b"an elephant's ".ljust(30) + name.ljust(30)),
    )
    grown = struct.pack(">I", len(header) + len(text)) + header[4:] + text
    # the header is behind the frames, whose places stay
    assert content.index(b"mdat") < content.index(b"moov")
    path.write_bytes(content.replace(header, grown))
    assert probe(path).frames == 6
    assert serve_example.read_clip(path, 2, 32).shape == (2, 32, 32, 3)


def test_a_track_is_heard_by_its_own_handler_only(tmp_path):
    mp4 = make_video(tmp_path / "x.mp4", 6).read_bytes()
    tables = patched(mp4.replace(b"vide", b"text"), b"stts", (4, 1), (8, 50_000_000), (12, 1))
    claims = moov(tables)
    with pytest.raises(ClaimError):
        check_claims(mp4 + box(b"moov", claims[8:].replace(b"dinf", b"free")))
    sound = box(b"free", box(b"hdlr", bytes(8) + b"soun"))
    with pytest.raises(ClaimError):
        check_claims(mp4 + box(b"moov", box(b"trak", sound + claims[claims.index(b"trak") + 4 :])))


def test_honest_mp4s(tmp_path):
    for flags in ("", "faststart", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+dash"):
        path = tmp_path / "x.mp4"
        with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(30):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(picture(index, 48, 64), "rgb24"))
                )
            container.mux(stream.encode(None))
        assert probe(path).frames == 30
        serve_example.read_clip(path, 2, 32)
