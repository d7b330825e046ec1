"""Videos at addresses: asked first, copied once, whole or not at all."""

import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

import vtd_jax
from support.hub.server import Fault, serving
from support.terminal import Terminal
from vtd_jax.errors import UserError
from vtd_jax.scenes.render import write_mp4
from vtd_jax.untrusted import limits
from vtd_jax.video.clip import read_clip
from vtd_jax.video.clips.arguments import as_videos
from vtd_jax.video.decode import VideoError
from vtd_jax.video.lists import addresses, remote, servers
from vtd_jax.video.lists.find import find_videos


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    with serving() as found:
        found.files["/walks/dog.mp4"] = b"video" * 1000
        yield found


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    system = fsspec.filesystem("memory")
    for name in ("b/cats/1.mp4", "b/cats/2.mp4", "b/dogs/1.avi", "b/dogs/notes.txt"):
        system.pipe_file(f"/{name}", name.encode())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    "source, expected",
    [
        ("https://a.b/c.mp4", True),
        ("GS://bucket/c", True),
        ("clip.mp4", False),
        ("a:b.mp4", False),
        ("C:/a.mp4", False),
        (Path("https://a.b/c.mp4"), False),
    ],
)
def test_what_is_an_address(source, expected):
    assert addresses.is_address(source) == expected


def test_a_file_of_a_server_is_copied_once(server, tmp_path, capsys):
    address = f"{server.url}/walks/dog.mp4"
    [path] = find_videos([address])
    assert path.read_bytes() == b"video" * 1000
    assert path.is_relative_to(tmp_path / "cache" / "videos")
    # a folder is a label for --truth=folders
    assert (path.parent.name, path.name) == ("walks", "dog.mp4")
    assert "downloading 5.0 kB from 127.0.0.1" in capsys.readouterr().err
    server.requests.clear()
    assert find_videos([address, address]) == [path]
    assert server.requests == []


def test_nothing_is_asked_for_without_consent(server, monkeypatch):
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    address = f"{server.url}/walks/dog.mp4"
    with pytest.raises(UserError, match=r"dog.mp4: not on this machine; .*downloads it into"):
        find_videos([address])
    assert server.requests == []


@pytest.mark.parametrize("typed, expected", [("y\n", True), ("n\n", False), ("", False)])
def test_a_terminal_is_asked_once_for_all(store, monkeypatch, typed, expected):
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    terminal, keys = Terminal(), Terminal(typed)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdin", keys)
    if expected:
        assert len(find_videos(["memory://b/cats", "memory://b/dogs/1.avi"])) == 3
    else:
        with pytest.raises(UserError, match=r"3 videos .*not downloaded: 36 bytes"):
            find_videos(["memory://b/cats", "memory://b/dogs/1.avi"])
    assert terminal.getvalue().count("Download 36 bytes from b into") == 1


def test_folders_and_globs_of_a_store(store, monkeypatch):
    found = find_videos(["memory://b"])
    assert [(p.parent.name, p.name) for p in found] == [
        ("cats", "1.mp4"),
        ("cats", "2.mp4"),
        ("dogs", "1.avi"),
    ]
    assert found[0].read_bytes() == b"b/cats/1.mp4"
    assert find_videos(["memory://b/*/1.*"]) == [found[0], found[2]]
    store.pipe_file("/b/cats/3.mp4", b"new")
    assert len(find_videos(["memory://b"])) == 4
    # as it was listed last
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    store.store.clear()
    assert len(find_videos(["memory://b"])) == 4


@pytest.mark.parametrize(
    "address, message",
    [
        ("ftp://a.b/c.mp4", r"expected a path, or an address that begins http://"),
        ("zip://a.mp4::memory://b/a.zip", r"expected a path, or an address"),
        ("memory://b::file:///etc/passwd", r"expected a path, or an address"),
        ("file:///etc/passwd", r"expected a path, or an address"),
        ("memory://b/none.mp4", r"memory://b/none.mp4'?: no such file or folder"),
        ("http://127.0.0.1:9/clips/", r"expected the address of a file"),
        ("http://127.0.0.1:9/clips/*", r"expected the address of a file"),
        ("memory://b/*.mp4", r"memory://b/\*.mp4'?: no videos there"),
        ("https://[::1/c.mp4", r"expected a path, or an address"),
        ("https:///c.mp4", r"expected a path, or an address"),
    ],
)
def test_addresses_that_are_refused(store, address, message):
    with pytest.raises(UserError, match=message):
        find_videos([address])


