"""Commands on untrusted weights, settings and names that the corpus lacks, end to end."""

import json
import os

import pytest

from hostile import harness
from hostile.corpus import weights
from support import small_run
from support.video_files import make_video
from support.weights import torch_files
from vtd_jax.printable import printable

pytestmark = pytest.mark.command

# sets a title, colours, turns text around, moves to another line, and begins a control sequence in
# one character
ACTING = weights.ACTING


def _convert(path, tmp_path, *texts, also=()):
    flags = [
        f"--source={path}",
        f"--out={tmp_path / 'out.safetensors'}",
        "--activation=gelu",
        "--head_width=32",
    ]
    harness.check_refused("convert", [*flags, *also], folder=tmp_path, texts=texts)


def test_pipes_devices_and_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    _convert(tmp_path / "pipe.pt", tmp_path, "pipe.pt: a pipe, expected a checkpoint")
    (tmp_path / "hf").mkdir()
    os.mkfifo(tmp_path / "hf" / "model.safetensors.index.json")
    _convert(tmp_path / "hf", tmp_path, "a pipe, expected a JSON file")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    _convert(tmp_path / "zero.safetensors", tmp_path, "a device, expected a")


def test_names_of_files_that_act_on_a_terminal(tmp_path):
    path = tmp_path / f"{ACTING}.pt"
    path.write_bytes(b"nothing")
    # a line end in a message becomes a blank, as in every message
    _convert(path, tmp_path, "not a checkpoint that is known here")
    _convert(
        tmp_path / "none", tmp_path, printable(ACTING.replace("\n", " ")), also=[f"--{ACTING}=1"]
    )


def test_streams_that_take_for_ever(tmp_path):
    stream = (
        b"ctorch.jit._pickle\nbuild_intlist\nq\x00("
        + b"N" * 300_000
        + b"tq\x01"
        + b"h\x00h\x01R" * 130_000
    )
    path = torch_files.save_raw(tmp_path / "x.pt", b"\x80\x02" + stream + b".")
    _convert(path, tmp_path, str(path), "copied over and over")


def _run(folder, **changes):
    """The folder of a run without anything learnt, as a stranger may send it."""
    run = folder / "run"
    make_video(folder / "video.mp4", 4)
    (run / "checkpoints").mkdir(parents=True)
    fields = small_run.run_config(folder).to_dict()
    for name, value in changes.items():
        group, _, last = name.rpartition("__")
        (fields[group] if group else fields)[last] = value
    (run / "config.json").write_text(json.dumps(fields))
    return run


SETTINGS = {
    "frames": ({"data__frames": 10**9}, "data.frames: 1000000000, expected at most"),
    "prompts": ({"model__text_prompts": 10**9}, "model.text_prompts: 1000000000"),
    "path": ({"clip__path": 5}, "clip.path: 5, expected str"),
    "name": ({"name": ACTING + "x" * 100_000}, "name: '"),
    "pipe": ({"clip__path": "pipe.pt"}, "pipe.pt: a pipe, expected a checkpoint"),
}


@pytest.mark.parametrize("changes, message", SETTINGS.values(), ids=SETTINGS)
def test_settings_of_a_run(tmp_path, changes, message):
    os.mkfifo(tmp_path / "pipe.pt")
    changes = {k: str(tmp_path / v) if v == "pipe.pt" else v for k, v in changes.items()}
    run = _run(tmp_path, **changes)
    flags = [f"--model={run}", f"--video={tmp_path}", "--labels=red,blue"]
    harness.check_refused("predict", flags, folder=tmp_path, texts=[message])


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"9" * 5000, b"\0" * 100], ids=["brackets", "digits", "zeros"]
)
def test_texts_of_a_run(tmp_path, text):
    run = _run(tmp_path)
    (run / "config.json").write_bytes(text)
    flags = [f"--model={run}", f"--video={tmp_path}", "--labels=red,blue"]
    harness.check_refused("predict", flags, folder=tmp_path, texts=[str(run / "config.json")])


def test_flags_have_an_end_too(tmp_path):
    config = "--config=experiments/configs/video_folder.py:train=list,evaluate=list"
    flags = [config, f"--workdir={tmp_path / 'run'}", "--config.data.frames=1000000000"]
    harness.check_refused(
        "train",
        flags,
        folder=tmp_path,
        outputs=[tmp_path / "run"],
        texts=["data.frames: 1000000000"],
    )
