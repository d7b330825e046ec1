"""Manifests: what is noted is read back, and nothing else is believed."""

import json
import os

import pytest

from vtd_jax.errors import UserError
from vtd_jax.fingerprints import fingerprint
from vtd_jax.manifest import FORMAT, Manifest, read_manifest

MADE_FROM = {"config": fingerprint("a"), "sizes": [1, 2], "source": {"list": None}}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "rows.npy").write_bytes(b"1234")
    path = tmp_path / "manifest.json"
    Manifest("shard", MADE_FROM, True, {"rows.npy": 4}, {"skipped": ["é"]}).write(path)
    return path


def test_what_is_noted_is_read_back(path):
    noted = read_manifest(path, "shard")
    assert noted == Manifest("shard", MADE_FROM, True, {"rows.npy": 4}, {"skipped": ["é"]})
    assert noted.version
    # nothing of the writing stays
    assert sorted(file.name for file in path.parent.iterdir()) == ["manifest.json", "rows.npy"]


def test_mine_is_what_was_made_from_the_same(path):
    noted = read_manifest(path, "shard")
    # tuples are lists in JSON
    assert noted.is_mine(MADE_FROM | {"sizes": (1, 2)})
    for change in ({"config": fingerprint("b")}, {"sizes": [1]}, {"source": {}}, {"more": None}):
        assert noted.differences(MADE_FROM | change) == list(change)
        assert not noted.is_mine(MADE_FROM | change)
    fewer = {key: value for key, value in MADE_FROM.items() if key != "source"}
    assert noted.differences(fewer) == ["source"]


def test_whole_is_what_was_finished_and_still_has_its_files(path):
    noted = read_manifest(path, "shard")
    assert noted.is_whole(path.parent)
    assert not Manifest("shard", {}, files={"rows.npy": 4}).is_whole(path.parent)
    (path.parent / "rows.npy").write_bytes(b"123")
    assert not noted.is_whole(path.parent)
    (path.parent / "rows.npy").unlink()
    assert not noted.is_whole(path.parent)


def test_no_manifest_is_none(tmp_path):
    assert read_manifest(tmp_path / "manifest.json", "shard") is None


def test_what_earlier_versions_wrote_is_for_the_caller(path):
    path.write_text('{"finished": true}')
    legacy = lambda fields: Manifest("shard", {}, fields["finished"], version="")  # noqa: E731
    assert read_manifest(path, "shard", legacy=legacy) == Manifest("shard", {}, True, version="")
    with pytest.raises(UserError, match=r"manifest\.json: manifest: .*; remove it$"):
        read_manifest(path, "shard", remedy="remove it")


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": "1"},
        {"of": "demo"},
        {"of": 3},
        {"whole": 1},
        {"made_from": []},
        {"files": {"rows.npy": -1}},
        {"files": {"rows.npy": "4"}},
        {"about": None},
        {"version": 3},
    ],
    ids=str,
)
def test_a_damaged_manifest_is_refused(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    with pytest.raises(UserError, match=rf"manifest\.json: {next(iter(change))}.*; remove it$"):
        read_manifest(path, "shard", remedy="remove it")
    del content[next(iter(change))]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"manifest\.json: .*; remove it$"):
        read_manifest(path, "shard", remedy="remove it")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", "[" * 100_000])
def test_what_is_no_object_is_refused(path, text):
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"manifest\.json: .*; remove it$"):
        read_manifest(path, "shard", legacy=lambda fields: None, remedy="remove it")


def test_a_link_to_nothing_or_a_pipe_is_not_nothing(path):
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(path, "shard")
    path.unlink()
    path.symlink_to("gone")
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(path, "shard")


def test_a_later_format_says_who_wrote_it(path):
    content = json.loads(path.read_text())
    later = {"manifest": FORMAT + 1, "version": "9.9", "anything": 1}
    path.write_text(json.dumps(content | later))
    with pytest.raises(UserError, match=r"manifest\.json: .*vtd_jax 9\.9.*update"):
        read_manifest(path, "shard")
    # more keys in this format are a later version's, and no reason to refuse
    path.write_text(json.dumps(content | {"anything": 1}))
    assert read_manifest(path, "shard").whole
