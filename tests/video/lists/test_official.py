"""Official downloads: what their lists hold, where they may lie, and one line for each thing that
can be wrong.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from support import layouts
from support.lists import fails, write
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.lists.locate import VideoIndex
from vtd_jax.video.lists.official import official_lists

SPLITS = ["train1", "val1", "train2", "val2", "train3", "val3"]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> dict[str, Path]:
    return {
        name: make(tmp_path_factory.mktemp(name.replace(" ", "_")), **options)
        for name, (make, options) in layouts.OFFICIAL.items()
    }


def counts(listed) -> list[int]:
    found = Counter(entry.label for entry in listed.entries)
    return [found[label] for label in range(len(listed.class_names))]


@pytest.mark.parametrize("layout", layouts.OFFICIAL)
def test_every_listed_video_of_a_download_is_found(downloads, layout):
    source = downloads[layout]
    index = VideoIndex(source)
    lists = official_lists(layout.split()[0], source)
    train, val = lists[:2]
    assert counts(train) == [3, 2, 4, 2, 5]
    assert counts(val) == [2, 2, 2, 2, 2]
    for listed in lists:
        assert listed.origin == "official"
        assert counts(listed) in ([3, 2, 4, 2, 5], [2, 2, 2, 2, 2])
        files = [index.find(entry.file) for entry in listed.entries]
        assert None not in files
        assert len(set(files)) == len(files)
    assert not {entry.file for entry in train.entries} & {entry.file for entry in val.entries}


def test_hmdb51(downloads):
    lists = official_lists("hmdb51", downloads["hmdb51"])
    assert [listed.name for listed in lists] == SPLITS
    assert all(
        x.class_names == ("brush hair", "climb", "climb stairs", "kick ball", "kick") for x in lists
    )
    # roles of the first class: train × 3, test × 2, unused; split 1 starts one further on
    lines = ["#437_How_To_{}_u_cm_np1_fr_med_0", "50_FIRST_DATES_{}_f_cm_np1_fr_med_1"]
    files = [f"brush_hair/{line.format('brush_hair')}.avi" for line in lines]
    assert lists[0].entries[:2] == (Entry(files[0], 0, 1), Entry(files[1], 0, 2))
    assert lists[1].entries[0] == Entry(
        "brush_hair/THE_PROTECTOR_[2];_part_(1)_brush_hair_h_cm_np2_le_bad_2.avi", 0, 3
    )
    assert (
        lists[1].entries[1].file
        == "brush_hair/a  b & c's, 100% + brush_hair=x_u_nm_np1_ri_goo_3.avi"
    )
    assert {e.file for e in lists[0].entries} != {e.file for e in lists[2].entries}
    assert lists[0].source == str(
        downloads["hmdb51"] / "testTrainMulti_7030_splits/*_test_split1.txt"
    )


def test_ucf101(downloads):
    lists = official_lists("ucf101", downloads["ucf101"])
    assert [listed.name for listed in lists] == SPLITS
    names = (
        "ApplyEyeMakeup",
        "BoxingPunchingBag",
        "HandstandPushups",
        "HandstandWalking",
        "Typing",
    )
    assert all(listed.class_names == names for listed in lists)
    assert lists[0].entries[:2] == (
        Entry("ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01.avi", 0, 1),
        Entry("ApplyEyeMakeup/v_ApplyEyeMakeup_g03_c01.avi", 0, 2),
    )
    pushups = [entry for entry in lists[1].entries if entry.label == 2]
    assert [entry.file[:42] for entry in pushups] == [
        "HandstandPushups/v_HandStandPushups_g01_c0"[:42]
    ] + ["HandstandPushups/v_HandStandPushups_g06_c0"[:42]]


def test_the_case_of_a_class_folder_does_not_count(tmp_path):
    write(tmp_path / "classInd.txt", "1 HandstandPushups\n2 YoYo\n")
    for split in "123":
        write(tmp_path / f"trainlist0{split}.txt", "HandStandPushups/v_a.avi 1\nYoYo/v_b.avi 2\n")
        write(tmp_path / f"testlist0{split}.txt", "YoYo/v_c.avi\n")
    lists = official_lists("ucf101", tmp_path)
    assert lists[0].entries == (
        Entry("HandStandPushups/v_a.avi", 0, 1),
        Entry("YoYo/v_b.avi", 1, 2),
    )
    assert lists[1].entries == (Entry("YoYo/v_c.avi", 1, 1),)


@pytest.mark.parametrize("layout", ["ssv2", "ssv2 older"])
def test_ssv2(downloads, layout):
    train, validation = official_lists("ssv2", downloads[layout])
    assert (train.name, validation.name) == ("train", "validation")
    assert train.class_names == (
        "Holding something next to something",
        "Poking a hole into some substance",
        "Putting something that can't roll onto a slanted surface, so it slides down",
        "Putting number of something onto something",
        "Something falling like a rock",
    )
    assert validation.entries[:3] == (
        Entry("100.webm", 0, 0),
        Entry("191.webm", 0, 0),
        Entry("555.webm", 1, 0),
    )


def test_ssv2_names_that_differ_by_signs_only(tmp_path):
    names = {"Moving [part] of something": "1", 'Pretending to "do" it': 0}
    write(tmp_path / "labels.json", json.dumps(names))
    rows = [
        {"id": 5, "template": "moving [part] of  [something]"},
        {"id": "6", "template": "Pretending to do it"},
    ]
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.json", json.dumps(rows))
    train, _ = official_lists("ssv2", tmp_path)
    assert train.class_names == ('Pretending to "do" it', "Moving part of something")
    assert train.entries == (Entry("5.webm", 1, 0), Entry("6.webm", 0, 0))


def test_kinetics400(downloads):
    train, val = official_lists("kinetics400", downloads["kinetics400"])
    assert (train.name, val.name) == ("train", "val")
    assert val.class_names == (
        "abseiling",
        "air drumming",
        "passing American football (in game)",
        "passing American football (not in game)",
        "shuffling cards",
    )
    assert val.entries[:2] == (
        Entry("val/-aB_2lodo00_000000_000010.mp4", 0, 2),
        Entry("val/-aB_2lodo01_000007_000017.mp4", 0, 3),
    )
    assert train.entries[0] == Entry("train/-aB_2lodo02_000014_000024.mp4", 0, 2)


def test_kinetics400_folders_and_their_csv(downloads, tmp_path):
    train, val = official_lists("kinetics400", downloads["kinetics400 folders"])
    assert train.class_names[2] == "passing American football (in game)"
    assert val.entries[2] == Entry("val/air_drumming/-bB_2lodo00_000000_000010.mp4", 1, 0)
    both = shutil.copytree(downloads["kinetics400 folders"], tmp_path / "both")
    write(
        both / "kinetics400/train.csv",
        "label,youtube_id,time_start,time_end,split\nabseiling,-aB_2lodo02,14,24,train\n",
    )
    write(
        both / "kinetics400/validate.csv",
        "label,youtube_id,time_start,time_end\nabseiling,-aB_2lodo01,7.0,17.0\n",
    )
    train, val = official_lists("kinetics400", both)
    assert (len(train.entries), val.class_names) == (1, ("abseiling",))
    assert (
        VideoIndex(both).find(train.entries[0].file)
        == "train/abseiling/-aB_2lodo02_000014_000024.mp4"
    )
    assert (
        VideoIndex(both).find(val.entries[0].file) == "val/abseiling/-aB_2lodo01_000007_000017.mp4"
    )


def test_kinetics400_folders_of_other_names(tmp_path):
    for file in (
        "k/train_256/zumba/a.mkv",
        "k/val_256/air_drumming/b.mkv",
        "k/val_256/more/train/c.mkv",
    ):
        write(tmp_path / file, "")
    train, val = official_lists("kinetics400", tmp_path)
    assert train.class_names == ("air drumming", "more", "zumba")
    assert train.entries == (Entry("k/train_256/zumba/a.mkv", 2, 0),)
    assert val.entries == (
        Entry("k/val_256/air_drumming/b.mkv", 0, 0),
        Entry("k/val_256/more/train/c.mkv", 1, 0),
    )
    write(tmp_path / "other/train/zumba/d.mp4", "")
    assert "k/train_256, other/train look the same" in fails("kinetics400", tmp_path)


@pytest.mark.parametrize(
    ("layout", "inner"),
    [("hmdb51", "testTrainMulti_7030_splits"), ("ucf101", "ucfTrainTestlist"), ("ssv2", "labels")],
)
def test_annotations_are_found_from_above_and_from_inside(downloads, layout, inner, tmp_path):
    source = downloads[layout]
    expected = [listed.entries for listed in official_lists(layout, source)]
    assert [listed.entries for listed in official_lists(layout, source / inner)] == expected
    shutil.copytree(source / inner, tmp_path / "a/b" / inner)
    assert [listed.entries for listed in official_lists(layout, tmp_path)] == expected
    # a deeper copy does not count, one beside it is refused
    shutil.copytree(source / inner, tmp_path / "a/b/c" / inner)
    assert [listed.entries for listed in official_lists(layout, tmp_path)] == expected
    shutil.copytree(source / inner, tmp_path / "a/d" / inner)
    message = fails(layout, tmp_path)
    assert f"{tmp_path}/a/b/{inner}, {tmp_path}/a/d/{inner}" in message
    assert message.endswith("point `source` at one of them")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (
            "hmdb51",
            (
                "CLASS_test_split1.txt files in it or below; unpack testTrainMulti_7030_splits "
                "from HMDB-51's"
            ),
        ),
        (
            "ucf101",
            (
                "classInd.txt with trainlist01.txt in it or below; unpack ucfTrainTestlist from "
                "UCF-101's"
            ),
        ),
        ("ssv2", "labels.json, train.json and validation.json"),
        (
            "kinetics400",
            "neither train.csv and val.csv nor train/CLASS/ and val/CLASS/ with videos",
        ),
    ],
)
def test_nothing_found(tmp_path, dataset, words):
    write(tmp_path / "labels.json", "{}")
    message = fails(dataset, tmp_path)
    assert message.startswith(f"{tmp_path}: found n")
    assert words in message
    assert "there is no such folder" in fails(dataset, tmp_path / "none")


def test_unknown_data_set(tmp_path):
    assert "there are official lists of hmdb51, ucf101, ssv2, kinetics400" in fails(
        "imagenet", tmp_path
    )
