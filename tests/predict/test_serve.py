"""A served model gives what the package gives, without it; what cannot be served is reported."""

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from jax import export

from support import warm
from support.helpers import served_example
from support.small_model import LEARNT, served_model
from support.small_run import SMALL
from support.video_files import make_audio, make_video
from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.predict.serve import encode_labels, write_served
from vtd_jax.video.clip import read_clip
from vtd_jax.video.scaling.fit import Fit

LABELS = ("red", "a green thing", "grüne Wiese")


def expected(model, frames, code=None):
    """What the package computes."""
    model = model.with_compute(Compute())
    code = encode_labels(model, LABELS) if code is None else code
    out = nnx.jit(lambda model, *args: model(*args))(model, frames, code)
    return {
        "scores": jax.nn.softmax(out.logits),
        "logits": out.logits,
        "assignment": out.assignment,
        "confidence": out.confidence,
    }


def assert_same(found, expected):
    for name in ("scores", "confidence"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-5, atol=1e-5 * 100)
    np.testing.assert_array_equal(found["assignment"], expected["assignment"])
    assert {name: array.dtype.name for name, array in found.items()} == {
        "scores": "float32",
        "logits": "float32",
        "assignment": "int32",
        "confidence": "float32",
    }


def random_frames(videos, frames=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (videos, frames, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return served_model(**LEARNT, fusion=True, top_n=2)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """Prompts of both towers, fusion of two tokens, for all platforms."""
    folder = tmp_path_factory.mktemp("served") / "new" / "small.served"
    write_served(folder, model, LABELS, 2, about={"source": "a test", "step": 7})
    return folder


@pytest.fixture(scope="module")
def served(folder):
    return served_example(folder).Served(folder)


@pytest.mark.slow
def test_the_program_gives_what_the_package_gives(model, served):
    frames = random_frames(3)
    assert_same(served(frames), expected(model, frames))


@pytest.mark.slow
def test_a_bfloat16_model_that_learnt_nothing(tmp_path):
    changes = {"pooling": "softmax_mean", "assignment": "cosine", "normalization": "clip"}
    half = dataclasses.replace(
        SMALL, preprocessing=Preprocessing((0.5,) * 3, (0.25,) * 3, "squash")
    )
    model, frames, place = (
        served_model("bfloat16", half, **changes),
        random_frames(2, frames=1),
        tmp_path / "x.served",
    )
    code = np.random.default_rng(1).standard_normal((3, SMALL.embed_dim), np.float32)
    # the path of its CLIP, which need not be UTF-8
    source = {"source": "caf\udce9.pt"}
    message = write_served(place, model, LABELS, 1, platforms=("cpu",), codebook=code, about=source)
    assert json.loads((place / "about.json").read_text())["origin"] == source
    assert (message["dtype"], message["platforms"]) == ("bfloat16", ["cpu"])
    served = served_example(place).Served(place)
    assert_same(served(frames), expected(model, frames, code))
    assert model.clip.text is not None, "the model itself is as it was"
    # statistics and scaling of its CLIP go with it
    settings = message["preprocessing"]
    assert (settings["mean"], settings["deviation"], settings["squash"]) == (
        [0.5] * 3,
        [0.25] * 3,
        True,
    )
    video = make_video(tmp_path / "wide.mp4", 3)
    seen = served.read_clip(video)
    np.testing.assert_array_equal(seen, read_clip(video, 1, 32, fit=Fit(squash=True)).frames)
    assert np.abs(seen.astype(int) - read_clip(video, 1, 32).frames).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, changes",
    [
        (SMALL, {"pooling": "mean", "confidence": "uniform"}),
        (CLIPConfig(32, 32, (1, 1, 1, 1), 2, None, 64, text_layers=1), {}),
    ],
    ids=["mean, uniform", "ResNet"],
)
def test_other_models_can_be_written(config, changes, tmp_path):
    code = np.ones((4, config.embed_dim), np.float32)
    message = write_served(
        tmp_path / "x.served",
        served_model(config=config, **changes),
        list("abcd"),
        5,
        codebook=code,
    )
    shapes = {name: output["shape"] for name, output in message["outputs"].items()}
    assert shapes == {
        "scores": ["b", 4],
        "logits": ["b", 4],
        "assignment": ["b", 5],
        "confidence": ["b", 5, 4],
    }


def test_what_lies_in_the_folder(folder, served):
    assert sorted(path.name for path in folder.iterdir()) == [
        "about.json",
        "predict.py",
        "program.jaxexport",
        "weights.npz",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["small.served"]
    exported = export.deserialize(bytearray((folder / "program.jaxexport").read_bytes()))
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    assert list(exported.platforms) == about["platforms"] == ["cpu", "cuda", "tpu"]
    assert exported.calling_convention_version == about["calling_convention_version"]
    assert (about["labels"], about["frames"], about["size"], about["short_side"]) == (
        list(LABELS),
        2,
        32,
        37,
    )
    assert (about["origin"], about["architecture"]) == (
        {"source": "a test", "step": 7},
        SMALL.architecture,
    )
    assert about["inputs"]["frames"] == {"shape": ["b", 2, 32, 32, 3], "dtype": "uint8"}
    assert {name: message["shape"] for name, message in about["outputs"].items()} == {
        "scores": ["b", 3],
        "logits": ["b", 3],
        "assignment": ["b", 2],
        "confidence": ["b", 2, 3],
    }
    with np.load(folder / "weights.npz") as weights:
        names, dtypes = set(weights.files), {weights[name].dtype.name for name in weights.files}
        assert weights["codebook"].shape == (3, SMALL.embed_dim)
    assert dtypes == {"float32"}
    assert {"visual_prompts", "logit_scale", "fusion.fc1.kernel", "clip.visual.proj"} <= names
    assert not [name for name in names if "text" in name or "token" in name]
    with pytest.raises(
        ValueError,
        match=r"frames \(1, 3, 32, 32, 3\) of uint8, expected uint8 \(videos, 2, 32, 32, 3\)",
    ):
        served(random_frames(1, frames=3))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A wide one, one of a single frame, an upright phone video, one whose container does not count
    its frames.
    """
    folder = tmp_path_factory.mktemp("videos")
    wide = make_video(folder / "wide.mp4", 13, width=96, height=48)
    one = make_video(folder / "one.mp4", 1)
    data = bytearray(wide.read_bytes())
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    (folder / "upright.mp4").write_bytes(data)
    return [
        wide,
        one,
        folder / "upright.mp4",
        make_video(folder / "uncounted.webm", 7),
        make_video(folder / "a.avi", 9),
    ]


@pytest.mark.parametrize("frames", [1, 4])
def test_the_example_reads_the_same_pixels(videos, folder, frames):
    reader = served_example(folder).read_clip
    for video in videos:
        np.testing.assert_array_equal(
            reader(video, frames, 32), read_clip(video, frames, 32).frames, err_msg=str(video)
        )


@pytest.mark.shared
def test_the_example_reads_real_clips_the_same(folder, shared_dir):
    reader = served_example(folder).read_clip
    for video in (
        shared_dir / "videos" / "applying_makeup.avi",
        shared_dir / "videos" / "hugging.mp4",
    ):
        np.testing.assert_array_equal(
            reader(video, 3, 64), read_clip(video, 3, 64).frames, str(video)
        )


ALONE = """
import runpy, sys
for name in ("vtd_jax", "flax", "experiments", "safetensors", "jaxtyping"):
    sys.modules[name] = None  # importing it is an error from here on
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_runs_without_the_package(folder, served, videos, tmp_path):
    place = shutil.copytree(folder, tmp_path / "elsewhere")
    sound, missing = make_audio(tmp_path / "sound.m4a"), tmp_path / "no.mp4"
    # a name that is not UTF-8, as strict as most terminals are
    odd = shutil.copy(videos[2], tmp_path / os.fsdecode(b"caf\xe9\x1b.mp4"))
    call = [
        sys.executable,
        "-c",
        ALONE,
        str(place / "predict.py"),
        *videos[:2],
        odd,
        missing,
        f"{sound}",
        "--json",
    ]
    environment = dict(
        os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", PYTHONIOENCODING="utf-8:strict"
    )
    done = subprocess.run(
        call,
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.stderr.splitlines() == [
        f"error: {missing}: No such file or directory",
        f"error: {sound}: no video in it",
    ]
    assert done.returncode == 2
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["video"] for one in found] == [
        *map(str, videos[:2]),
        f"{tmp_path}/caf\\xe9\x1b.mp4",
    ]
    # there one video at a time, here several
    out = served(np.stack([read_clip(video, 2, 32).frames for video in videos[:3]]))
    for row, one in enumerate(found):
        scores = dict(zip(LABELS, out["scores"][row]))
        assert {top["label"]: top["score"] for top in one["top"]} == pytest.approx(scores, abs=1e-5)
        assert one["label"] == max(scores, key=scores.get)
        assert one["words"] == [LABELS[k] for k in out["assignment"][row]]
