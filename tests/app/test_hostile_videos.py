"""Videos that were made to break readers: each ends in one line, and the server goes on."""

import time

import pytest
from app.conftest import Client, events

from hostile.corpus import videos as corpus
from support.video_files import make_audio, make_video

pytestmark = pytest.mark.slow
# seconds for one of them, whatever it claims
PATIENCE = 60.0


def _cut(folder):
    path = make_video(folder / "cut.mp4", 20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def _flipped(folder):
    path = make_video(folder / "flipped.avi", 20)
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 7):
        content[place] ^= 0xFF
    path.write_bytes(content)
    return path


def _text(folder):
    path = folder / "page.mp4"
    path.write_text("<!doctype html><script>alert(1)</script>")
    return path


MAKERS = {
    **corpus.CLAIMS,
    **corpus.TEXTS,
    **corpus.LONG,
    "cut": _cut,
    "flipped": _flipped,
    "page": _text,
    "sound": lambda folder: make_audio(folder / "sound.mp4"),
}


def _ended(client: Client, video: str, **asked) -> tuple[str, dict]:
    begun = time.monotonic()
    job = client("POST", "/encode", {"video": video, "frames": 4} | asked).json["job"]
    last = events(client("GET", f"/encode/{job}/events"))[-1]
    assert time.monotonic() - begun < PATIENCE
    return last


@pytest.mark.parametrize("name", MAKERS)
def test_a_hostile_video_is_one_line_or_a_result(client, ids, tmp_path, name):
    path = MAKERS[name](tmp_path)
    # pictures come under a video's name
    ending = path.suffix if path.suffix in (".mp4", ".mkv", ".gif", ".avi") else ".mp4"
    answer = client("POST", f"/upload?name={name}{ending}", path.read_bytes())
    assert answer.status == 201
    for asked in ({}, {"window": 2.0}):
        event, data = _ended(client, answer.json["id"], **asked)
        assert event in ("done", "failed")
        if event == "failed":
            assert "\n" not in data["error"]
            assert "/tmp" not in data["error"]
            assert "terminal" not in data["error"]
    sent = client("GET", f"/video/{answer.json['id']}")
    assert sent.headers["content-type"] in ("video/mp4", "video/x-matroska", "image/gif") or (
        sent.headers["content-type"] == "video/x-msvideo"
    )
    assert sent.headers["content-security-policy"].startswith("default-src 'none'; sandbox")
    assert _ended(client, ids["a.mp4"], frames=3)[0] == "done"
