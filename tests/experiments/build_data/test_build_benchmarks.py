"""Every official layout from the download to batches, through our command and through TFDS's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import layouts
from vtd_jax.video.pipeline import eval_batches
from vtd_jax.video.records import open_records, record_names

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[3]
HALVES = {
    "base_train",
    "base_val",
    "novel_val",
    "fs_base_s1_train",
    "fs_base_s2_train",
    "fs_base_s3_train",
}
SHOTS = {f"train1_few_shot_{n}" for n in (2, 4, 8, 16)}
SPLITS = {f"{kind}{i}" for kind in ("train", "val") for i in (1, 2, 3)}
# layout -> data set, lists, videos in (first training list, first validation list)
LAYOUTS = {
    "hmdb51": ("hmdb51", SPLITS | HALVES | SHOTS, ("train1", "val1")),
    "ucf101": ("ucf101", SPLITS | HALVES | SHOTS, ("train1", "val1")),
    "ssv2": ("ssv2", {"train", "validation"} | HALVES | SHOTS, ("train", "validation")),
    "kinetics400": ("kinetics400", {"train", "val"} | HALVES, ("train", "val")),
    "kinetics400 in class folders": ("kinetics400", {"train", "val"} | HALVES, ("train", "val")),
}
MAKE = {
    "hmdb51": layouts.make_hmdb51,
    "ucf101": layouts.make_ucf101,
    "ssv2": layouts.make_ssv2,
    "kinetics400": layouts.make_kinetics400,
    "kinetics400 in class folders": lambda folder: layouts.make_kinetics400(
        folder, naming="class_folders"
    ),
}


def run(module: str, *arguments) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_download_becomes_records_with_every_list(layout, tmp_path):
    dataset, names, (train, val) = LAYOUTS[layout]
    source, out = MAKE[layout](tmp_path / "download"), tmp_path / "records"
    checked = run("build_data", f"--dataset={dataset}", f"--source={source}", "--check_only")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = run("build_data", f"--dataset={dataset}", f"--source={source}", f"--data_dir={out}")
    assert done.returncode == 0, done.stderr
    assert set(record_names(out / dataset)) == names
    assert f"own split lists: {'base_train (12)'}" in done.stderr
    learn, evaluate = open_records(out / dataset, train), open_records(out / dataset, val)
    # 3, 2, 4, 2, 5 training videos of five classes, 2 validation videos each
    assert (len(learn), len(evaluate), len(learn.class_names)) == (16, 10, 5)
    assert {e.file for e in learn}.isdisjoint(e.file for e in evaluate)
    base, novel = open_records(out / dataset, "base_val"), open_records(out / dataset, "novel_val")
    assert (len(base), len(novel), base.stored.origin) == (6, 4, "own split")
    assert list(novel.class_names) == [learn.class_names[i] for i in (1, 3)]
    assert list(base.class_names) == [learn.class_names[i] for i in (0, 2, 4)]
    assert {e.file for e in base} | {e.file for e in novel} == {e.file for e in evaluate}
    assert len(open_records(out / dataset, "fs_base_s1_train")) == 12
    batch = next(eval_batches(evaluate, frames=4, size=32, batch_size=10))
    assert batch["frames"].shape == (10, 4, 32, 32, 3)
    assert sorted(batch["label"].tolist()) == sorted(list(range(5)) * 2)


@pytest.mark.parametrize("dataset", ["hmdb51", "ucf101", "ssv2", "kinetics400"])
def test_tfds_build_makes_the_same_records(dataset, tmp_path):
    """TFDS's command without its main program, which imports TensorFlow for other commands."""
    source = MAKE[dataset](tmp_path / "download")
    call = [
        f"data/{dataset}",
        "--config=video",
        f"--manual_dir={source}",
        f"--data_dir={tmp_path / 'tfds'}",
    ]
    done = run("tfds_build", *call)
    assert done.returncode == 0, done.stderr
    ours = run(
        "build_data",
        f"--dataset={dataset}",
        f"--source={source}",
        f"--data_dir={tmp_path}/ours",
        "--storage=video",
    )
    assert ours.returncode == 0, ours.stderr
    folders = [tmp_path / kind / dataset / "video" / "1.0.0" for kind in ("tfds", "ours")]
    files = [
        sorted(p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()) for f in folders
    ]
    # which copy it is, only `build_data` notes; evaluations compute it from the records
    assert [name for name in files[1] if name != "fingerprints.json"] == files[0]
    assert len(files[1]) == len(files[0]) + 1
    for name in files[0]:
        if name.startswith("lists/") or "array_record" in name or name == "metadata.json":
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_tfds_build_of_any_folder(tmp_path):
    source = layouts.make_class_folders(tmp_path / "mine")
    done = run(
        "tfds_build",
        "data/video_folder",
        f"--manual_dir={source}",
        f"--data_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert len(open_records(tmp_path / "out", "mine")) == 11
    config = json.dumps({"name": "own", "source": str(source), "storage": "video"})
    done = run(
        "tfds_build", "data/video_folder", f"--config={config}", f"--data_dir={tmp_path / 'own'}"
    )
    assert done.returncode == 0, done.stderr
    assert open_records(tmp_path / "own", "mine").storage == "video"


def test_tfds_build_reports_mistakes_in_one_line(tmp_path):
    source = layouts.make_class_folders(tmp_path / "mine")
    next(source.rglob("*.mp4")).write_bytes(b"")
    done = run(
        "tfds_build",
        "data/video_folder",
        f"--manual_dir={source}",
        f"--data_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 2
    assert "the file is empty" in done.stderr.splitlines()[-1]
    assert record_names(tmp_path / "out") == []


TREE = {
    "hmdb51": "hmdb_splits",
    "ucf101": "ucf_splits",
    "ssv2": "ssv2_splits",
    "kinetics400": "k400_splits",
}


@pytest.mark.shared
@pytest.mark.parametrize("dataset", TREE)
def test_published_lists_filtered_to_what_there_is(dataset, shared_dir, tmp_path):
    """The field's own lists and labels, five videos of each, with generated videos under the
    official names.
    """
    for folder in (TREE[dataset], f"base2novel_splits/{TREE[dataset]}"):
        target = tmp_path / "splits" / "datasets_splits" / folder
        target.mkdir(parents=True)
        for path in sorted((shared_dir / "splits" / "datasets_splits" / folder).glob("*.txt")):
            lines = path.read_text().splitlines()[:5]
            (target / path.name).write_text("".join(f"{line}\n" for line in lines))
            for line in lines:
                file = tmp_path / "videos" / line.rsplit(" ", 1)[0]
                if not file.exists():
                    layouts._video(file, len(line))
    shutil.copytree(shared_dir / "splits" / "labels", tmp_path / "splits" / "labels")
    call = [
        f"--dataset={dataset}",
        f"--splits={tmp_path / 'splits'}",
        f"--video_dir={tmp_path / 'videos'}",
    ]
    done = run("build_data", *call, f"--data_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    names = {path.stem for path in (tmp_path / "splits").rglob("*.txt")}
    assert set(record_names(tmp_path / "out")) == names
    assert {open_records(tmp_path / "out", name).stored.origin for name in names} == {"given"}
    assert all(len(open_records(tmp_path / "out", name)) == 5 for name in names)
