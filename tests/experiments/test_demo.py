"""The demo at its smallest: every row runs, table and picture are written, other people's folders
are left alone.
"""

import csv
import json
import os
from pathlib import Path

import pytest

from experiments.demo import rows as _demo
from support import warm
from vtd_jax.manifest import read_manifest
from vtd_jax.scenes.sets import SceneSet

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments):
    # one device, as `make demo` has it; the second seed finds the programs of the first
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags())
    return warm.run(["-m", "experiments.demo", *arguments], environment)


@pytest.mark.command
def test_demo_end_to_end(tmp_path):
    out = tmp_path / "demo"
    # what an earlier demo left is replaced
    (out / "seed7").mkdir(parents=True)
    (out / ".vtd_jax_demo").touch()
    (out / "results.md").write_text("an older one")
    done = _run(f"--out={out}", "--seeds=5,6", "--classes=4", "--train=2", "--val=2", "--epochs=1")
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}/results.md" in done.stdout.splitlines()[-1]
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == [row.name for row in _demo.ROWS]
    for row in rows:
        mean, _, spread = row["HM"].partition(" ± ")
        assert 0 <= float(mean) <= 100
        assert float(spread) >= 0
    assert "seeds" in json.loads((out / "results.json").read_text())["about"]
    assert (out / "clip.png").stat().st_size > 10_000
    # trained rows left runs that `experiments.evaluate` can read, zero-shot rows left none
    assert (out / "seed5/run6/config.json").is_file()
    assert not (out / "seed5/run0").exists()
    assert not (out / "seed7").exists()
    assert "older" not in (out / "results.md").read_text()
    # the sign by which the next demo knows this one's folder
    assert read_manifest(out / ".vtd_jax_demo", "demo").is_whole(out)


@pytest.mark.command
@pytest.mark.parametrize("seeds", ["a", "1,1", "-3"])
def test_bad_seeds(tmp_path, seeds):
    done = _run(f"--out={tmp_path / 'x'}", f"--seeds={seeds}")
    assert done.returncode == 2
    assert "expected different whole numbers" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.command
def test_a_folder_of_another_user_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = _run(f"--out={tmp_path}")
    assert done.returncode == 2
    assert "not an earlier demo's folder" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.command
def test_a_marker_that_no_demo_wrote_is_no_sign(tmp_path):
    (tmp_path / "seed7").mkdir()
    for text in ("mine", json.dumps({"manifest": 1})):
        (tmp_path / ".vtd_jax_demo").write_text(text)
        done = _run(f"--out={tmp_path}")
        assert done.returncode == 2
        assert "not an earlier demo's folder" in done.stderr
        assert (tmp_path / "seed7").is_dir()


def test_rows_differ_as_their_names_say(tmp_path):
    configs = {row.name: _demo.run_config(row, 1, tmp_path, {}) for row in _demo.ROWS}
    for name, config in configs.items():
        assert config.model.fusion == ("fusion" in name)
        assert bool(config.model.text_prompts) == ("zero-shot" not in name)
    poolings = [config.model.pooling for config in configs.values()]
    assert poolings == ["mean", "softmax_mean", "confidence"] * 2 + ["confidence"]


def test_table_is_mean_and_deviation_over_seeds():
    found = {"a": [{"base": 0.5, "novel": 0.4, "HM": 0.44}, {"base": 0.7, "novel": 0.4, "HM": 0.5}]}
    table = _demo.demo_table(found, {})
    assert table.rows == (
        {"method": "a", "base": "60.0 ± 14.1", "novel": "40.0 ± 0.0", "HM": "47.0 ± 4.2"},
    )
    assert _demo.describe(SceneSet(1), _demo.run_config(_demo.ROWS[0], 1, Path("x"), {}), [1], 2.0)[
        "seeds"
    ].startswith("1;")
