"""Compiling for TPUs that are not there: needs libtpu (`make aot`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = [
    "--config=experiments/configs/video_folder.py:train=list",
    "--classes=5",
    "--config.data.data_dir=nowhere",
]
BENCHMARK = "--config=experiments/configs/base_to_novel.py:kinetics400"


def start(*arguments: str) -> subprocess.Popen:
    """`python -m experiments.aot` with nothing set that says where to compute."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    call = [sys.executable, "-m", "experiments.aot", *arguments]
    return subprocess.Popen(
        call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(*arguments: str) -> tuple[int, str, list[str]]:
    """Exit status, what was printed, and the lines on stderr."""
    process = start(*arguments)
    output, errors = process.communicate(timeout=600)
    return process.returncode, output, errors.splitlines()


def test_a_small_run_on_eight_chips_of_two_processes_at_once(tmp_path):
    outs = [tmp_path / "list.json", tmp_path / "scan.json"]
    layers = ["--config.memory.layers=list", "--config.memory.layers=auto"]
    both = [
        start(*VIDEOS, "--topology=v5e:2x4,v5e:1x1", how, f"--out={out}")
        for how, out in zip(layers, outs)
    ]
    for process, out in zip(both, outs):
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == f"6 programs, all fit; wrote {out}"
        assert [line.split("]")[0] for line in errors.splitlines()] == [
            f"[{place}/6" for place in range(1, 7)
        ]
    programs, scanned = (json.loads(out.read_text())["programs"] for out in outs)
    for listed, scan in zip(programs, scanned, strict=True):
        # the same work in both layouts, but for a gradient of the first layer's input, which every
        # round has; of a scan XLA counts one round
        assert listed["flops"] <= scan["flops"] < 1.02 * listed["flops"]
        assert scan["kind"] == "codebook" or scan["xla_flops"] < 0.8 * listed["xla_flops"]
    eight, alone = programs[0], programs[3]
    assert (eight["kind"], eight["devices"], eight["videos"]) == ("training", 8, 8)
    assert (alone["kind"], alone["devices"], alone["videos"]) == ("training", 1, 4)
    for program in (eight, alone):
        assert program["fits"]
        # what a v5e chip leaves to programs
        assert program["available"] == round(15.75 * 2**30)
        # counted by us and by XLA, which also counts what is no product
        assert program["flops"] == pytest.approx(program["xla_flops"], rel=0.15)
        assert program["traffic"] > program["parts"]["arguments"]
        assert program["estimated_by"] == "the compiler's schedule"
        parts = [part["seconds"] for part in program["largest"]]
        assert len(parts) >= 5
        assert sum(parts) == pytest.approx(program["seconds_estimated"])
        assert 0 < program["share"] < 1
    assert alone["collectives"] == {}
    assert set(eight["collectives"]) <= {"all-reduce", "all-gather", "reduce-scatter"}
    # what is learnt goes over the chips once, as float32
    assert 2_000 < eight["collectives"]["all-reduce"]["bytes"] < 2_000_000


def test_what_does_not_fit_ends_with_one_line(tmp_path):
    out = tmp_path / "table.md"
    code, output, errors = run(
        BENCHMARK,
        "--topology=v5e:2x2",
        "--config.clip.dtype=bfloat16",
        "--config.data.batch_size=512",
        f"--out={out}",
    )
    assert code == 2
    message = errors[-1]
    assert message.startswith(
        "error: base_to_novel_kinetics400_16shot_s1 on v5e:2x2: training needs "
    )
    assert message.endswith(
        " GiB a device, a chip has 15.75; lower --config.data.batch_size=512 and raise "
        "--config.optimizer.gradient_accumulation_steps=2 by as much or use more chips"
    )
    assert " (does not fit 15.75) |" in output
    assert " (does not fit 15.75) |" in out.read_text()


def test_a_topology_that_is_none():
    code, output, errors = run(*VIDEOS, "--topology=v5e:3x5")
    assert (code, output) == (2, "")
    assert errors[-1].startswith(
        'error: --topology=v5e:3x5: INVALID_ARGUMENT: Topology layout "v5e:3x5" is not '
    )
    assert errors[-1].endswith("; expected GENERATION:SHAPE, as v5e:2x4, v6e:4x4 or v5p:2x2x2")
