"""Lists and label files: what is read, and one line for each thing that can be wrong."""

from pathlib import Path

import pytest

from vtd_jax.errors import UserError
from vtd_jax.video.lists.catalog import (
    Entry,
    LabelSet,
    file_key,
    read_labels,
    read_list,
    select_shots,
)

LABELS = LabelSet(("pour", "brush hair", "wave"), (0, 1, 2), "labels.csv")

# list, label file, videos, classes: the counts of benchmarks.md and of the lists themselves
SPLITS = [
    ("base2novel_splits/hmdb_splits/base_train", "hmdb_51_base_labels", 1820, 26),
    ("base2novel_splits/hmdb_splits/base_val", "hmdb_51_base_labels", 780, 26),
    ("base2novel_splits/hmdb_splits/novel_val", "hmdb_51_novel_labels", 750, 25),
    ("base2novel_splits/hmdb_splits/fs_base_s1_train", "hmdb_51_base_labels", 416, 26),
    ("base2novel_splits/hmdb_splits/fs_base_s2_train", "hmdb_51_base_labels", 416, 26),
    ("base2novel_splits/hmdb_splits/fs_base_s3_train", "hmdb_51_base_labels", 416, 26),
    ("base2novel_splits/ucf_splits/base_train", "ucf_101_base_labels", 5385, 51),
    ("base2novel_splits/ucf_splits/base_val", "ucf_101_base_labels", 2088, 51),
    ("base2novel_splits/ucf_splits/novel_val", "ucf_101_novel_labels", 1695, 50),
    ("base2novel_splits/ucf_splits/fs_base_s1_train", "ucf_101_base_labels", 816, 51),
    ("base2novel_splits/ucf_splits/fs_base_s2_train", "ucf_101_base_labels", 816, 51),
    ("base2novel_splits/ucf_splits/fs_base_s3_train", "ucf_101_base_labels", 816, 51),
    ("base2novel_splits/ssv2_splits/base_train", "ssv2_174_base_labels", 125937, 87),
    ("base2novel_splits/ssv2_splits/base_val", "ssv2_174_base_labels", 17562, 87),
    ("base2novel_splits/ssv2_splits/novel_val", "ssv2_174_novel_labels", 7215, 87),
    ("base2novel_splits/ssv2_splits/fs_base_s1_train", "ssv2_174_base_labels", 1392, 87),
    ("base2novel_splits/ssv2_splits/fs_base_s2_train", "ssv2_174_base_labels", 1392, 87),
    ("base2novel_splits/ssv2_splits/fs_base_s3_train", "ssv2_174_base_labels", 1392, 87),
    ("base2novel_splits/k400_splits/base_val", "kinetics_400_base_labels", 9944, 200),
    ("base2novel_splits/k400_splits/novel_val", "kinetics_400_novel_labels", 9933, 200),
    ("base2novel_splits/k400_splits/fs_base_s1_train", "kinetics_400_base_labels", 3200, 200),
    ("base2novel_splits/k400_splits/fs_base_s2_train", "kinetics_400_base_labels", 3200, 200),
    ("base2novel_splits/k400_splits/fs_base_s3_train", "kinetics_400_base_labels", 3200, 200),
    ("hmdb_splits/val1", "hmdb_51_labels", 1530, 51),
    ("hmdb_splits/val2", "hmdb_51_labels", 1530, 51),
    ("hmdb_splits/val3", "hmdb_51_labels", 1530, 51),
    ("hmdb_splits/train1_few_shot_2", "hmdb_51_labels", 102, 51),
    ("hmdb_splits/train1_few_shot_4", "hmdb_51_labels", 204, 51),
    ("hmdb_splits/train1_few_shot_8", "hmdb_51_labels", 408, 51),
    ("hmdb_splits/train1_few_shot_16", "hmdb_51_labels", 816, 51),
    ("ucf_splits/val1", "ucf_101_labels", 3783, 101),
    ("ucf_splits/val2", "ucf_101_labels", 3734, 101),
    ("ucf_splits/val3", "ucf_101_labels", 3696, 101),
    ("ucf_splits/train1_few_shot_2", "ucf_101_labels", 202, 101),
    ("ucf_splits/train1_few_shot_4", "ucf_101_labels", 404, 101),
    ("ucf_splits/train1_few_shot_8", "ucf_101_labels", 808, 101),
    ("ucf_splits/train1_few_shot_16", "ucf_101_labels", 1616, 101),
    ("ssv2_splits/validation", "ssv2_labels", 24777, 174),
    ("ssv2_splits/train1_few_shot_2", "ssv2_labels", 348, 174),
    ("ssv2_splits/train1_few_shot_4", "ssv2_labels", 696, 174),
    ("ssv2_splits/train1_few_shot_8", "ssv2_labels", 1392, 174),
    ("ssv2_splits/train1_few_shot_16", "ssv2_labels", 2784, 174),
    ("k400_splits/val", "kinetics_400_labels", 19877, 400),
    ("k600_splits/ZS_split1_K600_eval", "ZS_split1_K600", 14084, 160),
    ("k600_splits/ZS_split2_K600_eval", "ZS_split2_K600", 13978, 160),
    ("k600_splits/ZS_split3_K600_eval", "ZS_split3_K600", 14136, 160),
]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("listed", "labels", "videos", "classes"), SPLITS)
def test_every_interchange_list_reads(shared_dir, listed, labels, videos, classes):
    found = read_labels(shared_dir / "splits/labels" / f"{labels}.csv")
    entries = read_list(shared_dir / "splits/datasets_splits" / f"{listed}.txt", found)
    assert (len(entries), len(found.names)) == (videos, classes)
    assert {entry.label for entry in entries} == set(range(classes))


