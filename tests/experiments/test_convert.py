"""`python -m experiments.convert`, as a user runs it."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import warm
from support.helpers import SMALL, random_state
from support.weights import torch_files as tf
from support.weights.encoders import SIGLIP, small_clip
from vtd_jax.clip.weights.checkpoints import load_clip, read_checkpoint, save_clip

pytestmark = pytest.mark.command

CONFIG = dataclasses.replace(SMALL, vocab_size=96, context_length=8)
ROOT = Path(__file__).resolve().parents[2]


def convert(*flags: str) -> subprocess.CompletedProcess:
    return warm.run(["-m", "experiments.convert", *flags])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return tf.save(
        tmp_path_factory.mktemp("source") / "clip.pt", tf.state_dict(random_state(CONFIG))
    )


def test_converts_and_reads_back(tmp_path, source):
    out = tmp_path / "new" / "clip.safetensors"
    done = convert(
        f"--source={source}",
        f"--out={out}",
        "--dtype=float16",
        "--activation=gelu",
        "--head_width=32",
    )
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    assert line.startswith(f"wrote {out}: ViT/16 2 layers")
    assert "float16" in line
    config, state = read_checkpoint(out)
    assert config == dataclasses.replace(CONFIG, activation="gelu", vision_head_width=32)
    for name, array in random_state(CONFIG).items():
        np.testing.assert_array_equal(state[name], array.astype(np.float16))
    assert [entry.name for entry in out.parent.iterdir()] == ["clip.safetensors"]


def test_refuses_in_one_line(tmp_path, source):
    folder = source.parent
    text = tmp_path / "page.pt"
    text.write_text("<html></html>")
    for flags, message in (
        ((f"--source={source}", f"--out={tmp_path}/a.npz"), "the name must end in .safetensors"),
        (
            (f"--source={folder}", f"--out={folder}/a.safetensors"),
            f"--out={folder}/a.safetensors: is inside --source={folder}",
        ),
        ((f"--source={text}", f"--out={tmp_path}/a.safetensors"), "a web page"),
    ):
        done = convert(*flags)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [text]


def test_weights_that_do_not_say_their_activation(tmp_path, source):
    video = tmp_path / "x.mp4"
    video.touch()
    predict = ["-m", "experiments.predict", f"--model={source}", f"--video={video}", "--labels=a,b"]
    for done in (
        convert(f"--source={source}", f"--out={tmp_path}/a.safetensors"),
        warm.run(predict),
    ):
        assert done.returncode == 2
        assert (
            "attention heads: not in the weights, and nothing beside them says"
            in done.stderr.splitlines()[-1]
        )
    # with the flags it is loaded; texts are of more tokens than this small one has
    done = warm.run([*predict, "--activation=gelu", "--head_width=32"])
    assert (done.returncode, "this CLIP has 96 tokens" in done.stderr.splitlines()[-1]) == (2, True)
    assert "note: " in done.stderr
    assert list(tmp_path.iterdir()) == [video]


def test_help_has_examples():
    command = [sys.executable, "-m", "experiments.convert", "--help"]
    message = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120).stdout
    assert "--source=ViT-B-16.pt --out=ViT-B-16.safetensors" in message


def test_a_tokenizer_goes_along(tmp_path):
    clip = small_clip(SIGLIP)
    state = random_state(SIGLIP, 3)
    save_clip(tmp_path / "from.safetensors", SIGLIP, state, tokenizer=clip.tokenizer)
    out = tmp_path / "new" / "to.safetensors"
    done = convert(f"--source={tmp_path}/from.safetensors", f"--out={out}", "--dtype=float16")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(
        f", and its tokenizer {out.parent}/to.tokenizer.json"
    )
    again = load_clip(out)
    assert (again.config, again.tokenizer) == (SIGLIP, clip.tokenizer)
    # what is read is never written over
    (tmp_path / "from.tokenizer.json").rename(tmp_path / "tokenizer.json")
    (tmp_path / "b.tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    done = convert(f"--source={tmp_path}/from.safetensors", f"--out={tmp_path}/b.safetensors")
    assert done.returncode == 2
    assert "b.tokenizer.json: is " in done.stderr
    assert "which would be overwritten" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "b.safetensors").exists()
