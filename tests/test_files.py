"""Files are whole or not there."""

import os
import resource

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