@pytest.mark.parametrize(
    "fault, message",
    [
        (Fault("dog", "status", status=404), r"the server does not have it .HTTP 404"),
        (Fault("dog", "status", status=403), r"the server refuses it .HTTP 403"),
        (Fault("dog", "abort"), r"only 2\.5 kB of 5\.0 kB came"),
    ],
)
def test_faults_of_a_server_are_one_line_and_leave_nothing(server, tmp_path, fault, message):
    server.faults.append(fault)
    with pytest.raises(UserError, match=message) as raised:
        find_videos([f"{server.url}/walks/dog.mp4"])
    assert "\n" not in str(raised.value)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_server_that_is_not_there(server):
    with pytest.raises(UserError, match=r"127.0.0.1:9/dog.mp4: cannot be reached"):
        find_videos(["http://127.0.0.1:9/dog.mp4"])


def test_a_server_that_says_no_size_ends_somewhere(server, monkeypatch, tmp_path):
    monkeypatch.setattr(remote, "REMOTE_BYTES", 2000)
    look = servers.look
    monkeypatch.setattr(servers, "look", lambda address: (None, look(address)[1]))
    with pytest.raises(UserError, match=r"more than the 2\.0 kB that were expected"):
        find_videos([f"{server.url}/walks/dog.mp4"])
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert limits.REMOTE_BYTES > 2**30


def test_names_are_made_safe(store, tmp_path):
    store.pipe_file("/b/..%2f/x\x1b[31m.mp4", b"1")
    [path] = [p for p in find_videos(["memory://b"]) if p.read_bytes() == b"1"]
    assert path.resolve().is_relative_to((tmp_path / "cache" / "videos").resolve())
    assert "\x1b" not in str(path)


def test_without_the_package(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"needs gcsfs: pip install .*hub"):
        find_videos(["gs://bucket/walks/dog.mp4"])
    # a server needs none
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert find_videos([f"{server.url}/walks/dog.mp4"])


def test_the_library_takes_addresses_where_it_takes_paths(server, monkeypatch, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)
    write_mp4(tmp_path / "a.mp4", frames)
    content = (tmp_path / "a.mp4").read_bytes()
    server.files |= {"/walks/a.mp4": content, "/walks/b.mp4": content}
    one, other = f"{server.url}/walks/a.mp4", f"{server.url}/walks/b.mp4"
    assert vtd_jax.read_video(one, frames=2).frames.shape == (2, 32, 48, 3)
    [path], single = as_videos(one)
    assert (single, path.read_bytes()) == (True, content)
    paths, single = as_videos([one, other, tmp_path / "a.mp4"])
    assert (single, len(list(paths))) == (False, 3)
    drawn, single = as_videos(iter([other]))
    assert (single, [path.name for path in drawn]) == (False, ["b.mp4"])
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    with pytest.raises(UserError, match=r"c.mp4: not on this machine"):
        as_videos([one, f"{server.url}/walks/c.mp4"])


def test_folders_of_a_store_are_several_videos(store, tmp_path):
    paths, single = as_videos("memory://b/cats")
    assert (single, len(list(paths))) == (False, 2)
    assert len(list(tmp_path.rglob("*.mp4"))) == 2
    [dogs], single = as_videos(["memory://b/dogs"])
    assert (single, addresses.missing(dogs)) == (
        False,
        "memory://b/dogs: 1 video, expected one file",
    )
    with pytest.raises(VideoError, match="1 video, expected one file"):
        read_clip(dogs, 2, 32)
    assert not list(tmp_path.rglob("*.avi"))


def test_messages_have_no_passwords_and_keys(server, monkeypatch, capsys):
    address = f"{server.url}/walks/dog.mp4?token=SECRET".replace("://", "://user:pa55@")
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    with pytest.raises(UserError, match=r"/walks/dog.mp4: not on this machine") as raised:
        find_videos([address])
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    server.faults.append(Fault("dog", "status", status=403))
    with pytest.raises(UserError, match="the server refuses it") as again:
        find_videos([address])
    with pytest.raises(UserError, match=r"ftp://a.b/c.mp4: expected a path") as other:
        find_videos(["ftp://user:pa55@a.b/c.mp4?token=SECRET"])
    said = f"{raised.value}{again.value}{other.value}{capsys.readouterr().err}"
    assert not any(secret in said for secret in ("SECRET", "pa55"))


def test_names_are_short_enough_for_any_disk(store):
    store.pipe_file("/b/long/" + "影" * 140 + ".mp4", b"1")
    [path] = find_videos(["memory://b/long"])
    assert path.suffix == ".mp4"
