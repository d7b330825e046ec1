"""Official downloads against the published lists: same class ids, names and validation videos."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vtd_jax.video.lists.catalog import read_labels, read_list
from vtd_jax.video.lists.official import official_lists

pytestmark = [pytest.mark.slow, pytest.mark.shared]


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def real(shared_dir):
    """Reads a published list and the names of its classes."""

    def read(listed: str, labels: str):
        found = read_labels(shared_dir / "splits/labels" / f"{labels}.csv")
        entries = read_list(shared_dir / "splits/datasets_splits" / f"{listed}.txt", found)
        return entries, found.names

    return read


def test_hmdb51_ids_names_and_lists_are_the_published_ones(real, tmp_path):
    for split in "123":
        entries, names = real(f"hmdb_splits/val{split}", "hmdb_51_labels")
        lines = {name: [f"train_{name}_{i}.avi 1 \n" for i in range(70)] for name in names}
        for entry in entries:
            lines[names[entry.label]].append(f"{entry.file} 2 \n")
        for name, found in lines.items():
            write(tmp_path / f"{name.replace(' ', '_')}_test_split{split}.txt", "".join(found))
    lists = {listed.name: listed for listed in official_lists("hmdb51", tmp_path)}
    assert lists["train1"].class_names == names
    assert Counter(entry.label for entry in lists["train1"].entries) == dict.fromkeys(range(51), 70)
    for split in "123":
        entries, _ = real(f"hmdb_splits/val{split}", "hmdb_51_labels")
        ours = [
            (entry.file.split("/", 1)[1], entry.label) for entry in lists[f"val{split}"].entries
        ]
        assert (len(ours), ours) == (
            1530,
            sorted(((e.file, e.label) for e in entries), key=lambda e: e[1]),
        )


def test_ucf101_names_and_lists_are_the_published_ones(real, tmp_path):
    _, names = real("ucf_splits/val1", "ucf_101_labels")
    write(
        tmp_path / "classInd.txt", "".join(f"{i} {name}\n" for i, name in enumerate(names, start=1))
    )
    for split, videos in (("1", 3783), ("2", 3734), ("3", 3696)):
        entries, _ = real(f"ucf_splits/val{split}", "ucf_101_labels")
        write(
            tmp_path / f"testlist0{split}.txt",
            "".join(f"{names[e.label]}/{e.file}\n" for e in entries),
        )
        write(tmp_path / f"trainlist0{split}.txt", "YoYo/v_YoYo_g08_c01.avi 101\n")
        assert len(entries) == videos
    lists = {listed.name: listed for listed in official_lists("ucf101", tmp_path)}
    assert lists["val1"].class_names == names
    assert lists["train2"].entries[0].label == 100
    for split in "123":
        entries, _ = real(f"ucf_splits/val{split}", "ucf_101_labels")
        ours = [
            (entry.file.split("/", 1)[1], entry.label) for entry in lists[f"val{split}"].entries
        ]
        assert ours == [(entry.file, entry.label) for entry in entries]


def test_ssv2_names_and_list_are_the_published_ones(real, tmp_path):
    entries, names = real("ssv2_splits/validation", "ssv2_labels")
    write(tmp_path / "labels.json", json.dumps({name: str(i) for i, name in enumerate(names)}))
    bracketed = [
        name.replace("something", "[something]").replace("Something", "[Something]")
        for name in names
    ]
    rows = [{"id": entry.file[:-5], "template": bracketed[entry.label]} for entry in entries]
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.json", json.dumps(rows))
    _, validation = official_lists("ssv2", tmp_path)
    assert validation.class_names == names
    assert len(validation.entries) == 24777
    assert [(e.file, e.label) for e in validation.entries] == [(e.file, e.label) for e in entries]


def test_kinetics400_ids_names_and_list_are_the_published_ones(real, tmp_path):
    entries, names = real("k400_splits/val", "kinetics_400_labels")
    rows = []
    for entry in entries:
        video, start, end = entry.file.removeprefix("val/").removesuffix(".mp4").rsplit("_", 2)
        rows.append(f'"{names[entry.label]}",{video},{int(start)},{int(end)},validate,0\n')
    write(
        tmp_path / "val.csv", "label,youtube_id,time_start,time_end,split,is_cc\n" + "".join(rows)
    )
    (val,) = official_lists("kinetics400", tmp_path)
    assert val.class_names == names
    assert len(val.entries) == 19877
    assert [(e.file, e.label) for e in val.entries] == [(e.file, e.label) for e in entries]
