"""Videos of the folder and uploads: nothing outside, nothing too large, nothing left behind."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vtd_jax.app import uploads
from vtd_jax.app import videos as module
from vtd_jax.app.uploads import Full
from vtd_jax.app.videos import Busy, NoVideo, Videos
from vtd_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.mp4", "a.MP4", "deep/c.avi", ".hidden.mp4", "notes.txt"):
        (folder / name).write_bytes(b"content")
    return folder


def names(videos: Videos, search: str = "") -> list[str]:
    return [video.name for video in videos.list(search)[0]]


def test_the_folder_is_listed_by_name(folder):
    with Videos(folder) as videos:
        assert names(videos) == ["a.MP4", "b.mp4", "deep/c.avi"]
        assert names(videos, "C.AV") == ["deep/c.avi"]
        assert names(videos, "absent") == []
        found = videos.find(videos.list("b.mp4")[0][0].id)
        assert found.path.samefile(folder / "b.mp4")
        assert "path" not in found.to_dict()


def test_lists_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(module, "SHOWN", 2)
    with Videos(folder) as videos:
        assert (len(videos.list()[0]), videos.list()[1]) == (2, 1)


def test_ids_live_longer_than_the_server(folder):
    found = []
    for _ in range(2):
        with Videos(folder) as videos:
            found.append([video.id for video in videos.list()[0]])
    assert found[0] == found[1]


def test_links_lead_nowhere_outside(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"secret")
    (folder / "link.mp4").symlink_to(outside / "secret.mp4")
    (folder / "linked").symlink_to(outside)
    (folder / "within.mp4").symlink_to(folder / "b.mp4")
    os.mkfifo(folder / "pipe.mp4")
    with Videos(folder) as videos:
        assert names(videos) == ["a.MP4", "b.mp4", "within.mp4", "deep/c.avi"]
        chosen = videos.list("b.mp4")[0][0]
        # replaced after it was listed
        (folder / "b.mp4").unlink()
        (folder / "b.mp4").symlink_to(outside / "secret.mp4")
        with pytest.raises(NoVideo, match="not here"):
            videos.find(chosen.id)


@pytest.mark.parametrize("number", ["0" * 32, "../../etc/passwd", "", "b.mp4"])
def test_what_is_no_id_finds_nothing(folder, number):
    with Videos(folder) as videos, pytest.raises(NoVideo):
        videos.find(number)


def put(videos: Videos, name: str, content: bytes, part: int = 3):
    with videos.upload(name) as upload:
        for start in range(0, len(content), part):
            upload.write(content[start : start + part])
        return upload.finish()


def test_an_upload_has_the_id_of_its_name_and_content():
    with Videos() as videos:
        one, same, other, named = (
            put(videos, name, content)
            for name, content in (
                ("x.mp4", b"first"),
                ("x.mp4", b"first"),
                ("x.mp4", b"second"),
                ("y.webm", b"first"),
            )
        )
        assert one == same
        assert len({one.id, other.id, named.id}) == 3
        # the ending decides what a browser makes of it
        assert (named.name, named.content_type) == ("y.webm", "video/webm")
        assert videos.find(one.id).path.read_bytes() == b"first"
        assert len(list(one.path.parent.iterdir())) == 3
        assert one.path.parent.stat().st_mode & 0o077 == 0


def test_strangers_cannot_guess_each_others_uploads():
    with Videos(strangers=True) as videos:
        one, same = (put(videos, "x.mp4", b"content") for _ in range(2))
        assert one.id != same.id
        assert one.path != same.path
        with Videos() as others:
            guessed = put(others, "x.mp4", b"content").id
        with pytest.raises(NoVideo):
            videos.find(guessed)
        # nor find them listed
        assert videos.list() == ([], 0)


def test_uploads_that_nobody_uses_go():
    with Videos(seconds=0.2) as videos:
        one, held = put(videos, "1.mp4", b"1"), put(videos, "2.mp4", b"2")
        videos.hold(held)
        time.sleep(0.3)
        used = put(videos, "3.mp4", b"3")
        assert videos.expire() == (one,)
        assert not one.path.exists()
        assert held.path.exists()
        with pytest.raises(NoVideo):
            videos.find(one.id)
        videos.release(held)
        assert videos.find(used.id) is used
        assert videos.expire() == ()


def test_a_full_disk_is_one_line_and_leaves_nothing():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Videos() as videos:
        kept = put(videos, "1.mp4", b"1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))
        try:
            for size in (2**20, 2**16 + 100):
                with pytest.raises(Full, match=r"^'2\.mp4': the server has no room for it"):
                    put(videos, "2.mp4", b"x" * size, part=size)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(kept.path.parent.iterdir()) == [kept.path]
        put(videos, "2.mp4", b"x" * 2**17, part=2**17)


@pytest.mark.parametrize(
    "name", ["", "x.txt", "x", "x.mp4.html", ".mp4\n.html", "a/b", "x" * 5000 + ".mp4"]
)
def test_an_upload_is_called_like_a_video(name):
    with Videos() as videos, pytest.raises(UserError, match=r"ends in \.3gp, \.avi"):
        videos.upload(name)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("../../etc/x.mp4", "x.mp4"),
        ("C:\\films\\x.MP4", "x.MP4"),
        ("/abs/.mp4.mp4", ".mp4.mp4"),
        ("<img src=x>.webm", "<img src=x>.webm"),
    ],
)
def test_a_name_decides_about_no_path(name, shown):
    with Videos() as videos:
        video = put(videos, name, b"content")
        assert video.name == shown
        assert video.path.stem.isalnum()
        assert video.path.suffix in (".mp4", ".webm")


def test_an_upload_that_fails_leaves_nothing(monkeypatch):
    monkeypatch.setattr(uploads, "APP_UPLOAD_BYTES", 5)
    with Videos() as videos:
        for content, said in ((b"123456", "more than 5 bytes"), (b"", "is empty")):
            with pytest.raises(UserError, match=said):
                put(videos, "x.mp4", content)
        kept = put(videos, "x.mp4", b"12345")
        assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]


def test_the_least_recently_used_uploads_go(monkeypatch):
    monkeypatch.setattr(module, "APP_UPLOADS", 2)
    with Videos() as videos:
        one, two = put(videos, "1.mp4", b"1"), put(videos, "2.mp4", b"2")
        videos.find(one.id)
        three = put(videos, "3.mp4", b"3")
        with pytest.raises(NoVideo):
            videos.find(two.id)
        assert not two.path.exists()
        assert videos.find(one.id).path.exists()
        # what is being read stays
        videos.hold(one)
        videos.find(three.id)
        put(videos, "4.mp4", b"4")
        assert one.path.exists()
        videos.release(one)


def test_bytes_of_all_uploads_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "APP_UPLOADS_BYTES", 10)
    with Videos() as videos:
        one = put(videos, "1.mp4", b"123456")
        two = put(videos, "2.mp4", b"12345")
        assert not one.path.exists()
        assert two.path.exists()


def test_few_uploads_are_on_their_way_at_once(monkeypatch):
    monkeypatch.setattr(module, "APP_UPLOADING", 1)
    with Videos() as videos:
        with videos.upload("a.mp4"), pytest.raises(Busy, match="1 uploads are on their way"):
            videos.upload("b.mp4")
        put(videos, "b.mp4", b"content")
        put(videos, "c.mp4", b"content too")


def test_bytes_on_their_way_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "APP_UPLOADING_BYTES", 10)
    with Videos() as videos:
        with videos.upload("a.mp4") as one, videos.upload("b.mp4") as other:
            one.write(b"123456")
            with pytest.raises(Busy, match="too much is being uploaded"):
                other.write(b"12345")
            one.write(b"1234")
        # both have ended, one of them without a part
        put(videos, "c.mp4", b"1234567890")
        assert videos._coming == videos._uploading == 0


def test_a_folder_is_listed_up_to_a_number(folder, monkeypatch):
    monkeypatch.setattr(module, "APP_LISTED", 1)
    with Videos(folder) as videos:
        assert names(videos) == ["a.MP4"]


def test_uploads_go_with_the_service():
    with Videos() as videos:
        place = put(videos, "1.mp4", b"1").path.parent
        assert place.exists()
    assert not place.exists()


def test_uploads_go_with_a_killed_process():
    code = (
        "import os, signal\n"
        "from vtd_jax.app.videos import Videos\n"
        "videos = Videos()\n"
        "with videos.upload('x.mp4') as upload:\n"
        "    upload.write(b'content')\n"
        "    print(upload.finish().path, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -9
    place = Path(done.stdout.strip()).parent
    assert place.name.startswith("vtd_app_")
    for _ in range(200):
        if not place.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{place} is still there")


@pytest.mark.parametrize(
    "name, kind", [("x.mp4", "video/mp4"), ("x.WEBM", "video/webm"), ("x.gif", "image/gif")]
)
def test_a_browser_is_told_that_it_is_a_video(name, kind):
    with Videos() as videos:
        assert put(videos, name, b"<script>alert(1)</script>").content_type == kind


def test_every_kind_of_video_has_a_content_type():
    assert set(module._TYPES) == set(module.SUFFIXES)
