"""`experiments.aot`: what is known of the benchmarks, lowering for GPUs, and one line for what is
wrong.
"""

import csv
import dataclasses
import importlib.util
import json

import jax
import pytest
from conftest import SHARED

from experiments.aot import names as _aot
from support import small_run
from vtd_jax.cost.cuda import missing
from vtd_jax.cost.programs import Names, training_step
from vtd_jax.cost.topology import Target
from vtd_jax.errors import UserError
from vtd_jax.model.codebook import class_tokens, trim
from vtd_jax.train.config import RunConfig

FILES = {
    ("hmdb51", "all"): ["hmdb_51_labels"],
    ("hmdb51", "base"): ["hmdb_51_base_labels"],
    ("hmdb51", "novel"): ["hmdb_51_novel_labels"],
    ("ucf101", "all"): ["ucf_101_labels"],
    ("ucf101", "base"): ["ucf_101_base_labels"],
    ("ucf101", "novel"): ["ucf_101_novel_labels"],
    ("ssv2", "all"): ["ssv2_labels"],
    ("ssv2", "base"): ["ssv2_174_base_labels"],
    ("ssv2", "novel"): ["ssv2_174_novel_labels"],
    ("kinetics400", "all"): ["kinetics_400_labels"],
    ("kinetics400", "base"): ["kinetics_400_base_labels"],
    ("kinetics400", "novel"): ["kinetics_400_novel_labels"],
    ("kinetics600", "all"): [f"ZS_split{split}_K600" for split in (1, 2, 3)],
}
VIDEOS = "--config=experiments/configs/video_folder.py:train=list"


@pytest.mark.shared
@pytest.mark.parametrize("prompts", [10, 16])
def test_benchmark_names_are_those_of_the_published_lists(prompts):
    assert set(FILES) == set(_aot.BENCHMARK_NAMES)
    for part, files in FILES.items():
        found = []
        for file in files:
            with open(SHARED / "splits" / "labels" / f"{file}.csv", newline="") as lines:
                names = [row[1] for row in list(csv.reader(lines))[1:]]
            lengths = (trim(class_tokens(names, count)).shape[1] for count in (0, prompts))
            found.append((len(names), *lengths))
        classes, bare, around = _aot.BENCHMARK_NAMES[part]
        assert max(found) == (classes, bare, prompts + around), part


def configs() -> dict[str, RunConfig]:
    return {config.name: config for config in _aot.benchmark_configs()}


def test_every_benchmark_is_there_with_its_names():
    found = configs()
    assert len(found) == 4 + 12 + 1 + 5
    assert _aot.known_names(found["base_to_novel_hmdb51_all"]) == (Names(26, 21), Names(26, 21))
    # the half with more classes is the one to make room for
    assert _aot.known_names(found["base_to_novel_ssv2_16shot_s1"]) == (Names(87, 32), Names(87, 37))
    assert _aot.known_names(found["few_shot_ssv2_2"]) == (Names(174, 31), Names(174, 31))
    assert _aot.known_names(found["zero_shot_kinetics600"]) == (None, Names(160, 7))
    other = found["few_shot_ssv2_2"]
    other = dataclasses.replace(other, data=dataclasses.replace(other.data, data_dir="elsewhere"))
    with pytest.raises(UserError, match=r"data\.data_dir=elsewhere: .* or --classes and --tokens"):
        _aot.known_names(other)


def test_a_benchmark_in_one_step():
    config = configs()["fully_supervised_kinetics400"]
    many, one = _aot.in_one_step(config, 8), _aot.in_one_step(config, 1)
    batches = [
        (run.data.batch_size, run.optimizer.gradient_accumulation_steps) for run in (many, one)
    ]
    assert batches == [(128, 1), (32, 4)]
    assert (one.clip.dtype, one.memory.remat) == ("bfloat16", "auto")


