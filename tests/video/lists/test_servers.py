"""Videos of HTTP servers: who sends them, what is no video, and what a killed copy leaves."""

import http.server
import threading
from pathlib import Path

import pytest

from support.hub.server import Fault, serving
from vtd_jax.errors import UserError
from vtd_jax.files import replacing
from vtd_jax.locks import locked
from vtd_jax.video.lists import servers
from vtd_jax.video.lists.addresses import missing, place_of
from vtd_jax.video.lists.find import find_videos

VIDEO = b"video" * 1000


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    with serving() as found:
        found.files |= {"/walks/dog.mp4": VIDEO, "/walks/my dög.mp4": VIDEO}
        yield found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_host_that_sends_is_named(server, capsys):
    with serving() as other:
        other.files["/b/cat.mp4"] = VIDEO
        server.faults.append(Fault("dog", "redirect", to=f"{other.url}/b/cat.mp4"))
        assert find_videos([f"{server.url}/walks/dog.mp4"])
    assert f"from {other.url.removeprefix('http://')} into" in capsys.readouterr().err


def test_another_host_than_the_one_that_was_named_sends_nothing(server, tmp_path):
    with serving() as other:
        other.files["/b/cat.mp4"] = VIDEO
        server.faults.append(Fault("GET /walks/dog", "redirect", to=f"{other.url}/b/cat.mp4"))
        with pytest.raises(UserError, match=r"now comes from 127.0.0.1:\d+, and 127.0.0.1"):
            find_videos([f"{server.url}/walks/dog.mp4"])
    assert not _files(tmp_path)


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "http://10.0.0.1/a.mp4", "//10.0.0.1/a"]
)
def test_redirects_lead_to_https_only(server, tmp_path, to):
    server.faults.append(Fault("dog", "redirect", to=to))
    with pytest.raises(UserError, match=r"redirects to .*https"):
        find_videos([f"{server.url}/walks/dog.mp4"])
    assert not _files(tmp_path)


def test_a_password_is_not_passed_on(server):
    server.token = "Basic bWU6cGE1NQ=="
    with serving() as other:
        other.files["/b/cat.mp4"] = VIDEO
        address = server.url.replace("//", "//me:pa55@")
        assert find_videos([f"{address}/walks/dog.mp4"])
        server.faults.append(Fault("dog", "redirect", to=f"{other.url}/b/cat.mp4"))
        assert find_videos([f"{address}/walks/dog.mp4?2"])
        assert set(other.authorizations) == {""}
    assert set(server.authorizations) == {server.token}


def test_letters_and_blanks_are_escaped(server):
    [path] = find_videos([f"{server.url}/walks/my dög.mp4"])
    assert (path.name, path.read_bytes()) == ("my dög.mp4", VIDEO)


def test_servers_that_do_not_answer_to_head(server):
    server.faults.append(Fault("HEAD /", "status", status=403))
    assert find_videos([f"{server.url}/walks/dog.mp4"])


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><title>Log in", b"\xef\xbb\xbf\n <html>", b"<?xml version='1.0'?><Error/>"],
)
def test_a_page_in_the_place_of_a_video_is_not_kept(server, tmp_path, content):
    address = f"{server.url}/walks/dog.mp4"
    server.files["/walks/dog.mp4"] = content
    with pytest.raises(UserError, match=r"/walks/dog.mp4: a page in the place of a video"):
        find_videos([address])
    assert not _files(tmp_path)
    server.files["/walks/dog.mp4"] = VIDEO
    assert find_videos([address])[0].read_bytes() == VIDEO


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
def test_what_a_server_calls_a_page_is_not_copied(server, tmp_path, capsys, kind):
    server.faults.append(Fault("dog", "headers", headers={"Content-Type": kind}))
    with pytest.raises(UserError, match=rf"dog.mp4: the server sends {kind[:9]}.*login"):
        find_videos([f"{server.url}/walks/dog.mp4"])
    # nobody is asked about it
    assert "downloading" not in capsys.readouterr().err
    assert not _files(tmp_path)


def test_a_page_for_head_alone_is_none(server):
    server.faults.append(Fault("HEAD /", "garbage"))
    assert find_videos([f"{server.url}/walks/dog.mp4"])[0].read_bytes() == VIDEO


