"""The main job on seven real clips, from the command line as the README says: records, training,
evaluation.
"""

import csv
import json
import os

import numpy as np
import pytest

from support import warm

pytestmark = pytest.mark.command


def _run(command, *arguments):
    # one device, as on a stranger's machine; evaluation and the second storage find the programs of
    # the first training
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags())
    done = warm.run(["-m", f"experiments.{command}", *arguments], environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.shared
@pytest.mark.parametrize("storage", ["jpeg", "video"])
def test_records_training_and_evaluation(shared_dir, tmp_path, storage):
    videos, records, workdir = shared_dir / "videos", tmp_path / "records", tmp_path / "run"
    inputs = (
        f"--list={videos / 'list.txt'}",
        f"--labels={videos / 'labels.csv'}",
        f"--video_dir={videos}",
    )
    built = _run(
        "build_data",
        "--dataset=video_folder",
        *inputs,
        f"--data_dir={records}",
        f"--storage={storage}",
    )
    assert "7 videos" in built.splitlines()[-1]
    config = "--config=experiments/configs/video_folder.py:train=list"
    settings = (
        f"--config.data.data_dir={records}",
        "--config.data.frames=8",
        "--config.log_every=2",
    )
    # the same frames every epoch, so that the loss of a CLIP that knows no such videos falls
    # without noise
    settings += ("--config.augment.enabled=False", "--config.optimizer.lr=4e-3")
    trained = _run("train", config, f"--workdir={workdir}", *settings)
    assert "trained to step 40" in trained.splitlines()[-1]
    losses = [
        float(row["loss"])
        for row in csv.DictReader((workdir / "metrics.csv").read_text().splitlines())
        if row["loss"]
    ]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.05
    first = json.loads((workdir / "results.json").read_text())["rows"]
    evaluated = _run("evaluate", f"--workdir={workdir}")
    assert f"wrote {workdir}/results.md" in evaluated.splitlines()[-1]
    again = json.loads((workdir / "results.json").read_text())["rows"]
    assert first == again
    assert [(row["split"], row["classes"], row["videos"]) for row in again] == [("val", 7, 7)]