@pytest.mark.shared
def test_no_list_or_label_file_is_left_out(shared_dir):
    lists = {
        str(p.relative_to(shared_dir / "splits/datasets_splits"))[:-4]
        for p in shared_dir.rglob("splits/**/*.txt")
    }
    assert lists == {name for name, *_ in SPLITS}
    for path in (shared_dir / "splits/labels").glob("*.csv"):
        assert len(read_labels(path).names) == len(path.read_text().splitlines()) - 1


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_label_file_with_quotes_bom_crlf_and_gaps(tmp_path):
    text = '\ufeffid,name\r\n7,"Pushing [something], hard"\r\n\r\n2,brush hair\r\n'
    labels = read_labels(write(tmp_path / "l.csv", text))
    assert labels.names == ("brush hair", "Pushing [something], hard")
    assert labels.ids == (2, 7)
    assert (labels.index(2), labels.index(7)) == (0, 1)


def test_label_file_without_header(tmp_path):
    assert read_labels(write(tmp_path / "l.csv", "0,a\n1,b\n")).names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("id,name\n0,a\n0,b\n", 3, "class id 0 is already on line 2"),
        (
            "id,name\n0,brush hair\n1,Brush_hair\n",
            3,
            "class name 'Brush_hair' is already on line 2",
        ),
        ("id,name\n0,wave\n1,wave\n", 3, "class name 'wave' is already on line 2"),
        ("id,name\n0,a\n1,\n", 3, "class 1 has an empty name"),
        ("id,name\n0,a\nx,b\n", 3, "class id 'x' is not a whole number"),
        ("id,name\n-1,a\n", 2, "class id '-1' is not a whole number"),
        ("id,name\n0,a, b\n", 2, "put quotes around a name"),
        ("id,name\n0\n", 2, "add the missing field"),
        ("0,a\nid,name\n", 2, "class id 'id' is not a whole number"),
    ],
)
def test_label_file_errors_name_the_line(tmp_path, text, line, words):
    path = write(tmp_path / "l.csv", text)
    with pytest.raises(UserError) as error:
        read_labels(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "id,name\n", "\n\n"])
def test_zero_classes(tmp_path, text):
    with pytest.raises(UserError, match="no classes"):
        read_labels(write(tmp_path / "l.csv", text))


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="no such label file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no such list of videos"):
        read_list(tmp_path / "none.txt", LABELS)
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9.mp4 0\n")
    with pytest.raises(UserError, match="byte 3 is not UTF-8"):
        read_list(path, LABELS)


def test_list_keeps_order_lines_blanks_and_hashes(tmp_path):
    path = write(tmp_path / "l.txt", "sub/b.avi 2\r\n\n#1_take two.avi   0  \n  a.mp4\t1\n")
    assert read_list(path, LABELS) == [
        Entry("sub/b.avi", 2, 1),
        Entry("#1_take two.avi", 0, 3),
        Entry("a.mp4", 1, 4),
    ]