def test_an_empty_file_is_not_kept(server, tmp_path):
    server.files["/walks/dog.mp4"] = b""
    with pytest.raises(UserError, match=r"dog.mp4: empty"):
        find_videos([f"{server.url}/walks/dog.mp4"])
    assert not _files(tmp_path)


class _CutShort(http.server.BaseHTTPRequestHandler):
    """Says no size to HEAD, and more than it sends to GET."""

    def log_message(self, *_):
        """Says nothing."""

    def do_HEAD(self):
        """No size."""
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        """Half of what is said the second time; the first time, only the size is read."""
        self.send_response(200)
        if self.server.seen:  # pyright: ignore[reportAttributeAccessIssue]
            self.send_header("Content-Length", "5000")
        self.server.seen = True  # pyright: ignore[reportAttributeAccessIssue]
        self.end_headers()
        self.wfile.write(VIDEO[:2500])


def test_the_size_of_the_answer_counts_too(server, tmp_path):
    short = http.server.HTTPServer(("127.0.0.1", 0), _CutShort)
    short.seen = False  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=short.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        with pytest.raises(UserError, match=r"dog.mp4: only 2\.5 kB of 5\.0 kB came"):
            find_videos([f"http://127.0.0.1:{short.server_port}/dog.mp4"])
    finally:
        short.shutdown()
        short.server_close()
        thread.join()
    assert not _files(tmp_path)


def test_a_server_that_stops_sending(server, monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "_SILENCE", 0.5)
    server.faults.append(Fault("GET /walks/dog", "drip", pause=0.1))
    with pytest.raises(UserError, match=r"dog.mp4: .*next to nothing arrived in 0\.5 s"):
        find_videos([f"{server.url}/walks/dog.mp4"])
    assert not _files(tmp_path)


def test_one_dead_address_leaves_the_others(server, monkeypatch):
    good, dead = f"{server.url}/walks/dog.mp4", f"{server.url}/walks/none.mp4"
    late = f"{server.url}/walks/late.mp4"
    server.files["/walks/late.mp4"] = VIDEO
    server.faults.append(Fault("GET /walks/late", "abort"))
    found = find_videos([dead, good, late, "htp://a.b/c.mp4"])
    why = [missing(one).partition(": ")[2] for one in found]
    assert why[1] == ""
    assert why[0].startswith("the server does not have it")
    assert why[2].startswith("only 2.5 kB of 5.0 kB came")
    assert why[3].startswith("expected a path, or an address")
    with pytest.raises(UserError, match=r"none.mp4: .* \(the first of 2 that cannot be copied\)"):
        find_videos([dead, late])
    # no consent is about all of them
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "maybe")
    with pytest.raises(UserError, match="VTD_JAX_DOWNLOAD='maybe': expected 1 or 0"):
        find_videos([good, dead])


def test_a_full_disk_is_about_all_of_them(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "videos").write_text("no folder")
    with pytest.raises(UserError, match=r"cache/videos.*: .*expected a folder"):
        find_videos([f"{server.url}/walks/dog.mp4", f"{server.url}/walks/my dög.mp4"])


def test_what_a_killed_copy_left_is_removed_by_the_next(server, tmp_path):
    address = f"{server.url}/walks/dog.mp4"
    place = place_of(address)
    place.parent.mkdir(parents=True)
    with replacing(place) as part:
        pass
    # as if the process had been killed in the block
    place.rename(part)
    with pytest.raises(UserError, match="no videos in this folder"):
        find_videos([str(tmp_path / "cache")])
    with pytest.raises(UserError, match="no video matches"):
        find_videos([str(tmp_path / "cache" / "**" / "*.mp4")])
    assert find_videos([address]) == [place]
    assert _files(tmp_path) == [place]


def test_a_second_process_waits_for_the_first(server, capsys):
    address = f"{server.url}/walks/dog.mp4"
    place = place_of(address)
    place.parent.mkdir(parents=True)
    found = []
    with locked(place.with_name(".copying.lock"), "another", stays=False):
        thread = threading.Thread(target=lambda: found.extend(find_videos([address])))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        place.write_bytes(VIDEO)
    thread.join(30)
    assert found == [place]
    assert server.gets("dog") == 0
