"""What every command does with its command line: help, versions, fields listed, one clear line for
what will not do.
"""

import io
import json
import os
import re
from pathlib import Path

import pytest

from experiments.common import command_line
from support import warm
from vtd_jax.fields import described
from vtd_jax.train.config import RunConfig

ROOT = Path(__file__).resolve().parents[3]
CONFIG = "--config=experiments/configs/video_folder.py:train=list"
# parses one command line after another as the command does, in one process, and never runs it
SCRIPT = """
import contextlib, importlib, io, json, sys
from absl import app
from experiments.common import command_line
module, *lines = json.loads(sys.argv[1])
importlib.import_module(f"experiments.{module}")
app.define_help_flags()
found = []
for line in lines:
    sys.argv[1:] = line
    command_line.flags.FLAGS.unparse_flags()
    for name in command_line.flags.FLAGS:
        if not name.startswith("config."):
            command_line.flags.FLAGS[name].unparse()
    out, errors, status = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            command_line.parse(sys.argv)
        except SystemExit as end:
            status = end.code
    found.append((status, out.getvalue(), errors.getvalue()))
print(json.dumps(found))
"""
TRAIN = {
    (CONFIG,): "--workdir is missing: folder of the run; created if missing",
    (
        CONFIG,
        "--workdir=",
    ): "--workdir=: is empty, expected folder of the run; created if missing",
    (CONFIG, "--workdir"): "--workdir: a value is missing, expected --workdir=VALUE",
    (
        CONFIG,
        "--workdir=x",
        "--config.optimizer.lr=abc",
    ): "--config.optimizer.lr=abc: expected a number",
    (CONFIG, "--workdir=x", "--config.seed=1.5"): "--config.seed=1.5: expected a whole number",
    (
        CONFIG,
        "--workdir=x",
        "--config.model.fusion=2",
    ): "--config.model.fusion=2: expected true or false",
    (
        CONFIG,
        "--workdir=x",
        "--config.optimizer=3",
    ): "--config.optimizer=3: is a group of fields; set one of them, --print_config lists all",
    (
        CONFIG,
        "--workdir=x",
        "--optimizer.epochs=1",
    ): "unknown flag --optimizer.epochs: did you mean --config.optimizer.epochs?",
    (
        CONFIG,
        "--workdir=x",
        "--epochs=1",
    ): "unknown flag --epochs: did you mean --config.optimizer.epochs?",
    (CONFIG, "--workdir=x", "--config.lr=1"): "unknown config field lr: did you mean optimizer.lr?",
    (
        CONFIG,
        "--workdir=x",
        "--config.optimiser.lr=1",
    ): "unknown config field optimiser.lr: did you mean optimizer.lr?",
    (
        CONFIG,
        "--workdir=x",
        "--config.memory.x=1",
    ): "unknown config field memory.x: expected one of "
    "memory.attention, memory.frame_chunks, memory.layers, memory.remat",
    (
        CONFIG,
        "--workdir=x",
        "--config.optimizer.accumulation=4",
    ): "unknown config field optimizer.accumulation: was renamed, set "
    "optimizer.gradient_accumulation_steps",
    (
        CONFIG,
        "--workdir=x",
        "--config.memory.microbatches=4",
    ): "unknown config field memory.microbatches: was removed, set a smaller data.batch_size and a "
    "larger optimizer.gradient_accumulation_steps",
    (
        "--config=no:thing/config.json",
        "--workdir=x",
    ): (
        "--config=no:thing/config.json: no such file; give one, or a config by name: "
        "base_to_novel, few_shot, fully_supervised, scenes, video_folder, zero_shot"
    ),
    ("--config=few_short:hmdb51", "--workdir=x"): (
        "--config=few_short:hmdb51: no such config; did you mean few_shot? There are "
        "base_to_novel, few_shot, fully_supervised, scenes, video_folder, zero_shot, and files "
        "FILE.py:ARGS"
    ),
    (
        "--print_config",
        "--workdir=x",
    ): "--print_config: give --config=NAME:ARGS too, whose fields are to be printed",
    (
        "--config=experiments/configs/few_shot.py",
        "--workdir=x",
    ): "--config=experiments/configs/few_shot.py: config "
    "argument dataset is missing: expected few_shot:hmdb51|ucf101|ssv2[,shots=2|4|8|16][,val=1|3]",
}
PREDICT = {
    ("--frames=abc",): "--frames=abc: expected a whole number",
    ("--frames=0",): "--frames=0: expected a positive integer",
    ("--threshold=x",): "--threshold=x: expected a number",
    ("--dtype=f16",): "--dtype=f16: expected one of float32, bfloat16",
    ("--restart=maybe",): "--restart=maybe: expected true or false",
    ("--modle=x",): "unknown flag --modle: did you mean --model?",
    ("--\x1b[31mred=1",): "unknown flag --\\x1b[31mred",
    ("--json=",): "--json=: is empty, expected JSON file to write, with everything",
}


