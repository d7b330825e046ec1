"""Damaged, missing and unreadable files of an index, and other things in their places."""

import os

import pytest

from vtd_jax.errors import UserError
from vtd_jax.retrieval.index import Index


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _cut(path):
    os.truncate(path, path.stat().st_size - 1)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def _link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("name", ["00001.safetensors", "00001.json"])
@pytest.mark.parametrize(
    "damage, said",
    [
        (_cut, "bytes, expected"),
        (_flip, "other bytes than were written"),
        (os.unlink, "No such file"),
        (_link, "a link, a pipe or a folder"),
    ],
)
def test_damage_is_named_and_repaired(name, damage, said, clips, plain, tmp_path, seen, capsys):
    folder = tmp_path / "index"
    whole = Index.build(folder, [clips], plain)
    expected = list(whole)
    damage(folder / name)
    with pytest.raises(UserError) as error:
        Index.open(folder, plain).check()
    assert str(error.value).startswith(f"{folder / name}: ")
    assert said in str(error.value)
    assert "copy the index again, or give the folders" in str(error.value)
    seen.clear()
    capsys.readouterr()
    found = Index.build(folder, [clips], plain)
    assert len(seen) == 3
    assert capsys.readouterr().err.startswith(f"warning: {folder / name}: ")
    assert (found.check(), found.summary.clips) == (7, 7)
    assert {one.clip.name for one in found} == {one.clip.name for one in expected}


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_disk_that_is_away_loses_nothing(call, clips, plain, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    Index.build(folder, [clips], plain)
    before = _files(folder)

    def away(path, *rest, **options):
        if str(path).endswith("00000.safetensors"):
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, *rest, **options)

    name = {"stat": "lstat", "open": "open"}[call]
    whole = getattr(os, name)
    with monkeypatch.context() as patched:
        patched.setattr(os, name, away)
        for read in (
            lambda: Index.open(folder).check(),
            lambda: Index.build(folder, [clips], plain),
        ):
            with pytest.raises(UserError, match=r"00000\.safetensors: cannot be read \(Permission"):
                read()
    assert _files(folder) == before


@pytest.mark.parametrize("name", ["00000.safetensors", "00000.json", "index.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling"])
def test_something_else_in_the_place_of_a_file(name, kind, clips, plain, tmp_path):
    folder = tmp_path / "index"
    Index.build(folder, [clips], plain)
    (folder / name).unlink()
    {
        "folder": lambda path: path.mkdir(),
        "pipe": os.mkfifo,
        "dangling": lambda path: path.symlink_to("nowhere"),
    }[kind](folder / name)
    with pytest.raises(UserError, match=name):
        Index.open(folder).check()
    if name == "index.json":
        for restart in (False, True):
            with pytest.raises(UserError, match=r"index\.json: no regular file, expected the man"):
                Index.build(folder, [clips], plain, restart=restart)
        return
    assert Index.build(folder, [clips], plain).summary.added == 7
    assert Index.open(folder).check() == 7
    # what is no file of ours stays
    assert (folder / name).is_dir() == (kind == "folder")
    assert Index.build(folder, [clips], plain, restart=True).summary.added == 7