def test_list_maps_ids_to_positions(tmp_path):
    labels = LabelSet(("a", "b"), (10, 20))
    assert [
        e.label for e in read_list(write(tmp_path / "l.txt", "x.mp4 20\ny.mp4 10\n"), labels)
    ] == [1, 0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a.mp4 0\nb.mp4\n", 2, "expected 'file class_id', found 'b.mp4'"),
        ("a.mp4 0\n3\n", 2, "expected 'file class_id', found '3'"),
        ("a.mp4 zero\n", 1, "expected 'file class_id'"),
        ("a.mp4 1.5\n", 1, "expected 'file class_id'"),
        ("a.mp4 -1\n", 1, "expected 'file class_id'"),
        ("# a remark\n", 1, "expected 'file class_id'"),
        ("x.avi 0 1\n", 1, "expected 'file class_id', found more than one number in 'x.avi 0 1'"),
        ("a.mp4 0\nmy clip.MP4\t12 1\n", 2, "found more than one number in 'my clip.MP4\\t12 1'"),
        ("x.avi 0, 1\n", 1, "found more than one number in 'x.avi 0, 1'"),
        ("x.avi -1 1\n", 1, "found more than one number"),
        ("x.avi 0.5 10.2 1\n", 1, "found more than one number"),
        ("'x.avi' 0 1\n", 1, "found more than one number"),
        ("x.avi, 1\n", 1, "expected 'file class_id', found ',' in 'x.avi, 1'"),
        ("x.avi,1\n", 1, "expected 'file class_id', found 'x.avi,1'"),
        ("x.avi 0,1\n", 1, "expected 'file class_id', found 'x.avi 0,1'"),
        ("x.avi \u0661\n", 1, "expected 'file class_id'"),
        ("x.avi " + "9" * 5000, 1, "expected 'file class_id'"),
        ("video label\nx.avi 0\n", 1, "expected 'file class_id', found 'video label'"),
        ("a.mp4 0\n./a.mp4 0\n", 2, "'./a.mp4' is already on line 1"),
        ("s/a.mp4 0\ns//b/../a.mp4 1\n", 2, "'s//b/../a.mp4' is already on line 1"),
        (
            "a.mp4 0\nb.mp4 3\n",
            2,
            "class id 3 of 'b.mp4' is not in labels.csv, which has 3 ids from 0 to 2",
        ),
        ("a.mp4 0\nb.mp4 1\na.mp4 0\n", 3, "'a.mp4' is already on line 1"),
        ("a.mp4 0\na.mp4 1\n", 2, "'a.mp4' is already on line 1"),
    ],
)
def test_list_errors_name_the_line(tmp_path, text, line, words):
    path = write(tmp_path / "l.txt", text)
    with pytest.raises(UserError) as error:
        read_list(path, LABELS)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)


def test_names_of_videos_may_end_in_numbers_or_hold_endings(tmp_path):
    files = ["take 2", "my.mp4 copy 2.avi", "v1.mov.mp4", "a.mp4.2", "clip 3.webm", "dir.avi 1/x"]
    path = write(tmp_path / "l.txt", "".join(f"{file} 1\n" for file in files))
    assert read_list(path, LABELS) == [
        Entry(file, 1, line) for line, file in enumerate(files, start=1)
    ]


def test_a_file_of_nearly_the_name_is_reported(tmp_path):
    write(tmp_path / "Labels.csv", "0,a\n")
    with pytest.raises(
        UserError, match=r"labels\.csv: there is no such label file; was '.*Labels\.csv' meant\?"
    ):
        read_labels(tmp_path / "labels.csv")


def test_empty_list(tmp_path):
    with pytest.raises(UserError, match="the list is empty"):
        read_list(write(tmp_path / "l.txt", "\n \n"), LABELS)


def test_shots_are_fixed_by_seed_and_name():
    entries = [Entry(f"{i}.mp4", i % 3, i + 1) for i in range(30)]
    chosen = select_shots(entries, 4, seed=1)
    assert [sum(e.label == k for e in chosen) for k in range(3)] == [4, 4, 4]
    assert set(select_shots(entries[::-1], 4, seed=1)) == set(chosen)
    assert set(select_shots(entries, 4, seed=2)) != set(chosen)
    assert [e.line for e in chosen] == sorted(e.line for e in chosen)
    assert file_key("0.mp4", 1) != file_key("0.mp4", 2)


def test_fewer_shots_are_among_more_shots():
    entries = [Entry(f"{i}.mp4", i % 3, i + 1) for i in range(30)]
    drawn = [set(select_shots(entries, shots, seed=5)) for shots in (1, 2, 4, 8)]
    assert [len(chosen) for chosen in drawn] == [3, 6, 12, 24]
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3]


def test_small_classes_may_give_all_they_have():
    entries = [Entry("a", 0, 1), Entry("b", 1, 2), Entry("c", 1, 3), Entry("d", 1, 4)]
    chosen = select_shots(entries, 2, seed=0)
    assert [e.label for e in chosen] == [0, 1, 1]


def test_shots_errors():
    with pytest.raises(UserError, match="shots=0"):
        select_shots([Entry("a", 0, 1)], 0, seed=0)
