"""What a build works on: which lists there are, and which file every entry means."""

import os
import shutil
from pathlib import Path

import pytest

from support.layouts import KINETICS400, make_class_folders, make_hmdb51, make_kinetics400
from support.video_files import write_catalog
from vtd_jax.errors import UserError
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.gather import given_list
from vtd_jax.video.ingest.inputs import Inputs, summary_lines


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory) -> Path:
    return make_hmdb51(tmp_path_factory.mktemp("hmdb51"))


def lists_of(config: BuildConfig) -> dict[str, str]:
    return {placed.list.name: placed.list.origin for placed in Inputs(config).placed}


HALVES = {
    "base_train",
    "base_val",
    "novel_val",
    "fs_base_s1_train",
    "fs_base_s2_train",
    "fs_base_s3_train",
}
SHOTS = {f"train1_few_shot_{n}" for n in (2, 4, 8, 16)}
OFFICIAL = {f"{kind}{i}" for kind in ("train", "val") for i in (1, 2, 3)}


def test_a_benchmark_has_its_official_lists_and_own_splits(hmdb51):
    found = lists_of(BuildConfig("x", dataset="hmdb51", source=str(hmdb51)))
    assert {name for name, origin in found.items() if origin == "official"} == OFFICIAL
    assert {name for name, origin in found.items() if origin == "own split"} == HALVES | SHOTS


def test_a_given_list_replaces_its_whole_protocol_and_an_official_list_of_its_name(
    hmdb51, tmp_path
):
    file = "hmdb51_org/brush_hair/" + next((hmdb51 / "hmdb51_org/brush_hair").iterdir()).name
    pairs = []
    for stem in ("base_val", "val1"):
        pairs.append(
            tuple(
                map(str, write_catalog(tmp_path, [f"{file} 0"], ("brush hair", "climb"), stem=stem))
            )
        )
    config = BuildConfig("x", dataset="hmdb51", source=str(hmdb51), lists=tuple(pairs))
    found = lists_of(config)
    assert {name for name, origin in found.items() if origin == "given"} == {"base_val", "val1"}
    assert {name for name, origin in found.items() if origin == "own split"} == SHOTS
    assert {name for name, origin in found.items() if origin == "official"} == OFFICIAL - {"val1"}
    lines = list(summary_lines(Inputs(config)))
    assert lines[1] == "given lists: base_val (1), val1 (1)"
    assert [line.split(" lists")[0] for line in lines[1:]] == ["given", "official", "own split"]


def test_only_takes_names_and_patterns(hmdb51):
    config = BuildConfig("x", dataset="hmdb51", source=str(hmdb51), only=("base_*", "novel_val"))
    assert set(lists_of(config)) == {"base_train", "base_val", "novel_val"}
    with pytest.raises(
        UserError, match="`only=vall`: no list has this name; there are train1, val1, "
    ):
        Inputs(BuildConfig("x", dataset="hmdb51", source=str(hmdb51), only=("vall",)))


def test_the_seed_changes_the_shots_and_the_order_only(hmdb51):
    a, b = (
        Inputs(BuildConfig("x", dataset="hmdb51", source=str(hmdb51), seed=seed)) for seed in (0, 1)
    )
    lists = [
        {p.list.name: sorted(file for file in p.files) for p in each.placed} for each in (a, b)
    ]
    assert {name for name in lists[0] if lists[0][name] != lists[1][name]} <= SHOTS | HALVES
    assert lists[0]["train1_few_shot_2"] != lists[1]["train1_few_shot_2"]
    assert lists[0]["base_train"] == lists[1]["base_train"]
    assert {v.file for v in a.videos} == {v.file for v in b.videos}
    assert [v.file for v in a.videos] != [v.file for v in b.videos]


