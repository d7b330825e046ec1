"""Whether the source videos are those that records were built from: sizes, times, and content where
times differ.
"""

import json
import os
from pathlib import Path

import pytest

from support.video_files import write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest import sources
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.stored_lists import read_stored_list

CHANGED = r"1 of 2 videos not in them or changed since \(two\.avi\)"


def config(folder: Path, **fields) -> BuildConfig:
    pair = tuple(map(str, write_catalog(folder, ["one.mp4 0", "two.avi 1"])))
    return BuildConfig(
        **{
            "name": "clips",
            "lists": (pair,),
            "video_dir": str(folder),
            "storage": "video",
            **fields,
        }
    )


def replace(path: Path) -> None:
    """Another video of the same size: a byte of its picture changes, and the time."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"idx1") - 40
    content[at] ^= 1
    path.write_bytes(content)
    later(path)


def later(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**10))


def test_a_replaced_video_of_the_same_size_is_noticed(folder, tmp_path):
    built = build_records(config(folder), tmp_path / "out")
    before = read_stored_list(built.path, "list").fingerprint
    replace(folder / "two.avi")
    with pytest.raises(UserError, match=CHANGED):
        build_records(config(folder), tmp_path / "out")
    build_records(config(folder), tmp_path / "out", overwrite=True)
    # which training and evaluation notice, too
    assert read_stored_list(built.path, "list").fingerprint != before


def test_a_copied_folder_is_read_once(folder, tmp_path, monkeypatch):
    build_records(config(folder), tmp_path / "out")
    for name in ("one.mp4", "two.avi"):
        later(folder / name)
    message = []
    assert build_records(config(folder), tmp_path / "out", announce=message.append).reused
    assert message == ["2 videos of another time than when built: comparing the content"]
    monkeypatch.setattr(sources, "file_digest", lambda path: pytest.fail("read again"))
    assert build_records(config(folder), tmp_path / "out").reused


def test_a_replaced_video_that_kept_its_time_is_noticed(folder, tmp_path):
    built = build_records(config(folder), tmp_path / "out")
    status = (folder / "two.avi").stat()
    replace(folder / "two.avi")
    os.utime(folder / "two.avi", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=CHANGED):
        build_records(config(folder), tmp_path / "out")
    # records that give one time only
    (built.path / "seen.json").write_text(
        json.dumps([pair[0] for pair in json.loads(seen(built.path))])
    )
    with pytest.raises(UserError, match=CHANGED):
        build_records(config(folder), tmp_path / "out")


def seen(path: Path) -> str:
    return (path / "seen.json").read_text()


def test_records_that_give_one_time_only_are_not_read_again(folder, tmp_path, monkeypatch):
    path = build_records(config(folder), tmp_path / "out").path
    (path / "seen.json").write_text(json.dumps([pair[0] for pair in json.loads(seen(path))]))
    monkeypatch.setattr(sources, "file_digest", lambda path: pytest.fail("older than the records"))
    assert build_records(config(folder), tmp_path / "out").reused


def test_records_of_before_have_their_digests_in_the_records(folder, tmp_path, monkeypatch):
    path = build_records(config(folder), tmp_path / "out").path
    rows = json.loads((path / "files.json").read_text())
    (path / "files.json").write_text(json.dumps([row[:2] for row in rows]))
    (path / "seen.json").unlink()
    stored = json.loads((path / "lists/list.json").read_text())
    old = sources_fingerprint(config(folder), rows)
    (path / "lists/list.json").write_text(json.dumps(stored | {"fingerprint": old}))
    with monkeypatch.context() as patch:
        patch.setattr(sources, "file_digest", lambda path: pytest.fail("older than the records"))
        assert build_records(config(folder), tmp_path / "out").reused
    later(folder / "one.mp4")
    assert build_records(config(folder), tmp_path / "out").reused
    replace(folder / "two.avi")
    with pytest.raises(UserError, match=CHANGED):
        build_records(config(folder), tmp_path / "out")


def sources_fingerprint(config: BuildConfig, rows: list) -> str:
    """The fingerprint of the list in records without digests."""
    from vtd_jax.video.ingest.builder import contents
    from vtd_jax.video.ingest.inputs import Inputs
    from vtd_jax.video.record_files import StoredFile

    return contents(Inputs(config), [StoredFile(*row[:2], "") for row in rows], [])[0][
        "fingerprint"
    ]


def test_a_bad_video_that_was_replaced_is_noticed(folder, tmp_path):
    whole = (folder / "two.avi").read_bytes()
    (folder / "two.avi").write_bytes(bytes(len(whole)))
    assert build_records(config(folder, on_error="skip"), tmp_path / "out").skipped == 1
    later(folder / "two.avi")
    assert build_records(config(folder, on_error="skip"), tmp_path / "out").reused
    (folder / "two.avi").write_bytes(whole)
    with pytest.raises(UserError, match=CHANGED):
        build_records(config(folder, on_error="skip"), tmp_path / "out")


def test_lists_of_an_earlier_version_are_the_same_lists(folder, tmp_path):
    path = build_records(config(folder), tmp_path / "out").path / "lists/list.json"
    stored = json.loads(path.read_text())
    # version 0.1.0 noted all digits of the SHA-256
    path.write_text(json.dumps(stored | {"fingerprint": f"{stored['fingerprint']:0<64}"}))
    assert build_records(config(folder), tmp_path / "out").added == ()
    path.write_text(json.dumps(stored | {"fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="another list has this name"):
        build_records(config(folder), tmp_path / "out")
