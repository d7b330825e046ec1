"""Hostile and replaced records through the commands that build, learn and evaluate."""

import json
import os
import shutil

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from hostile import harness
from hostile.corpus import records as corpus_records
from support import small_run

pytestmark = pytest.mark.command

# programs are compiled, where it comes to that
RUN = harness.Limits(cpu=60)


@pytest.fixture
def records(built, tmp_path):
    """A copy of good records, and how they are built: (folder of all, folder of the one, flags)."""
    folder = shutil.copytree(built, tmp_path / "built", dirs_exist_ok=True)
    one = corpus_records.folder_of(folder / "records")
    flags = [
        f"--list={folder}/list.txt",
        f"--labels={folder}/labels.csv",
        f"--video_dir={folder}/videos",
    ]
    flags += [
        f"--data_dir={folder}/records",
        f"--name={one.parent.name}",
        "--workers=1",
        "--storage=jpeg",
    ]
    return folder, one, flags


def test_a_build_says_what_to_do_about_damaged_records(records, tmp_path):
    _, one, flags = records
    # a copied folder is compared once, and the times of its files and its fingerprints noted
    outputs = [one / "seen.json", one / "fingerprints.json"]
    settings = dict(folder=tmp_path, outputs=outputs, texts=["nothing to do"])
    harness.check_right("build_data", flags, **settings)
    for name in ("dataset_info.json", "features.json", "files.json", "metadata.json"):
        good = (one / name).read_text()
        (one / name).write_text("3")
        harness.check_refused(
            "build_data", flags, folder=tmp_path, texts=[f"{one}/{name}", "--overwrite"]
        )
        (one / name).write_text(good)
    (one / "features.json").write_text("[" * 100_000)
    settings = dict(folder=tmp_path, outputs=[one.parents[2]])
    harness.check_right("build_data", [*flags, "--overwrite"], texts=["wrote"], **settings)
    harness.check_right("build_data", flags, folder=tmp_path, texts=["nothing to do"])


def test_a_build_notices_a_video_of_the_same_size(records, tmp_path):
    folder, one, flags = records
    video = sorted((folder / "videos").rglob("*.mp4"))[0]
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    os.utime(video, ns=(0, video.stat().st_mtime_ns + 10**10))
    settings = dict(folder=tmp_path, outputs=[one], texts=["changed since", "--overwrite"])
    harness.check_refused("build_data", flags, also=[r".*comparing the content"], **settings)


def test_a_shard_that_is_larger_in_memory(records, tmp_path):
    folder, one, _ = records
    (shard,) = one.glob("*array_record*")
    shard.unlink()
    writer = ArrayRecordWriter(str(shard), "group_size:1,zstd")
    for _ in range(4):
        writer.write(bytes(2**28))
    writer.close()
    flags = [
        f"--data_dir={folder}/records",
        "--name=list",
        "--index=2",
        "--draws=1",
        f"--out={tmp_path}/out.png",
    ]
    limits = harness.Limits(cpu=15, resident=2**28)
    harness.check_refused(
        "show_batch", flags, folder=tmp_path, texts=["record 2", "compressed"], limits=limits
    )


@pytest.mark.parametrize(
    "change", [corpus_records.imports_nested, corpus_records.TABLES["list_label_99"]]
)
def test_records_of_a_run_are_refused(small, trained, tmp_path, change):
    """A run folder whose config names records of a stranger."""
    shutil.copytree(small / "records", tmp_path / "records")
    for name in ("base_train", "base_val"):
        change(tmp_path / "records/video_folder" / name / "1.0.0")
    workdir = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["data_dir"] = str(tmp_path / "records")
    (workdir / "config.json").write_text(json.dumps(config))
    environment = harness.small_run_environment() | {"PYTHONPATH": str(tmp_path)}
    settings = dict(folder=tmp_path, cwd=tmp_path, env=environment, limits=RUN)
    harness.check_refused("evaluate", [f"--workdir={workdir}"], texts=["base_val"], **settings)
    flags = [f"--model={workdir}", f"--video={small}/base_val/0.mp4"]
    harness.check_safe("predict", flags, **settings)


def test_replaced_records_of_a_split_end_a_resumed_run(small, trained, tmp_path):
    shutil.copytree(small / "records", tmp_path / "records")
    workdir = shutil.copytree(trained, tmp_path / "run")
    flags = [
        *small_run.flags(small),
        f"--config.data.data_dir={tmp_path}/records",
        f"--workdir={workdir}",
    ]
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["data_dir"] = str(tmp_path / "records")
    (workdir / "config.json").write_text(json.dumps(config))
    listed = tmp_path / "records/video_folder/base_val/1.0.0/lists/base_val.json"
    corpus_records.change_json(listed, lambda value: value.update(fingerprint="0" * 64))
    settings = dict(folder=tmp_path, outputs=[workdir], limits=RUN)
    texts = ["data.evaluate.val", "the records of base_val were replaced", "--override_config"]
    harness.check_refused("train", [*flags, "--config.optimizer.epochs=1"], texts=texts, **settings)
