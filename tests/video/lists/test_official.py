"""Official downloads: what their lists hold, where they may lie, and one line for each thing that
can be wrong.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from support import layouts
from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import Entry
from vtd_jax.video.lists.locate import VideoIndex
from vtd_jax.video.lists.official import official_lists

SPLITS = ["train1", "val1", "train2", "val2", "train3", "val3"]
LAYOUTS = {
    "hmdb51": (layouts.make_hmdb51, {}),
    "ucf101": (layouts.make_ucf101, {}),
    "ssv2": (layouts.make_ssv2, {}),
    "ssv2 older": (layouts.make_ssv2, {"naming": "v2"}),
    "kinetics400": (layouts.make_kinetics400, {}),
    "kinetics400 folders": (layouts.make_kinetics400, {"naming": "class_folders"}),
}


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> dict[str, Path]:
    return {
        name: make(tmp_path_factory.mktemp(name.replace(" ", "_")), **options)
        for name, (make, options) in LAYOUTS.items()
    }


def counts(listed) -> list[int]:
    found = Counter(entry.label for entry in listed.entries)
    return [found[label] for label in range(len(listed.class_names))]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def fails(dataset: str, source: Path) -> str:
    with pytest.raises(UserError) as error:
        official_lists(dataset, source)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
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
    assert "k/train_256, other/train look alike" in fails("kinetics400", tmp_path)


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
                "CLASS_test_split1.txt files in it or below; unpack testTrainMulti_7030_splits from "
                "HMDB-51's"
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


@pytest.mark.parametrize(
    ("layout", "file", "text", "place", "words"),
    [
        (
            "hmdb51",
            "t/kick_test_split1.txt",
            "a.avi 1\n\nb.avi 3\n",
            ":3",
            "expected 'NAME.avi 0', 1 or 2",
        ),
        (
            "hmdb51",
            "t/kick_test_split2.txt",
            "a.avi\n",
            ":1",
            "expected 'NAME.avi 0', 1 or 2, found 'a.avi'",
        ),
        (
            "hmdb51",
            "t/kick_test_split2.txt",
            "a.avi 1 2\n",
            ":1",
            "expected 'NAME.avi 0', 1 or 2, found 'a.avi 1 2'",
        ),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 2 1\n",
            ":1",
            "expected 'Class/file.avi id', found",
        ),
        (
            "ucf101",
            "t/testlist02.txt",
            "YoYo/a.avi 1, 1\n",
            ":1",
            "expected 'Class/file.avi', found",
        ),
        ("ucf101", "t/classInd.txt", f"{'9' * 400} YoYo\n", ":1", "expected 'id Class', found"),
        (
            "ssv2",
            "t/labels.json",
            f'{{"Holding something": "{"9" * 5000}"}}',
            "",
            "expected a whole number",
        ),
        ("ssv2", "t/train.json", "[" * 100_000, "", "brackets nested too deep"),
        (
            "hmdb51",
            "t/kick_test_split3.txt",
            "a.avi 1\na.avi 2\na.avi 1\n",
            ":3",
            "'kick/a.avi' is already at",
        ),
        ("hmdb51", "t/kick_test_split3.txt", "\n", "", "the HMDB-51 split is empty"),
        ("hmdb51", "t/new_test_split1.txt", "a.avi 1\n", "", "there is no such HMDB-51 split"),
        (
            "ucf101",
            "t/classInd.txt",
            "1 YoYo\nTyping 2\n",
            ":2",
            "expected 'id Class', found 'Typing 2'",
        ),
        ("ucf101", "t/classInd.txt", "1 YoYo\n1 Typing\n", ":2", "repeats an id or a class"),
        ("ucf101", "t/classInd.txt", "1 YoYo\n2 Yoyo\n", ":2", "repeats an id or a class"),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 1\nYoYo/b.avi\n",
            ":2",
            "expected 'Class/file.avi id'",
        ),
        ("ucf101", "t/trainlist02.txt", "a.avi 1\n", ":1", "expected 'Class/file.avi id'"),
        (
            "ucf101",
            "t/trainlist02.txt",
            "YoYo/a.avi 2\n",
            ":1",
            "id 2 is 'Typing' in classInd.txt, the folder 'YoYo'",
        ),
        (
            "ucf101",
            "t/testlist03.txt",
            "Fencing/a.avi\n",
            ":1",
            "class 'Fencing' is not in classInd.txt",
        ),
        (
            "ucf101",
            "t/testlist03.txt",
            "YoYo/a.avi\nYoYo/a.avi\n",
            ":2",
            "'YoYo/a.avi' is already at",
        ),
        ("ssv2", "t/train.json", "[\n{]", "", "not JSON (line 2, column 2"),
        ("ssv2", "t/train.json", "{}", "", "expected array, got object; expected a list of videos"),
        ("ssv2", "t/train.json", "[]", "", "it lists no videos"),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "1"}]',
            ": entry 1",
            "expected an object with id and template",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "../1", "template": "A [b]"}]',
            ": entry 1",
            "id '../1' is not a number",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "8", "template": "No [b]"}]',
            ": entry 1",
            "video 8 has template 'No [b]'",
        ),
        (
            "ssv2",
            "t/train.json",
            '[{"id": "8", "template": "A [b]"}, {"id": "8", "template": "A [b]"}]',
            ": entry 2",
            "'8.webm' is already at",
        ),
        ("ssv2", "t/labels.json", '{"A b": "x"}', "", "the id of 'A b' is 'x'"),
        (
            "ssv2",
            "t/labels.json",
            '{"A b": "0", "A [b]": "1"}',
            "",
            "'A [b]' and 'A b' share an id or a name",
        ),
        (
            "ssv2",
            "t/labels.json",
            '{"A b": "0", "C": "0"}',
            "",
            "'C' and 'A b' share an id or a name",
        ),
        ("ssv2", "t/labels.json", "{}", "", "no classes"),
        (
            "kinetics400",
            "t/val.csv",
            "a.mp4 0\n",
            ":1",
            "expected the header label,youtube_id,time_start,time_end",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,1\n",
            ":2",
            "expected label,youtube_id,time_start,time_end, found",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,1,x\n",
            ":2",
            "expected times in seconds, found '1' and 'x'",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}zumba,abc,-1,9\n",
            ":2",
            "expected times in seconds, found '-1' and '9'",
        ),
        (
            "kinetics400",
            "t/val.csv",
            "{H}\nzumba,a/c,1,9\n",
            ":3",
            "youtube_id 'a/c' is no id of a video",
        ),
        ("kinetics400", "t/val.csv", "{H},abc,1,9\n", ":2", "the label is empty"),
        (
            "kinetics400",
            "t/val.csv",
            "{H}yoga,a,1,9\nyoga,a,1,9\n",
            ":3",
            "'val/a_000001_000009.mp4' is already at",
        ),
        ("kinetics400", "t/val.csv", "{H}", "", "it lists no videos"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, layout, file, text, place, words):
    """One file of a whole, tiny set of annotations is replaced by a broken one."""
    header = "label,youtube_id,time_start,time_end\n"
    whole = {
        "hmdb51": {f"kick_test_split{i}.txt": "x.avi 1\ny.avi 2\n" for i in "123"},
        "ucf101": {"classInd.txt": "1 YoYo\n2 Typing\n"}
        | {f"trainlist0{i}.txt": "YoYo/x.avi 1\n" for i in "123"}
        | {f"testlist0{i}.txt": "YoYo/y.avi\n" for i in "123"},
        "ssv2": {"labels.json": '{"A b": "0"}'}
        | {
            f"{split}.json": '[{"id": "1", "template": "A [b]"}]'
            for split in ("train", "validation")
        },
        "kinetics400": {"train.csv": header + "zumba,x,0,10\n"},
    }[layout]
    for name, content in whole.items():
        write(tmp_path / "t" / name, content)
    assert official_lists(layout, tmp_path)
    path = write(tmp_path / file, text.replace("{H}", header))
    message = fails(layout, tmp_path)
    if "new_test" in file:
        path = path.with_name("new_test_split2.txt")
    assert message.startswith(f"{path}{place}: ")
    assert words in message
