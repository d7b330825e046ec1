"""Finding the files that lists mean: exact paths, base names, stems, and what is ambiguous."""

import os
import time
from pathlib import Path

import pytest

from support import layouts
from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.lists.locate import VideoIndex, class_folders, scan_folders


def touch(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_files_are_videos_sorted_and_not_hidden(tmp_path):
    touch(
        tmp_path,
        "b/x.MP4",
        "a.webm",
        "b/notes.txt",
        ".hidden.mp4",
        ".cache/y.mp4",
        "b/._x.mp4",
        "c/d/e.3gp",
    )
    assert VideoIndex(tmp_path).files() == ["a.webm", "b/x.MP4", "c/d/e.3gp"]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("train/abseiling/a_000001_000011.mp4", "train/abseiling/a_000001_000011.mp4"),
        ("./train/abseiling/a_000001_000011.mp4", "train/abseiling/a_000001_000011.mp4"),
        ("train/a_000001_000011.mp4", "train/abseiling/a_000001_000011.mp4"),
        ("a_000001_000011.mp4", "train/abseiling/a_000001_000011.mp4"),
        ("val/b_000002_000012.mp4", "val_256/b_000002_000012.mkv"),
        ("#437 How [to]; ride (1).avi", "odd/#437 How [to]; ride (1).avi"),
        ("a.b.c.mp4", "odd/a.b.c.webm"),
        ("odd/raw.y4m", "odd/raw.y4m"),
        ("raw.y4m", None),
        ("train/c.mp4", None),
        ("a.b.mp4", None),
    ],
)
def test_find(tmp_path, file, found):
    touch(
        tmp_path,
        "train/abseiling/a_000001_000011.mp4",
        "val_256/b_000002_000012.mkv",
        "odd/raw.y4m",
    )
    touch(tmp_path, "odd/#437 How [to]; ride (1).avi", "odd/a.b.c.webm")
    assert VideoIndex(tmp_path).find(file) == found


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("train/x.mp4", "k/train_256/dancing/x.mp4"),
        ("val/x.mp4", "k/validation/dancing/x.mp4"),
        ("kick/y.avi", "hmdb/kick/y.avi"),
        ("kick_ball/y.avi", "hmdb/kick_ball/y.avi"),
        ("train/z.mp4", "train/two/z.mkv"),
        ("one/1.mp4", "k/one/1.mp4"),
        ("k/one/1.mp4", "k/one/1.mp4"),
    ],
)
def test_of_several_the_one_whose_folders_agree(tmp_path, file, found):
    touch(tmp_path, "k/train_256/dancing/x.mp4", "k/validation/dancing/x.mp4", "hmdb/kick/y.avi")
    touch(
        tmp_path,
        "hmdb/kick_ball/y.avi",
        "k/one/1.mp4",
        "k/two/1.mp4",
        "train/two/z.mkv",
        "val/two/z.webm",
    )
    assert VideoIndex(tmp_path).find(file) == found


def test_the_base_name_comes_before_the_stem(tmp_path):
    touch(tmp_path, "val/x.mp4", "train/x.mkv")
    assert VideoIndex(tmp_path).find("train/x.mp4") == "val/x.mp4"


@pytest.mark.parametrize(
    "file",
    [
        "./s/x.mp4",
        "s/../s/x.mp4",
        "s//x.mp4",
        "{folder}/s/x.mp4",
        "{folder}/t/../s/x.mp4",
        "t/../s/./x.mp4",
    ],
)
def test_one_file_by_every_spelling(tmp_path, monkeypatch, file):
    touch(tmp_path / "v", "s/x.mp4", "t/y.mp4")
    monkeypatch.chdir(tmp_path)
    for folder in ("v", "./v", str(tmp_path / "v")):
        assert VideoIndex(Path(folder)).find(file.format(folder=tmp_path / "v")) == "s/x.mp4"


@pytest.mark.parametrize(
    ("file", "near"),
    [
        ("Train/X.MP4", ["train/x.mp4"]),
        ("train\\x.mp4", ["train/x.mp4"]),
        (".\\train\\x.mp4", ["train/x.mp4"]),
        ("elsewhere/X.mp4", ["train/x.mp4", "val/x.mp4"]),
        ("Y.avi", ["y.webm"]),
        ("cafe\u0301.mp4", ["caf\xe9.mp4"]),
        ("STRASSE.mp4", ["straße.mp4"]),
        ("z.mp4", []),
        ("x" * 300 + ".mp4", []),
    ],
)
def test_what_a_name_that_is_not_there_may_mean(tmp_path, file, near):
    index = VideoIndex(
        touch(tmp_path, "train/x.mp4", "val/x.mp4", "y.webm", "caf\xe9.mp4", "straße.mp4")
    )
    assert index.near(file) == near
    assert index.find(file) is None


