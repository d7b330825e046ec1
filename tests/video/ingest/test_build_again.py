"""Builds on what is there: added lists, own splits replaced, records in pieces, and failures late
in a build.
"""

import errno
import shutil
from pathlib import Path

import pytest

from support.layouts import make_hmdb51
from support.video_files import make_video, write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest import builder, records, shards
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.inputs import Inputs
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.ingest.shards import Staging
from vtd_jax.video.records import open_records
from vtd_jax.video.stored_lists import list_names, read_stored_list


@pytest.fixture
def hmdb51(tmp_path) -> Path:
    return make_hmdb51(tmp_path / "hmdb51")


def config_for(folder: Path, lines: list[str], stem: str = "list", **fields) -> BuildConfig:
    pair = tuple(map(str, write_catalog(folder, lines, stem=stem)))
    return BuildConfig(**{"name": "clips", "lists": (pair,), "video_dir": str(folder), **fields})


def publish(tree: Path, source: Path) -> Path:
    """Published base-to-novel lists: other halves than the rule's."""
    lists, labels = tree / "datasets_splits/base2novel_splits/hmdb_splits", tree / "labels"
    lists.mkdir(parents=True)
    labels.mkdir()
    names = {"base": ["brush hair", "climb"], "novel": ["climb stairs", "kick"]}
    for half, classes in names.items():
        rows = "".join(f"{i},{name}\n" for i, name in enumerate(classes))
        (labels / f"hmdb_51_{half}_labels.csv").write_text(f"id,name\n{rows}")
    for name, half in (("base_train", "base"), ("base_val", "base"), ("novel_val", "novel")):
        lines = []
        for i, each in enumerate(names[half]):
            files = sorted(
                path.name for path in (source / "hmdb51_org" / each.replace(" ", "_")).iterdir()
            )
            lines += [
                f"{file} {i}\n" for file in (files[:2] if name == "base_train" else files[2:4])
            ]
        (lists / f"{name}.txt").write_text("".join(lines))
    return tree


@pytest.mark.slow
def test_published_lists_take_the_place_of_own_splits(hmdb51, tmp_path):
    plain = BuildConfig("jpeg", dataset="hmdb51", source=str(hmdb51))
    path = build_records(plain, tmp_path / "out").path
    assert read_stored_list(path, "base_val").origin == "own split"
    assert "fs_base_s1_train" in list_names(path)
    tree = publish(tmp_path / "tree", hmdb51)
    config = BuildConfig("jpeg", dataset="hmdb51", source=str(hmdb51), splits=str(tree))
    built = build_records(config, tmp_path / "out")
    assert set(built.added) == {"base_train", "base_val", "novel_val"}
    assert {read_stored_list(path, name).origin for name in built.added} == {"given"}
    # the other own splits of the same protocol would mix halves; few-shot is another protocol
    assert not any(name.startswith("fs_base") for name in list_names(path))
    assert read_stored_list(path, "train1_few_shot_2").origin == "own split"
    assert read_stored_list(path, "val1").origin == "official"
    assert build_records(config, tmp_path / "out").added == ()
    # and never back again
    assert build_records(plain, tmp_path / "out").added == ()
    assert {
        read_stored_list(path, name).origin for name in ("base_train", "base_val", "novel_val")
    } == {"given"}
    assert not any(name.startswith("fs_base") for name in list_names(path))


@pytest.mark.slow
def test_a_given_list_takes_the_place_of_an_official_one_but_not_of_another_given_one(
    hmdb51, tmp_path
):
    path = build_records(
        BuildConfig("r", dataset="hmdb51", source=str(hmdb51)), tmp_path / "out"
    ).path
    official = open_records(path, "val1")
    lines = [f"{e.file} {e.label}" for e in official]
    for count, added in ((3, ("val1",)), (3, ()), (2, None)):
        pair = tuple(
            map(str, write_catalog(tmp_path, lines[:count], official.class_names, stem="val1"))
        )
        config = BuildConfig("r", dataset="hmdb51", source=str(hmdb51), lists=(pair,))
        if added is None:
            with pytest.raises(UserError, match=r"val1\.json: another list has this name"):
                build_records(config, tmp_path / "out")
        else:
            assert build_records(config, tmp_path / "out").added == added
        assert (read_stored_list(path, "val1").origin, len(open_records(path, "val1"))) == (
            "given",
            3,
        )


