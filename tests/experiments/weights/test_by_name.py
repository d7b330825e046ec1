"""Every command takes a CLIP by its name: from an empty cache and a hub, then without the hub."""

import json
import re
import shutil
from pathlib import Path

import pytest

import vtd_jax
from experiments.reproduce.sources import build_scenes
from support import small_run
from support.hub.server import Fault, Hub, serving
from vtd_jax.clip.weights.checkpoints import TINY_CLIP
from vtd_jax.errors import UserError
from vtd_jax.scenes.sets import SceneSet, write_scene_sets

NAME = "hf:org/small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos, their records, and a CLIP that is moved to the hub."""
    return small_run.build(tmp_path_factory.mktemp("small"))


@pytest.fixture
def hub(folder, monkeypatch, tmp_path):
    """A hub with two CLIPs, one a revision of the other's, and empty caches."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
    made = Hub()
    made.add("org/small", {"model.safetensors": (folder / "clip.safetensors").read_bytes()})
    made.add("org/tiny", {"model.safetensors": TINY_CLIP.read_bytes()})
    with serving(made):
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def _run(name: str, *arguments: object, code: int = 0) -> str:
    """The last line that a command prints, on stderr where it fails."""
    done = small_run.command(name, *map(str, arguments))
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stderr if code else done.stdout).splitlines()[-1]


def _train(folder: Path, workdir: Path, *more: str) -> list[object]:
    flags = [flag for flag in small_run.flags(folder) if "clip.path" not in flag]
    epochs = "--config.optimizer.epochs=1"
    return [*flags, f"--config.clip.path={NAME}", f"--workdir={workdir}", epochs, *more]


@pytest.mark.command
def test_from_an_empty_cache_and_then_without_the_hub(hub, folder, tmp_path, monkeypatch):
    video = folder / "base_val" / "0.mp4"
    predict = [f"--video={video}", "--labels=red,blue", "--frames=2"]
    said = _run("predict", *predict, f"--model={NAME}", code=2)
    assert "hf:org/small: not on this machine; --download or VTD_JAX_DOWNLOAD=1 downloads" in said
    dry = ["--table=base_to_novel", "--splits=1", "--dry_run", f"--workdir={tmp_path / 'tables'}"]

    def everything(place: Path, *more: str) -> None:
        """Each command, and what it writes, by name."""
        assert "no file was written" in _run("predict", *predict, f"--model={NAME}", *more)
        assert "trained to step 3" in _run("train", *_train(folder, place / "run", *more))
        kept = json.loads((place / "run" / "config.json").read_text())
        assert kept["clip"]["path"] == NAME
        model = vtd_jax.load(place / "run")
        assert set(model.predict(video).labels) == set(small_run.BASE)
        out = place / "tuned.safetensors"
        assert "wrote" in _run("export", f"--workdir={place / 'run'}", f"--out={out}")
        assert set(vtd_jax.load(out).class_names) == set(small_run.BASE)
        served = [f"--checkpoint={NAME}", "--labels=a,b", "--platforms=cpu", "--frames=2"]
        assert "zero-shot" in _run("export", *served, f"--out={place / 'two.served'}")
        assert " runs, about " in _run("reproduce", *dry, "--clip=hf:org/tiny", *more)
        copy = place / "copy.safetensors"
        assert "wrote" in _run("convert", f"--source={NAME}", f"--out={copy}")
        assert vtd_jax.load(NAME).weights == vtd_jax.load(copy).weights

    everything(tmp_path / "first", "--download")
    assert hub.gets("/lfs/") == 2
    before = len(hub.requests)
    # neither a hub nor its address
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    everything(tmp_path / "second")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no file was written" in _run("predict", *predict, f"--model={NAME}")
    assert len(hub.requests) == before


@pytest.mark.command
def test_training_on_scenes(hub, tmp_path, monkeypatch):
    made = SceneSet(seed=1, classes=4, train=2, val=1, length=8, size=64)
    write_scene_sets([(made, tmp_path)], workers=1)
    build_scenes(made, tmp_path)
    train = [
        "--config=experiments/configs/scenes.py",
        f"--config.data.data_dir={tmp_path / 'records'}",
        "--config.clip.path=hf:org/tiny",
        "--config.data.batch_size=4",
        "--config.optimizer.epochs=1",
    ]
    said = _run("train", *train, f"--workdir={tmp_path / 'no'}", code=2)
    assert "hf:org/tiny: not on this machine; --download or VTD_JAX_DOWNLOAD=1" in said
    assert not hub.requests
    done = _run("train", *train, f"--workdir={tmp_path / 'run'}", "--download")
    assert done.startswith("trained to step ")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    # another training from the cache is tested above
    assert vtd_jax.load(tmp_path / "run").predict(next((tmp_path / "videos").iterdir()))


FAULTS = {
    "gated": (Fault("api/", "status", status=403, code="GatedRepo"), {}, "gated: accept its terms"),
    "not found": (Fault("api/", "status", status=404, code="RepoNotFound"), {}, "no repository at"),
    "wrong hash": (Fault("/lfs/", "wrong"), {}, "has the hash .*, expected .*; it was removed"),
    "interrupted": (Fault("/lfs/", "abort"), {}, "are kept, the same call resumes"),
    "no hub": (None, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
    "offline": (None, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids to ask"),
    "proxy": (
        None,
        {"HF_ENDPOINT": "http://hub.invalid", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""},
        "through the proxy of http_proxy",
    ),
}


@pytest.mark.command
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_line_of_a_command(hub, folder, tmp_path, monkeypatch, fault):
    kind, settings, message = FAULTS[fault]
    hub.faults += [kind] if kind else []
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    video = folder / "base_val" / "0.mp4"
    command = ["--model=hf:org/tiny", f"--video={video}", "--labels=a,b", "--download"]
    done = small_run.command("predict", *command)
    assert done.returncode == 2, done.stdout + done.stderr
    # what is downloaded is said before
    assert "Traceback" not in done.stderr
    assert re.search(f"^error: hf:org/tiny: .*{message}", done.stderr.splitlines()[-1])
    # nothing with its final name
    assert not list((tmp_path / "hf").rglob("*.safetensors"))


@pytest.mark.command
def test_list_get_and_where(hub, tmp_path):
    assert "weights get hf:org/tiny downloads it" in _run("weights", "where", "hf:org/tiny", code=2)
    assert "--download or VTD_JAX_DOWNLOAD=1" in _run("weights", "get", "hf:org/tiny", code=2)
    path = Path(_run("weights", "get", "hf:org/tiny", "--download"))
    assert path.read_bytes() == TINY_CLIP.read_bytes()
    assert Path(_run("weights", "where", "hf:org/tiny")) == path
    assert _run("weights", "get", "tiny") == str(TINY_CLIP)
    assert "expected one of list, get" in _run("weights", "put", "tiny", code=2)
    for missing in ([], [""]):
        assert "a name is missing" in _run("weights", "get", *missing, code=2)
    assert "expected one as ViT-B/16" in _run("weights", "get", "./x", code=2)
    line = "error: ./x: not on this machine; no such file or folder, and no name"
    assert _run("weights", "where", "./x", code=2) == line


@pytest.mark.slow
def test_a_tuned_model_and_a_run_come_from_the_hub(hub, folder, tmp_path, monkeypatch):
    config = small_run.run_config(folder, clip__path=NAME, optimizer__epochs=1)
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    small_run.train(config, tmp_path / "run")
    own = vtd_jax.load(tmp_path / "run")
    files = {
        path.relative_to(tmp_path / "run").as_posix(): path.read_bytes()
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    hub.add("org/run", files)
    there = vtd_jax.load("hf:org/run")
    assert there.weights == own.weights
    video = folder / "base_val" / "0.mp4"
    assert there.predict(video).top() == own.predict(video).top()
    # the CLIP of the run is resolved by its name, wherever the run is
    shutil.rmtree(tmp_path / "run")
    assert vtd_jax.load("hf:org/run").weights == own.weights
    hub.faults.clear()
    with pytest.raises(UserError, match="is a CLIP itself"):
        vtd_jax.load(NAME, clip="tiny")
