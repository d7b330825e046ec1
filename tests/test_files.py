"""Files are whole or not there."""

import errno
import os
import resource
import signal

import pytest

from vtd_jax import files
from vtd_jax.errors import UserError
from vtd_jax.files import replacing, write_text


def test_replaces_what_was_there(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    assert write_text(path, "né\n").read_text(encoding="utf-8") == "né\n"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def fail():
        with replacing(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_planted_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 2 * count)
    (tmp_path / f".out.{'0' * 12}.part.json").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        files.write_text(tmp_path / "out.json", "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "out.json").exists()
    # a name that is guessed is the only way: two are never the same
    monkeypatch.undo()
    seen = set()
    for _ in range(3):
        with files.replacing(tmp_path / "out.json") as part:
            seen.add(part.name)
    assert len(seen) == 3


def test_an_output_that_is_a_link_replaces_the_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out.json").symlink_to(tmp_path / "victim")
    files.write_text(tmp_path / "out.json", "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert (tmp_path / "out.json").read_text() == "new"


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_files_that_are_added_to_are_no_links_or_pipes(tmp_path, mode):
    path = tmp_path / "log"
    (tmp_path / "victim").write_text("precious")
    os.link(tmp_path / "victim", tmp_path / "hard")
    os.symlink("victim", tmp_path / "soft")
    os.symlink("gone", tmp_path / "dangling")
    os.mkfifo(tmp_path / "pipe")
    for name in ("hard", "soft", "dangling", "pipe"):
        with pytest.raises(UserError, match=f"{name}: .*remove it"):
            files.open_own(tmp_path / name, mode)
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "gone").exists()
    path.write_text("one")
    with files.open_own(path, mode) as file:
        file.write(b"2")
    assert path.read_text() == {"wb": "2", "ab": "one2", "r+b": "2ne"}[mode]
    path.unlink()
    if mode == "r+b":
        with pytest.raises(FileNotFoundError):
            files.open_own(path, mode)
    else:
        files.open_own(path, mode).close()
        assert path.read_text() == ""


def test_a_log_on_a_full_disk_is_named(tmp_path):
    with files.log_file(tmp_path / "log") as log:
        print("caf\udce9", file=log)
    assert (tmp_path / "log").read_text() == "caf\\udce9\n"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large") as caught,
            files.log_file(tmp_path / "log") as log,
        ):
            print("x" * 99, file=log, flush=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "log")


@pytest.mark.parametrize("must", [True, False])
@pytest.mark.parametrize("what", ["nothing", "folder", "file", "pipe", "link", "dangling"])
def test_whatever_stands_in_a_place_is_removed(what, must, tmp_path):
    path, other = tmp_path / "place", tmp_path / "other"
    (other / "inner").mkdir(parents=True)
    (other / "inner" / "mine").write_text("precious")
    if what == "folder":
        (path / "inner").mkdir(parents=True)
        os.mkfifo(path / "inner" / "pipe")
        (path / "link").symlink_to(other)
    elif what == "file":
        path.write_text("x")
    elif what == "pipe":
        os.mkfifo(path)
    elif what != "nothing":
        path.symlink_to(other if what == "link" else tmp_path / "gone")
    # a pipe that is opened is waited for: see that it would end
    signal.alarm(30)
    files.remove_tree(path, must=must)
    signal.alarm(0)
    assert sorted(os.listdir(tmp_path)) == ["other"]
    assert (other / "inner" / "mine").read_text() == "precious"


def test_what_cannot_be_removed_is_a_fault_or_not(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(files.os, "unlink", refuse)
    with pytest.raises(PermissionError):
        files.remove_tree(tmp_path / "file")
    files.remove_tree(tmp_path / "file", must=False)


@pytest.mark.parametrize(
    "place", ["a folder", "below nothing", "below a file", "in no folder of ours"]
)
def test_an_error_names_the_requested_file(place, tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    if place == "a folder":
        path.mkdir()
    elif place == "in no folder of ours":

        def refuse(name, *args):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))

        monkeypatch.setattr(files.os, "open", refuse)
    else:
        path = tmp_path / "none" / "out.json"
        if place == "below a file":
            path.parent.write_text("x")
    with pytest.raises(OSError) as caught:
        write_text(path, "new")
    assert caught.value.filename == str(path)
    assert ".part" not in str(caught.value)
    assert files.remedy(caught.value) or place in ("below nothing", "in no folder of ours")
    assert not list(tmp_path.glob(".*"))


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "out.json"):
        (tmp_path / "input.json").read_text()
    assert caught.value.filename == str(tmp_path / "input.json")