def test_a_list_that_turns_out_to_be_the_published_one_is_marked_given(folder, tmp_path):
    mine = tmp_path / "mine"
    for i, name in enumerate(("left turn", "right turn")):
        (mine / name).mkdir(parents=True)
        for j in range(2):
            make_video(mine / name / f"{i}{j}.mp4", 5 + j)
    path = build_records(BuildConfig("r", source=str(mine), holdout=0.5), tmp_path / "out").path
    own = read_stored_list(path, "mine_val")
    lines = [f"{e.file} {e.label}" for e in open_records(path, "mine_val")]
    pair = tuple(map(str, write_catalog(tmp_path, lines, stem="mine_val")))
    build_records(BuildConfig("r", lists=(pair,), video_dir=str(mine)), tmp_path / "out")
    again = read_stored_list(path, "mine_val")
    assert (own.origin, again.origin, own.fingerprint == again.fingerprint) == (
        "own split",
        "given",
        True,
    )


def test_missing_videos_are_counted_once_however_many_lists_name_them(hmdb51, tmp_path):
    next((hmdb51 / "hmdb51_org").rglob("*.avi")).unlink()
    config = BuildConfig("x", dataset="hmdb51", source=str(hmdb51), on_error="skip")
    built = build_records(config, tmp_path / "out")
    assert (built.missing, built.skipped) == (1, 0)
    assert open_records(tmp_path / "out", "val2").info["missing"] == 1
    assert (
        sum(len(read_stored_list(built.path, name).left_out) for name in list_names(built.path)) > 1
    )


def test_lists_are_added_only_if_they_are_sound(folder, tmp_path):
    build_records(config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "out")
    with pytest.raises(UserError, match=r"more\.txt:2: .*gone\.mp4: there is no such video file"):
        build_records(config_for(folder, ["one.mp4 0", "gone.mp4 1"], "more"), tmp_path / "out")
    assert list_names(tmp_path / "out/video_folder/clips/1.0.0") == ["list"]
    built = build_records(
        config_for(folder, ["one.mp4 0", "gone.mp4 1"], "more", on_error="skip"), tmp_path / "out"
    )
    assert (built.added, built.missing) == (("more",), 1)


def test_records_in_pieces_are_not_taken_for_whole(folder, tmp_path):
    config = config_for(folder, ["one.mp4 0", "two.avi 1"])
    path = build_records(config, tmp_path / "out").path
    shard = next(path.glob("*array_record*"))
    data = shard.read_bytes()
    shard.write_bytes(data[:-9])
    with pytest.raises(UserError, match="missing or cut short; replace them with `overwrite`"):
        build_records(config, tmp_path / "out")
    shard.unlink()
    with pytest.raises(
        UserError,
        match="1 shards, 0 are there; build these records again with `overwrite` of",
    ):
        build_records(config, tmp_path / "out")
    shard.write_bytes(data)
    (path / "metadata.json").write_text("{}")
    with pytest.raises(
        UserError,
        match=r"metadata\.json: object missing required field storage; build these records",
    ):
        build_records(config, tmp_path / "out")


def test_a_bad_video_that_was_mended_is_noticed(folder, tmp_path):
    whole = (folder / "two.avi").read_bytes()
    (folder / "two.avi").write_bytes(whole[:-4000])
    config = config_for(folder, ["one.mp4 0", "two.avi 1"], on_error="skip")
    assert build_records(config, tmp_path / "out").skipped == 1
    assert build_records(config, tmp_path / "out").reused
    (folder / "two.avi").write_bytes(whole)
    with pytest.raises(UserError, match=r"1 of 2 videos not in them or changed since \(two\.avi\)"):
        build_records(config, tmp_path / "out")


def test_what_lies_in_the_hidden_folder_is_not_followed(folder, tmp_path):
    """TFDS would restore itself from a record folder there, and write into it."""
    config, other = config_for(folder, ["one.mp4 0", "two.avi 1"]), tmp_path / "other"
    shutil.copytree(build_records(config, other).path.parents[2], tmp_path / "before")
    hidden = tmp_path / "out/.building-video_folder-clips"
    hidden.mkdir(parents=True)
    (hidden / "tfds").symlink_to(other)
    assert not build_records(config, tmp_path / "out").reused
    files = [
        sorted((p.relative_to(at), p.read_bytes()) for p in at.rglob("*") if p.is_file())
        for at in (
            other,
            tmp_path / "before",
        )
    ]
    assert files[0] == files[1]