def test_ambiguous_names_are_refused(tmp_path):
    index = VideoIndex(touch(tmp_path, "one/x.mp4", "two/x.mp4", "train/x.avi"))
    with pytest.raises(
        UserError, match=r"'x.mp4' of the list may be any of one/x.mp4, two/x.mp4; write the path"
    ):
        index.find("x.mp4")
    with pytest.raises(UserError, match="may be any of"):
        index.find("val/x.mp4")
    many = VideoIndex(touch(tmp_path / "m", *(f"{i}/x.mp4" for i in range(7))))
    with pytest.raises(UserError, match=r"3/x.mp4 and 3 more;"):
        many.find("x.mp4")


def test_links_are_followed_once_and_never_round(tmp_path):
    touch(tmp_path / "elsewhere", "kick/a.avi")
    touch(tmp_path / "here", "real/b.avi")
    os.symlink(tmp_path / "elsewhere", tmp_path / "here/linked")
    os.symlink(tmp_path / "here", tmp_path / "here/real/loop")
    os.symlink(tmp_path / "here/real", tmp_path / "here/another_name")
    os.symlink(tmp_path / "gone.avi", tmp_path / "here/broken.avi")
    assert VideoIndex(tmp_path / "here").files() == ["linked/kick/a.avi", "real/b.avi"]


def test_shallow_folders_come_first(tmp_path):
    touch(tmp_path, "b/x.txt", "a/deep/er/y.txt", "z.txt", "c.txt")
    assert list(scan_folders(tmp_path)) == [
        ("", ["c.txt", "z.txt"]),
        ("a", []),
        ("b", ["x.txt"]),
        ("a/deep", []),
        ("a/deep/er", ["y.txt"]),
    ]


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="there is no such folder; check the path"):
        VideoIndex(tmp_path / "none")


@pytest.mark.slow
def test_many_files_take_little_time(tmp_path):
    for k in range(20):
        (tmp_path / f"train/class {k}").mkdir(parents=True)
        for i in range(500):
            (tmp_path / f"train/class {k}/{k}_{i}.mp4").touch()
    start = time.process_time()
    index = VideoIndex(tmp_path)
    assert all(index.find(f"train/{k}_{i}.webm") for k in range(20) for i in range(500))
    # 250 000 files at this pace take under 75 s even on a slow and busy machine; a quadratic search
    # takes minutes here
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "loose, said",
    [
        (["stray.mp4"], "1 video lies outside the class folders and is left out: stray.mp4; move"),
        (
            ["a.mp4", "b.avi", "c.mp4", "d\x1b.mp4", "notes.txt"],
            "are left out: a.mp4, b.avi, c.mp4 and 1 more; move",
        ),
        (["notes.txt"], ""),
    ],
)
def test_loose_videos_are_named(tmp_path, caplog, loose, said):
    folder = layouts.make_class_folders(tmp_path / "mine", classes=2)
    listed = class_folders(touch(folder, *loose))
    assert len(listed.entries) == 5
    assert len(caplog.records) == bool(said)
    assert said in caplog.text


def test_class_folders(tmp_path):
    folder = layouts.make_class_folders(tmp_path / "my clips", classes=2)
    touch(folder, "stray.mp4")
    listed = class_folders(folder)
    assert (listed.name, listed.origin, listed.class_names) == (
        "my clips",
        "given",
        ("left_turn", "right turn"),
    )
    assert listed.entries == (
        Entry("left_turn/day one/take 0.mp4", 0, 0),
        Entry("left_turn/day one/take 2.mp4", 0, 0),
        Entry("left_turn/take 1.avi", 0, 0),
        Entry("right turn/day one/take 0.mp4", 1, 0),
        Entry("right turn/take 1.avi", 1, 0),
    )


def test_class_folders_without_classes(tmp_path):
    with pytest.raises(
        UserError, match=r"no folder in it holds a video; expected .*/CLASS/video.mp4"
    ):
        class_folders(touch(tmp_path / "a", "x.mp4", "empty/notes.txt"))
    with pytest.raises(UserError, match="folders 'Left turn' and 'left_turn' name the same class"):
        class_folders(touch(tmp_path / "b", "left_turn/x.mp4", "Left turn/y.mp4"))
    with pytest.raises(
        UserError, match=r"folders 'cafe\\u0301' and 'caf\\xe9' name the same class"
    ):
        class_folders(touch(tmp_path / "c", "caf\xe9/x.mp4", "cafe\u0301/y.mp4"))