def _parsed(module: str, *lines: tuple[str, ...]) -> list[tuple[int, str, str]]:
    done = warm.run(["-c", SCRIPT, json.dumps([module, *lines])])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("module, refused", [("train", TRAIN), ("predict.__main__", PREDICT)])
def test_refused_in_one_clear_line(module, refused):
    for (line, message), (status, out, errors) in zip(
        refused.items(), _parsed(module, *refused), strict=True
    ):
        assert (status, out, errors) == (2, "", f"error: {message}; see --help\n"), line


def test_a_config_file_that_sets_a_field_of_earlier_versions(tmp_path):
    lines = (
        "config.optimizer.accumulation = 3",
        "config.optimizer.update(accumulation=3)",
        "config.memory.microbatches = 3",
    )
    for number, line in enumerate(lines):
        (tmp_path / f"{number}.py").write_text(
            "from experiments.configs import video_folder\n\n\n"
            f"def get_config():\n    config = video_folder.get_config()\n    {line}\n"
            "    return config\n"
        )
    called = [(f"--config={tmp_path}/{number}.py", "--workdir=x") for number in range(len(lines))]
    for status, out, errors in _parsed("train", *called):
        assert (status, out, errors.count("\n")) == (2, "", 1)
        assert "set optimizer.gradient_accumulation_steps" in errors or "data.batch_size" in errors


def test_help_versions_and_fields():
    listing = (CONFIG, "--print_config", "--config.optimizer.lr=0.5", "--config.name=[red]a :car:")
    short, long, versions, fields = _parsed("train", ("-h",), ("--help",), ("--version",), listing)
    assert short == long
    assert (short[0], versions[0], fields[0]) == (0, 0, 0)
    assert short[1].endswith("Try --helpfull to get a list of all flags.\n")
    numbers = ", ".join(rf"{name} [\w.+]+" for name in ("jax", "flax", "numpy", "av"))
    assert re.fullmatch(rf"vtd_jax [\d.]+ \(Python [\w.+]+, {numbers}\)\n", versions[1])
    rows = [re.split(r"  +", line.strip(), maxsplit=3) for line in fields[1].splitlines()[4:-1]]
    known = described(RunConfig)
    assert {row[0] for row in rows} == set(known) - {"data.evaluate"} | {"data.evaluate.val"}
    shown = {field: (kind, value, message) for field, kind, value, message in rows}
    assert shown["optimizer.lr"] == ("float", "0.5", known["optimizer.lr"].help)
    assert shown["name"] == ("str", "[red]a :car:", known["name"].help)
    assert shown["clip.architecture"][1] == "''"
    assert all(message for *_, message in rows)


def test_every_field_of_a_config_has_a_line():
    fields = described(RunConfig)
    assert len(fields) > 50
    for name, field in fields.items():
        assert 5 < len(field.help) < 220, name
        assert field.kind in (
            "int",
            "float",
            "str",
            "bool",
            "tuple of str",
            "tuple of float",
            "group of str",
        ), name
    assert fields["model.temperature"] == (
        "float",
        "temperature of the softmax over frames that makes the confidence",
    )
    assert (
        fields["augment.hue"].help
        == "shift drawn from [-hue, hue], in turns of the colour circle, at most 0.5"
    )


def test_a_pipe_without_a_reader_takes_all():
    ends = os.pipe()
    with open(ends[1], "wb", buffering=0) as out:
        pipe = command_line._Outlet(out.fileno(), "w", closefd=False)
        with io.TextIOWrapper(io.BufferedWriter(pipe), "utf-8", "backslashreplace") as text:
            text.write("read\n")
            text.flush()
            assert os.read(ends[0], 100) == b"read\n"
            os.close(ends[0])
            for _ in range(3):
                text.write("\udcff" + "x" * 100_000)
                text.flush()


def test_head_ends_no_command(tmp_path):
    """The reader of stdout and stderr is gone before anything is printed: the work is done, the
    status is its own.
    """
    started = (
        "import os, runpy, sys; read, write = os.pipe(); os.dup2(write, 1); os.dup2(write, 2); "
        "os.close(read);"
    )
    code = (
        f"{started} os.close(write); name = sys.argv.pop(1); runpy.run_module(name, None, "
        "'__main__', True)"
    )
    listed, labels = tmp_path / "list.txt", tmp_path / "labels.csv"
    listed.write_text("gone.mp4 0\nempty.mp4 0\n")
    labels.write_text("id,name\n0,right turn\n")
    (tmp_path / "empty.mp4").touch()
    inputs = [f"--list={listed}", f"--labels={labels}", f"--video_dir={tmp_path}", "--check_only"]
    done = warm.run(
        ["-c", code, "experiments.build_data", *inputs, f"--report={tmp_path}/report.json"]
    )
    assert done.returncode == 2
    problems = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert [problem["kind"] for problem in problems] == ["missing", "unreadable"]
    assert warm.run(["-c", code, "experiments.build_data", "--help"]).returncode == 0
    assert warm.run(["-c", code, "experiments.tfds_build", "--version"]).returncode == 0