def test_a_failure_after_gathering_loses_no_shard(folder, tmp_path, monkeypatch):
    config, write = config_for(folder, ["one.mp4 0", "two.avi 1"]), builder.write_list

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(builder, "write_list", full)
    with pytest.raises(OSError, match="No space"):
        build_records(config, tmp_path / "out")
    monkeypatch.setattr(builder, "write_list", write)
    monkeypatch.setattr(
        shards.encode, "encode_video", lambda *args: pytest.fail("a video was encoded again")
    )
    assert build_records(config, tmp_path / "out").videos == 2


def test_space_that_finished_shards_take_is_not_required_again(folder, tmp_path, monkeypatch):
    for i in range(6):
        shutil.copy(folder / "two.avi", folder / f"{i}.avi")
    config = config_for(
        folder, [f"{i}.avi 0" for i in range(6)], storage="video", shard_mb=0.001, workers=1
    )
    parts = Inputs(config).shards()
    last = folder / parts[-1][-1].file
    shutil.copy(last, folder / "aside")
    with last.open("r+b") as file:
        file.write(bytes(last.stat().st_size))
    with pytest.raises(UserError, match="not a video file"):
        build_records(config, tmp_path / "out")
    finished = list((tmp_path / "out").rglob("*.array_record"))
    assert len(finished) == len(parts) - 1 > 0
    (folder / "aside").rename(last)
    # a file of records is padded to whole blocks: make the need larger than that
    monkeypatch.setattr(Inputs, "estimate", lambda self, *args: [1e6] * 6)
    monkeypatch.setattr(Inputs, "shards", lambda self: parts)
    free = 6e6 - sum(path.stat().st_size for path in finished)
    for left, fits in ((free - 1, False), (free + 1, True)):
        monkeypatch.setattr(
            records.shutil, "disk_usage", lambda path, left=left: type("Usage", (), {"free": left})
        )
        if fits:
            assert build_records(config, tmp_path / "out").videos == 6
        else:
            with pytest.raises(UserError, match="are free; choose another `data_dir`"):
                build_records(config, tmp_path / "out")


def test_what_the_disk_refuses_is_one_line(folder, tmp_path, monkeypatch):
    class Full:
        def __init__(self, path, options):
            Path(path).touch()

        def write(self, data):
            raise RuntimeError("No space left on device")

        def close(self):
            raise RuntimeError("No space left on device")

        def is_open(self):
            return True

    monkeypatch.setattr(shards, "ArrayRecordWriter", Full)
    with pytest.raises(
        UserError, match=r"cannot be written \(No space left on device\); is the disk full"
    ):
        build_records(config_for(folder, ["one.mp4 0"]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_shard_is_filed_under_what_it_was_made_from(folder, tmp_path, monkeypatch):
    """A worker of a build that was killed ends after another build has laid out other work."""
    old = Inputs(config_for(folder, ["one.mp4 0", "two.avi 1"], storage="video"))
    new = Inputs(config_for(folder, ["one.mp4 1", "two.avi 0"], storage="video"))
    staging = Staging(tmp_path / "staging")
    staging.folder.mkdir()
    staging.prepare(old)
    plain = shards.encode.encode_video

    def meanwhile(entry, *args):
        staging.prepare(new)
        return plain(entry, *args)

    monkeypatch.setattr(shards.encode, "encode_video", meanwhile)
    staging.write(0)
    monkeypatch.setattr(shards.encode, "encode_video", plain)
    staging.prepare(new)
    assert staging.finished(1) == []


def test_class_names_are_part_of_what_a_shard_is_made_from(folder, tmp_path):
    staging = Staging(tmp_path / "staging")
    staging.folder.mkdir()
    for names, finished in ((("a", "b"), [0]), (("a", "c"), [])):
        pair = tuple(map(str, write_catalog(folder, ["one.mp4 0", "two.avi 1"], names)))
        staging.prepare(
            Inputs(BuildConfig("x", lists=(pair,), video_dir=str(folder), storage="video"))
        )
        if finished:
            staging.write(0)
        assert staging.finished(1) == finished
