"""The benchmark command and its parts: what it prints and writes, and that a bare machine can run
it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import bare, child, data, feeding, scaling
from experiments.benchmark.device.choices import choices, device
from experiments.benchmark.report import (
    Measured,
    devices_table,
    first_steps_table,
    goals_table,
    input_table,
    loop_table,
    scaling_table,
)
from experiments.benchmark.setting import Options, Variant, variants
from experiments.benchmark.tasks import (
    CODEBOOK,
    FEATURES,
    GRADIENT,
    STEP,
    TASKS,
    Programs,
    random_model,
)
from experiments.benchmark.timing import Timing
from support import bare_machine, warm
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.errors import UserError

pytestmark = pytest.mark.command

ROOT = Path(__file__).resolve().parents[3]
TINY = Options("tiny", 2, 1, 3, 5, 12, 1)
FAST, SLOW = Variant("JAX", "bfloat16", "fast"), Variant("PyTorch", "float32", "eager")


def _run(*arguments):
    return warm.run(["-m", "experiments.benchmark", *arguments])


def _cells(table):
    return [list(table.columns), *table.cells()]


def _measured(kind="cpu"):
    timings = {
        FAST: {FEATURES: Timing(FEATURES, FAST.name, (1.0, 2.0, 4.0), 10**12, 3)},
        SLOW: {FEATURES: Timing(FEATURES, SLOW.name, (3.0, 4.0, 12.0), 4 * 10**12, 3)},
    }
    ceilings = {
        ("JAX", "bfloat16"): [
            Timing("product 1", "", (1.0, 1.0, 2.0), 2 * 10**12),
            Timing("product 2", "", (2.0, 2.0, 2.0), 10**12),
        ],
        ("PyTorch", "float32"): [Timing("product 1", "", (1.0, 1.0, 1.0), 10**12)],
    }
    return Measured(timings, ceilings, kind)


def test_command_measures_and_writes_json(tmp_path):
    out = tmp_path / "benchmark.json"
    sizes = (
        "--architecture=tiny",
        "--frames=2",
        "--classes=3",
        "--rounds=2",
        "--noinput",
        "--nostart",
        "--notorch",
    )
    done = _run(*sizes, "--dtype=float32", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"wrote {out}")
    report = json.loads(out.read_text())
    found = {(timing["task"], timing["variant"]): timing["seconds"] for timing in report["timings"]}
    ours = ("ours, float32", "ours, float32, plain path")
    assert {(task, who) for task in TASKS for who in ours} <= set(found)
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found.values())
    assert [(ceiling["framework"], ceiling["dtype"]) for ceiling in report["ceilings"]] == [
        ("JAX", "float32")
    ]
    assert report["goals"] == []
    assert report["setting"]["architecture"] == "tiny"
    assert report["setting"]["visual depth"] == 4
    assert report["machine"]["cores"] >= 1
    assert f"--out={out}" in report["command"]
    assert set(report["memory"]) == set(ours)
    assert f"| {STEP}, ours, float32 |" in done.stdout
    # all variants of a task stand beside one another
    assert [line.split(",")[0] for line in done.stdout.splitlines() if ", plain path |" in line][
        :5
    ] == [f"| {task}" for task in TASKS]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--architecture=ViT-B/17"], "expected one of ViT-B/32"),
        (["--data_dir=x"], "--data_dir and --records"),
        (["--scaling=frames,views"], "'views', expected some of frames, batch, classes, devices"),
        (["--dtype=float16"], "expected some of float32, bfloat16"),
        (["--device_only"], "--device_only is gone: use --what=device"),
        (["--what=device", "--prompts=4"], "--prompts=4: expected 5 or more"),
        (["--what=device", "--frames=8,16"], "expected one number for --what=device"),
        (["--what=device", "--dtype=float32,bfloat16"], "expected one for --what=device"),
        (["--what=device", "--batch=2"], "--batch is for --what=programs, not --what=device"),
        (["--minutes=3"], "--minutes is for --what=device, not --what=programs"),
        (["--frames=16,x"], "--frames=16,x: expected whole numbers"),
        (["--frames=8,16"], "--frames=8,16: expected one number"),
        (["--words=9"], "--words is for --what=vocabulary, not --what=programs"),
        (["--what=readers", "--torch"], "--torch is for --what=programs"),
        (["--what=readers", "--videos=nowhere"], "--videos=nowhere: there is no such folder"),
        (["--what=vocabulary", "--folder=nowhere"], "--folder=nowhere: there is no such folder"),
        (["--what=predict", "--words=9"], "--words is for --what=vocabulary, not --what=predict"),
        (["--what=predict", "--frames=8,16"], "--frames=8,16: expected one number"),
        (["--what=predict", "--dtype=float32,bfloat16"], "expected one for --what=predict"),
        (["--what=readers", "--rounds=0"], "rounds"),
    ],
)
def test_bad_arguments(arguments, message):
    done = _run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_the_input_side_needs_is_missed_before_anything_is_measured():
    code = (
        "import importlib.util as u, runpy, sys; find = u.find_spec; sys.argv = ['benchmark'];"
        "u.find_spec = lambda name, *more: find(name, *more) if name != 'grain' else None;"
        "runpy.run_module('experiments.benchmark', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: the input side, which --noinput leaves out, needs grain: pip install "
    )


def test_a_bare_machine_runs_it_to_the_end(tmp_path):
    allowed = bare_machine.modules_of("jax", "flax", "optax", "numpy")
    assert {"jax", "flax", "absl", "orbax"} <= allowed
    assert (
        not {"jaxtyping", "tokenizers", "regex", "ftfy", "cv2", "ml_collections", "grain", "torch"}
        & allowed
    )
    # every Python process that is started finds this before anything else
    (tmp_path / "sitecustomize.py").write_text(f"ALLOWED = {allowed!r}\n{bare_machine.BLOCKER}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    call = [
        sys.executable,
        "-m",
        "experiments.benchmark",
        "--what=device",
        "--architecture=tiny",
        "--frames=1",
        "--classes=2",
    ]
    call += ["--rounds=1", "--minutes=60"]
    out = tmp_path / "device.json"
    measures = [*call, f"--out={out}"]
    done = subprocess.run(measures, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    wanted = choices(device(CLIPConfig.tiny(), "bfloat16", "cpu"), torch=False)
    assert len(report["rows"]) == len(report["compiling"]) == len(wanted)
    assert {row["problem"] for row in report["rows"]} == {""}
    assert all(row["median_seconds"] > 0 for row in report["rows"])
    assert set(report["flops"]) == {GRADIENT, STEP, FEATURES}
    assert {"device kind", "runtime", "python", "commit"} <= set(report["machine"])
    assert report["left out"] == []
    for name in ("ours, xla, remat block, list", "plain JAX, remat block", "ours, xla, list"):
        assert f", {name} | " in done.stdout
    assert "Compiling, in order:" in done.stdout
    absent = subprocess.run(
        [sys.executable, "-c", "import jaxtyping"], env=environment, capture_output=True, text=True
    )
    assert "No module named 'jaxtyping'" in absent.stderr
    asked = subprocess.run(
        [*call, "--torch"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert asked.returncode == 2
    assert asked.stderr.startswith("error: --torch: PyTorch's side needs torch")


def test_the_stand_in_has_every_annotation_that_is_used():
    module, used = bare.stand_in(), set()
    for path in (ROOT / "vtd_jax").rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.startswith("from jaxtyping import "):
                used |= {
                    name.strip() for name in line.removeprefix("from jaxtyping import ").split(",")
                }
    assert len(used) > 5
    assert all(hasattr(module, name) for name in used)
    assert module.Float[module.Array, "b t"] | None


def test_table_has_ratios_shares_and_rates():
    rows = _cells(_measured().tasks_table())
    assert rows[0][5:] == ["of the ceiling", "× PyTorch, float32"]
    assert rows[1] == [
        f"{FEATURES}, ours, bfloat16", "2 s (1–4)", "1.5", "1000", "500", "0.25", "3 (2–3)",
    ]  # fmt: skip
    assert rows[2][-2:] == ["1.00", "1 (1–1)"]


def test_mfu_where_the_peak_is_known():
    measured = _measured("NVIDIA H200")
    assert "MFU" in _cells(measured.tasks_table())[0]
    assert measured.of_peak(FAST, FEATURES).median == pytest.approx(0.5e12 / 989e12)


def test_goals_say_by_how_much_they_are_missed():
    goals = _measured().goals()
    assert [goal["goal"] for goal in goals] == [
        f"{FEATURES}: ours, bfloat16, × PyTorch, float32",
        f"{FEATURES}: ours, bfloat16, share of the ceiling",
    ]
    assert [goal["met"] for goal in goals] == [True, False]
    rows = _cells(goals_table(goals))
    assert rows[1][1:] == ["2.4", "3", "met"]
    assert rows[2][1:] == ["0.85", "0.25", "missed: 29% of it"]


def test_variants():
    everything = variants(dtypes=("float32", "bfloat16"), plain=True, torch=True, gpu=True)
    assert len({variant.name for variant in everything}) == 6
    assert len(variants(dtypes=("float32",), plain=False, torch=False, gpu=True)) == 1


def test_options_travel_as_text():
    assert Options(**json.loads(TINY.to_json())) == TINY
    assert not TINY.is_goal()
    assert Options("ViT-B/16", 16, 1, 101, 10, 12, 5).is_goal()
    with pytest.raises(UserError, match="5 or more"):
        Options("tiny", 2, 1, 3, 4, 12, 1, stand_in=True)


def test_small_tables():
    rows = [{"storage": "jpeg", "seconds": 2.0, "waited": 0.5, "steps": 3}]
    assert _cells(loop_table(rows, 1.5, "ours"))[1] == ["jpeg", "2", "1.5", "0.5", "25.0%"]
    failed = {"variant": "ours", "cache": "cold", "failed": "ended with status 1: no memory"}
    assert _cells(first_steps_table([failed]))[1][:2] == [
        "ours, cold cache",
        "ended with status 1: no memory",
    ]
    found = {n: [Timing("step", "ours", (float(n * n),), None)] for n in (1, 2)}
    assert [row[1] for row in _cells(scaling_table("frames", found))[1:]] == [
        "1 s (1–1); 1.00",
        "4 s (4–4); 2.00",
    ]
    timings = [{"task": f"{n} devices", "seconds": (4.0 / n, 4.0)} for n in (1, 2)]
    devices = {"platform": "gpu", "batch": 8, "timings": timings}
    assert _cells(devices_table(devices))[2][2] == "1.5× (1–2)"
    assert "simulated" in devices_table(devices | {"platform": "cpu"}).title


def test_scaling_measures_every_value():
    found = scaling.sizes(TINY, "batch", (2,), ("float32",))
    assert {n: [(t.task, t.clips) for t in timings] for n, timings in found.items()} == {
        2: [(FEATURES, 2), (STEP, 2)]
    }
    found = scaling.classes(TINY, (3, 1200), "float32")
    assert [timings[0].task for timings in found.values()] == [
        CODEBOOK,
        "discretization and fusion",
    ]
    assert all(t.median > 0 for timings in found.values() for t in timings)


def test_a_step_over_devices_gives_the_step_of_one():
    import jax
    import numpy as np

    options = Options("tiny", 1, 2, 3, 5, 1, 1, stand_in=True)
    one, two = (
        scaling.step_over(options.setting(), "float32", jax.devices()[:n]).run()[2] for n in (1, 2)
    )
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-5)


def test_input_is_measured_from_small_records(tmp_path, monkeypatch):
    for name, value in (("FRAMES", 8), ("WIDTH", 96), ("HEIGHT", 72), ("CLIPS", 3)):
        monkeypatch.setattr(data, name, value)
    setting = TINY.setting()
    sources = feeding.sources(tmp_path, None, None)
    jobs = feeding.pipelines(sources, setting)
    assert [(job.task, job.variant) for job in jobs] == [
        (f"{storage}, {message}", preprocess)
        for storage in ("jpeg", "video")
        for message in ("augmented", "centre crop")
        for preprocess in ("release", "clip")
    ]
    release, clip = (job.run()["frames"] for job in jobs[2:4])
    assert release.shape == clip.shape == (8, 2, 64, 64, 3)
    assert (release != clip).any()
    timings = [
        Timing(job.task, job.variant, (n + 1.0, n + 2.0), clips=8) for n, job in enumerate(jobs)
    ]
    rows = input_table(timings).rows
    assert [row["preprocess"] for row in rows] == ["release", "clip"] * 4
    assert rows[1]["clips/s, of release"].startswith("0.58")
    programs = Programs(setting, random_model(setting, "float32"), "ours", tasks=(STEP,))
    rows = feeding.loop(sources, setting, programs, 2)
    assert [row["storage"] for row in rows] == ["jpeg", "video"]
    assert all(0 <= row["waited"] < row["seconds"] for row in rows)


def test_a_child_that_fails_is_reported(monkeypatch):
    monkeypatch.setattr(child.sys, "executable", "/bin/false")
    (row,) = child.first_steps(TINY, [SLOW])
    assert row == {
        "variant": SLOW.name,
        "cache": "",
        "failed": "ended with status 1: no message",
    }