@pytest.mark.slow
def test_runs_of_one_program_share_a_row():
    target = Target("8 here", "tpu", tuple(jax.devices()), None)
    found = {name: _aot.in_one_step(config, 8) for name, config in configs().items()}

    def signature(name):
        config = found[name]
        return _aot.signature(
            training_step(config, target, _aot.known_names(config)[0]), target, config
        )

    # other rates, the same program; another batch, another data set: others
    assert signature("few_shot_hmdb51_2") == signature("few_shot_hmdb51_16")
    assert signature("few_shot_ucf101_4") != signature("few_shot_ucf101_8")
    assert signature("few_shot_hmdb51_2") != signature("few_shot_ucf101_2")


@pytest.mark.command
def test_lowering_for_gpus(tmp_path):
    out = tmp_path / "aot.json"
    arguments = [
        "--platform=cuda",
        "--devices=1,3",
        VIDEOS,
        "--classes=5",
        "--config.data.data_dir=nowhere",
    ]
    done = small_run.command("aot", *arguments, "--config.data.batch_size=4", f"--out={out}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        f"6 programs, lowered; wrote {out}",
    )
    # one line a program, and nothing else: no warning
    assert [line.split("]")[0] for line in done.stderr.splitlines()] == [
        f"[{place}/6" for place in range(1, 7)
    ]
    found = json.loads(out.read_text())
    message = [
        (program["kind"], program["devices"], program["videos"]) for program in found["programs"]
    ]
    assert message == [
        ("training", 1, 4),
        ("evaluation", 1, 4),
        ("codebook", 1, 0),
        ("training", 3, 6),
        ("evaluation", 3, 6),
        ("codebook", 3, 0),
    ]
    assert all((program["classes"], program["tokens"]) == (5, 77) for program in found["programs"])
    assert found["settings"]["config"] == "experiments/configs/video_folder.py:train=list"
    assert found["settings"]["data.batch_size"] == 4
    assert found["programs"][0]["collectives"] == {}
    assert set(found["programs"][3]["collectives"]) == {
        "all-reduce",
        "all-gather",
        "reduce-scatter",
    }


@pytest.mark.slow
def test_names_come_from_records(tmp_path):
    folder = small_run.build(tmp_path)
    config = RunConfig.from_dict(small_run.config(folder).to_dict())
    expected = Names(3, trim(class_tokens(small_run.BASE, 2)).shape[1])
    assert _aot.recorded_names(config) == (expected, expected)


@pytest.mark.command
@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--out=table.txt"], "--out=table.txt: the name must end in .md or .json"),
        (
            ["--platform=cuda", "--devices=8,many"],
            "--devices=8,many: expected numbers of GPUs, as 1,8,64",
        ),
        (
            ["--platform=cuda", "--devices=1", VIDEOS, "--tokens=20"],
            "--tokens=20: needs --classes=K too",
        ),
        (["--topology=v5e:1x1,H100:1"], "--topology=H100:1: GPUs need --platform=cuda too"),
        (
            ["--platform=cuda", "--topology=H100:1", "--devices=1"],
            "--devices: to lower only; leave it out where --topology names the GPUs",
        ),
        (
            ["--platform=cuda", "--topology=H100"],
            "--topology=H100: expected KIND:COUNT, as H100:1 or H100:8, of A100, H100, H200, B200",
        ),
        pytest.param(
            ["--platform=cuda", "--topology=H100:1", VIDEOS],
            "--topology=H100:1: JAX's CUDA plugin is not installed; `make aot-cuda`",
            marks=pytest.mark.skipif(missing() is None, reason="the CUDA compiler is installed"),
        ),
        pytest.param(
            ["--topology=v5e:2x4", VIDEOS],
            "--topology=v5e:2x4: libtpu is not installed; `make aot`",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed"
            ),
        ),
    ],
)
def test_one_line_for_what_is_wrong(arguments, expected):
    done = small_run.command("aot", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1
