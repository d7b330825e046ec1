"""Every command once, at its smallest: it starts, does its work or plans it, and says so.

These are in the fast tier. What the commands compute, refuse and resume is tested file by file.
"""

import json
import shutil
from pathlib import Path

import pytest

from support import small_run
from support.small_run import ROOT

FILE = "--config=experiments/configs/video_folder.py:train=base_train,evaluate=base_val"


def _run(name: str, *arguments: object) -> str:
    """The last line that a command prints."""
    done = small_run.command(name, *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos, a CLIP and their records, and a run of one epoch in `run`."""
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    flags = [*small_run.flags(folder), f"--workdir={folder / 'run'}"]
    assert _run("train", *flags, "--config.optimizer.epochs=1").startswith("trained to step 3: ")
    return folder


def _build_data(folder, out):
    (folder / "classes" / "red").mkdir(parents=True)
    shutil.copy(folder / "base_train" / "0.mp4", folder / "classes" / "red")
    return f"--source={folder / 'classes'}", f"--data_dir={out}"


# command -> its arguments, and what its last line says
COMMANDS = {
    "aot": lambda folder, out: (
        (
            *small_run.flags(folder),
            "--platform=cuda",
            "--devices=1",
            "--classes=3",
            f"--out={out}.json",
        ),
        f" lowered; wrote {out}.json",
    ),
    # one program: there is no time for the others
    # it serves until it is stopped: tests/app/test_command.py
    "app": lambda folder, out: (("--help",), "Try --helpfull"),
    "benchmark": lambda folder, out: (
        (
            "--what=device",
            "--architecture=tiny",
            "--frames=4",
            "--classes=2",
            "--rounds=1",
            "--minutes=0.01",
            "--notorch",
            f"--out={out}.json",
        ),
        f"wrote {out}.json",
    ),
    "build_data": lambda folder, out: (_build_data(folder, out), f"wrote {out}/"),
    "compare": lambda folder, out: ((folder / "run", folder / "run"), ""),
    "completion": lambda folder, out: (("bash",), "complete -o default -F _vtd vtd"),
    "convert": lambda folder, out: (
        (f"--source={folder / 'clip.safetensors'}", f"--out={out}.safetensors"),
        f"wrote {out}.safetensors: ",
    ),
    "demo": lambda folder, out: (("--help",), "Try --helpfull"),
    "evaluate": lambda folder, out: ((f"--workdir={folder / 'run'}",), "wrote "),
    "export": lambda folder, out: (
        (f"--workdir={folder / 'run'}", f"--out={out}.safetensors"),
        f"wrote {out}.safetensors: ",
    ),
    "index": lambda folder, out: (
        (folder / "base_val", f"--out={out}", "--frames=2"),
        f"{out}: 5 videos (5 added, 0 unchanged)",
    ),
    "parity": lambda folder, out: (("--help",), "Try --helpfull"),
    "predict": lambda folder, out: (
        (
            f"--video={folder / 'base_val' / '0.mp4'}",
            "--labels=red,blue",
            "--frames=2",
            f"--model={folder / 'run'}",
            f"--json={out}.json",
        ),
        f"1 video: wrote {out}.json",
    ),
    "pretrain_tiny_clip": lambda folder, out: (("--help",), "Try --helpfull"),
    "vote_study": lambda folder, out: (("--help",), "Try --helpfull"),
    "report": lambda folder, out: (
        (
            f"--video={folder / 'base_val' / '0.mp4'}",
            "--labels=red,blue",
            "--frames=2",
            f"--report={out}",
        ),
        f"1 video: wrote {out}/index.html",
    ),
    "reproduce": lambda folder, out: (
        ("--table=base_to_novel", "--splits=1", "--dry_run", f"--workdir={out}"),
        " runs, about ",
    ),
    "search": lambda folder, out: (("--help",), "Try --helpfull"),
    "show_batch": lambda folder, out: (
        (f"--out={out}.png",),
        f"wrote {out}.png: ",
    ),
    "tfds_build": lambda folder, out: (("--help",), ""),
    "train": None,
    "weights": lambda folder, out: (("list",), "experiments.weights get NAME downloads one"),
}


def test_every_command_is_here():
    commands = {path.stem for path in (ROOT / "experiments").glob("[a-z]*.py")}
    commands |= {path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py")}
    assert commands == set(COMMANDS)


# they take longest
SLOW = ("aot", "benchmark", "reproduce", "show_batch")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, call in COMMANDS.items()
        if call
    ],
)
def test_command(name, folder, tmp_path):
    arguments, said = COMMANDS[name](folder, tmp_path / "out")
    assert said in _run(name, *arguments)
    if name == "predict":
        assert len(json.loads((tmp_path / "out.json").read_text())["videos"]) == 1