def test_malformed_official_files_are_not_passed_over_when_lists_are_given(hmdb51, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(hmdb51, copy)
    split = next(copy.rglob("*_test_split1.txt"))
    split.write_text("what is this\n")
    pair = tuple(map(str, write_catalog(tmp_path, ["x.avi 0"], stem="val1")))
    with pytest.raises(UserError, match=r"_test_split1\.txt:1"):
        Inputs(BuildConfig("x", dataset="hmdb51", source=str(copy), lists=(pair,)))
    # without any annotation the given list is all there is
    shutil.rmtree(copy / "testTrainMulti_7030_splits")
    assert lists_of(BuildConfig("x", dataset="hmdb51", source=str(copy), lists=(pair,))) == {
        "val1": "given"
    }
    with pytest.raises(UserError, match="testTrainMulti_7030_splits"):
        Inputs(BuildConfig("x", dataset="hmdb51", source=str(copy)))


def test_every_video_once_with_the_class_of_its_name(hmdb51):
    inputs = Inputs(BuildConfig("x", dataset="hmdb51", source=str(hmdb51)))
    files = {path.relative_to(hmdb51).as_posix() for path in hmdb51.rglob("*.avi")}
    listed = {v.file: inputs.class_names[v.label].replace(" ", "_") for v in inputs.videos}
    assert set(listed) <= files
    assert len(listed) == len(inputs.videos) > 20
    assert all(file.split("/")[1] == name for file, name in listed.items())
    assert inputs.problems == []


def test_published_kinetics_names_find_files_in_class_folders(tmp_path):
    ids = make_kinetics400(tmp_path / "ids")
    folders = make_kinetics400(tmp_path / "folders", naming="class_folders")
    shutil.copytree(ids / "annotations", folders / "annotations")
    flat, deep = (
        Inputs(BuildConfig("x", dataset="kinetics400", source=str(p))) for p in (ids, folders)
    )
    assert (flat.problems, deep.problems) == ([], [])
    assert [v.file.split("/")[-1] for v in flat.videos] == [
        v.file.split("/")[-1] for v in deep.videos
    ]
    assert [v.label for v in flat.videos] == [v.label for v in deep.videos]
    assert all(v.file.count("/") == 2 for v in deep.videos)


def test_a_file_of_the_same_name_in_the_folder_of_another_class_is_another_video(tmp_path):
    for name in ("left turn", "right turn"):
        (tmp_path / name).mkdir()
    (tmp_path / "left turn" / "1.mp4").write_bytes(b"x")
    pair = tuple(map(str, write_catalog(tmp_path, ["right turn/1.mp4 1"])))
    inputs = Inputs(BuildConfig("x", lists=(pair,), video_dir=str(tmp_path)))
    assert [(p.kind, p.file) for p in inputs.problems] == [("missing", "right turn/1.mp4")]
    # one level of folders more or less is the same video
    (tmp_path / "all").mkdir()
    (tmp_path / "left turn").rename(tmp_path / "all" / "left turn")
    pair = tuple(map(str, write_catalog(tmp_path, ["left turn/1.mp4 0"])))
    inputs = Inputs(BuildConfig("x", lists=(pair,), video_dir=str(tmp_path)))
    assert [v.file for v in inputs.videos] == ["all/left turn/1.mp4"]


def test_a_missing_video_is_never_another_one_of_its_name(tmp_path):
    """Folders that are no classes: recordings of persons, with the same numbers."""
    for name in ("s1/clip1.mp4", "s1/clip2.mp4", "s2/clip3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    pairs = [
        write_catalog(tmp_path, ["s1/clip1.mp4 0", "s1/clip2.mp4 1"], stem="train"),
        write_catalog(tmp_path, ["s2/clip1.mp4 0", "s2/clip2.mp4 1", "s2/clip3.mp4 0"], stem="val"),
    ]
    inputs = Inputs(
        BuildConfig("x", lists=tuple((str(a), str(b)) for a, b in pairs), video_dir=str(tmp_path))
    )
    assert [p.files for p in inputs.placed] == [
        ("s1/clip1.mp4", "s1/clip2.mp4"),
        (None, None, "s2/clip3.mp4"),
    ]
    assert [(p.kind, p.file) for p in inputs.problems] == [
        ("missing", "s2/clip1.mp4"),
        ("missing", "s2/clip2.mp4"),
    ]
    assert (
        "the one of its name, s1/clip1.mp4, lies in a folder of something else"
        in inputs.problems[0].reason
    )


def test_a_name_that_may_be_several_files_is_reported_with_its_place(tmp_path):
    for name in ("a/clip1.mp4", "b/clip1.mp4", "c_d/x y/clip1.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(name.encode())
    pair = write_catalog(tmp_path, ["clip1.mp4 0", "a/clip1.mp4 0", "c d/x y/clip1.mp4 1"])
    inputs = Inputs(BuildConfig("x", lists=(tuple(map(str, pair)),), video_dir=str(tmp_path)))
    assert inputs.placed[0].files == (None, "a/clip1.mp4", "c_d/x y/clip1.mp4")
    assert [(p.kind, p.where) for p in inputs.problems] == [("missing", f"{pair[0]}:1")]
    assert "may be any of a/clip1.mp4, b/clip1.mp4" in inputs.problems[0].reason


def test_names_that_are_not_utf8_are_reported(tmp_path):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    inputs = Inputs(BuildConfig("x", source=str(tmp_path)))
    assert [p.file for p in inputs.problems] == ["left/caf\\xe9.mp4"]
    assert "the file's name is not UTF-8; rename it" in inputs.problems[0].reason
    inputs.problems[0].reason.encode()


def test_the_current_folder_does_not_matter(hmdb51, tmp_path, monkeypatch):
    file = next((hmdb51 / "hmdb51_org/climb").iterdir()).name
    pair = tuple(map(str, write_catalog(tmp_path, [f"climb/{file} 0"], stem="val1")))
    config = BuildConfig("x", dataset="hmdb51", lists=(pair,), video_dir=str(hmdb51 / "hmdb51_org"))
    found = []
    for folder in (tmp_path, hmdb51):
        monkeypatch.chdir(folder)
        found.append(lists_of(config))
    assert found == [{"val1": "given"}] * 2


def test_lists_that_are_not_wanted_are_not_read(tmp_path):
    good = tuple(map(str, write_catalog(tmp_path, ["a.mp4 0"], stem="good")))
    bad = tmp_path / "bad.txt"
    bad.write_text("nonsense\n")
    (tmp_path / "a.mp4").write_bytes(b"x")
    config = BuildConfig(
        "x", lists=(good, (str(bad), good[1])), video_dir=str(tmp_path), only=("good",)
    )
    assert (lists_of(config), Inputs(config).problems) == ({"good": "given"}, [])
    with pytest.raises(UserError, match="`only=goods`: no list has this name; there are good, bad"):
        Inputs(BuildConfig("x", lists=config.lists, video_dir=str(tmp_path), only=("goods",)))


def test_a_given_few_shot_list_ends_the_own_ones(hmdb51, tmp_path):
    file = next((hmdb51 / "hmdb51_org/climb").iterdir()).name
    pair = tuple(
        map(
            str,
            write_catalog(
                tmp_path, [f"climb/{file} 1"], ("brush hair", "climb"), stem="train1_few_shot_8"
            ),
        )
    )
    found = lists_of(BuildConfig("x", dataset="hmdb51", source=str(hmdb51), lists=(pair,)))
    assert {name for name in found if "few_shot" in name} == {"train1_few_shot_8"}
    assert set(found) >= HALVES


def test_contradicting_lists_are_reported_with_both_places(clips, tmp_path):
    names = ("left turn", "right turn")
    pairs = [
        write_catalog(tmp_path, [f"one.mp4 {label}"], names, stem=f"list{label}")
        for label in (0, 1)
    ]
    config = BuildConfig("x", lists=tuple((str(a), str(b)) for a, b in pairs), video_dir=str(clips))
    inputs = Inputs(config)
    assert [(p.kind, p.where) for p in inputs.problems] == [("mislabelled", f"{pairs[1][0]}:1")]
    with pytest.raises(
        UserError, match=r"list1\.txt:1: class 'right turn' here, 'left turn' in .*list0\.txt:1"
    ):
        inputs.check()


def test_one_name_for_two_given_lists_is_refused(clips, tmp_path):
    (tmp_path / "a").mkdir()
    pairs = [write_catalog(folder, ["one.mp4 0"]) for folder in (tmp_path, tmp_path / "a")]
    config = BuildConfig("x", lists=tuple((str(a), str(b)) for a, b in pairs), video_dir=str(clips))
    with pytest.raises(UserError, match=r"a list named list was read from .* already; rename one"):
        Inputs(config)


def test_plain_folders(tmp_path):
    mine = make_class_folders(tmp_path / "mine")
    inputs = Inputs(BuildConfig("x", source=str(mine)))
    assert [(p.list.name, p.list.origin) for p in inputs.placed] == [("mine", "given")]
    assert inputs.class_names == ["left_turn", "right turn", "stop", "wave #1"]
    (mine / "list.txt").write_text("left_turn/take 1.avi 1\n")
    (mine / "labels.csv").write_text("id,name\n0,a\n1,b\n")
    again = Inputs(BuildConfig("x", source=str(mine)))
    assert [(p.list.name, len(p.files)) for p in again.placed] == [("list", 1)]
    with pytest.raises(UserError, match="there is no such folder"):
        Inputs(BuildConfig("x", source=str(tmp_path / "none")))


def test_a_plain_folder_is_cut_on_request(tmp_path):
    mine = make_class_folders(tmp_path / "mine", videos_per_class=3)
    inputs = Inputs(BuildConfig("x", source=str(mine), holdout=0.25))
    assert [(p.list.name, len(p.files), p.list.origin) for p in inputs.placed] == [
        ("mine_train", 11, "own split"),
        ("mine_val", 4, "own split"),
    ]
    pair = tuple(map(str, write_catalog(tmp_path, ["a.mp4 0"])))
    with pytest.raises(UserError, match=r"`holdout=0\.25`: only a plain folder of videos is cut"):
        Inputs(BuildConfig("x", lists=(pair,), video_dir=str(mine), holdout=0.25))


def test_a_list_without_labels_is_reported(tmp_path):
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    with pytest.raises(
        UserError, match=r"list\.txt: no label file found for this list; name its id,name CSV"
    ):
        given_list(tmp_path / "list.txt")


def test_a_missing_video_that_is_nearly_there_is_named(tmp_path):
    videos = tmp_path / "videos"
    for file in ("left/Caf\xe9.mp4", "left/b.mp4"):
        (videos / file).parent.mkdir(parents=True, exist_ok=True)
        (videos / file).touch()
    lines = [
        "left/Cafe\u0301.mp4 0",
        "left\\b.mp4 0",
        f"{'x' * 300}.mp4 0",
        "left/b.mp4 0",
        f"{videos}/left/b.mp4 0",
    ]
    pair = write_catalog(tmp_path, lines)
    inputs = Inputs(BuildConfig("x", video_dir=str(videos), lists=(tuple(map(str, pair)),)))
    message, gone = (
        [(problem.where, problem.reason) for problem in inputs.problems],
        "there is no such video file",
    )
    assert message == [
        (
            f"{pair[0]}:1",
            rf"{videos}/left/Café.mp4: {gone}; was 'left/Caf\xe9.mp4' meant, which is there?",
        ),
        (f"{pair[0]}:2", f"{videos}/left\\b.mp4: {gone}; was 'left/b.mp4' meant, which is there?"),
        (f"{pair[0]}:3", f"{videos}/{'x' * 300}.mp4: {gone}"),
        (f"{pair[0]}:5", f"the same file as {pair[0]}:4"),
    ]
    assert [video.file for video in inputs.videos] == ["left/b.mp4"]


def test_classes_that_clip_reads_as_the_same_are_refused(tmp_path):
    source = make_kinetics400(tmp_path / "k400")
    with (source / "annotations/train.csv").open("a") as file:
        file.write(f'"{KINETICS400[0].upper()}  ",abcdefghijk,0,10,train,0\n')
    with pytest.raises(
        UserError,
        match=r"class \d+: class name '.*' is already at class \d+ as '.*', and CLIP reads '",
    ):
        Inputs(BuildConfig("x", dataset="kinetics400", source=str(source)))


@pytest.mark.parametrize(
    "file", ["../secret.mp4", "{above}/secret.mp4", "in/../../secret.mp4", "linked/../secret.mp4"]
)
def test_entries_that_leave_the_folder_are_refused_unless_a_flag_allows_them(tmp_path, file):
    (tmp_path / "v/in").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    for place in ("secret.mp4", "v/in/a.mp4", "far/b.mp4"):
        (tmp_path / place).write_bytes(b"x")
    (tmp_path / "v/linked").symlink_to(tmp_path / "far")
    # a link in the folder is followed: the maker of the folder made it
    lines = ["in/a.mp4 0", "linked/b.mp4 0", f"{file.format(above=tmp_path)} 1"]
    pair = tuple(map(str, write_catalog(tmp_path, lines)))
    inputs = Inputs(BuildConfig("x", lists=(pair,), video_dir=str(tmp_path / "v"), on_error="skip"))
    with pytest.raises(
        UserError, match=r"list\.txt:3: '.*secret\.mp4' lies outside .*/v; `allow_outside` takes it"
    ):
        inputs.check()
    assert [video.file for video in inputs.videos if "secret" in video.file] == []
    inputs = Inputs(
        BuildConfig("x", lists=(pair,), video_dir=str(tmp_path / "v"), allow_outside=True)
    )
    inputs.check()
    assert len(inputs.videos) == 3
