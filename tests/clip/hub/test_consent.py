"""Nothing is asked or sent before consent; a name that a file says needs consent of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

import vtd_jax
from support.hub.server import Fault
from support.hub.store import Store
from support.small_run import run_config
from support.terminal import Terminal
from vtd_jax.clip.hub.resolve import refreshed, resolve
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.errors import UserError
from vtd_jax.model.saved.tuned import save_tuned
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import ZERO_SHOT
from vtd_jax.train.learnt import describe

NAMES = ("hf:org/tiny", "open_clip:ViT-B-16/dfn2b", "gs://bucket/a.pt")


@pytest.fixture
def asked(hub, store, weights, monkeypatch):
    """What the hub and the store were asked; both have something for `NAMES`."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.add("org/tiny", {"model.safetensors": weights})
    hub.add("apple/DFN2B-CLIP-ViT-B-16", {"open_clip_model.safetensors": weights})
    store.pipe_file("gs://bucket/a.pt", b"x")
    Store.asked.clear()
    return lambda: hub.requests + Store.asked


def _run(folder: Path, name: str) -> Path:
    """The folder of a run whose config says this name."""
    (folder / "checkpoints").mkdir(parents=True)
    config = run_config(folder).to_dict()
    config["clip"] |= {"path": name, "architecture": ""}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _tuned(path: Path, name: str, weights: bytes) -> Path:
    """A tuned file that says this name."""
    clip = path.with_name("clip.safetensors")
    clip.write_bytes(weights)
    model = VTDCLIP(load_clip(clip), ZERO_SHOT, rngs=nnx.Rngs(0))
    config = run_config(path.parent).with_changes({"clip.path": name, "clip.architecture": ""})
    save_tuned(path, model, describe(model, config, step=1, class_names=(), learnt_on={}))
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("allowed", ["0", ""])
def test_no_request_is_made_without_consent(asked, monkeypatch, name, allowed):
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", allowed)
    for call in (resolve, refreshed):
        with pytest.raises(UserError, match=r"not on this machine; `download=True` or VTD_JAX_"):
            call(name)
    assert asked() == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("allowed", ["0", "", "1"])
def test_a_run_decides_about_no_request(asked, monkeypatch, tmp_path, name, allowed):
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", allowed)
    run = _run(tmp_path / "run", name)
    with pytest.raises(UserError) as caught:
        vtd_jax.load(run)
    assert str(caught.value) == (
        f"{run}/config.json names {name}, which is not on this machine, and consent to download is "
        f"for what you name yourself: give `clip={name}`, or fetch it first with "
        f"`refreshed` {name}"
    )
    assert asked() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_tuned_file_decides_about_no_request(asked, tmp_path, weights, name):
    file = _tuned(tmp_path / "tuned.safetensors", name, weights)
    with pytest.raises(UserError, match=rf"tuned.safetensors names {name}, .*`clip={name}`"):
        vtd_jax.load(file, download=True)
    assert asked() == []


@pytest.mark.slow
def test_what_the_user_names_or_fetched_before_is_taken(asked, hub, weights, tmp_path, monkeypatch):
    file = _tuned(tmp_path / "tuned.safetensors", "hf:org/tiny", weights)
    predictor = vtd_jax.load(file, clip="hf:org/tiny")
    assert asked()
    hub.requests.clear()
    # now it is here
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "0")
    assert vtd_jax.load(file).description == predictor.description
    assert asked() == []


def test_openais_files_have_hashes_and_are_covered(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", hub.url)
    monkeypatch.chdir(tmp_path)
    hub.faults.append(Fault("RN50.pt", "status", status=404))
    run = _run(tmp_path / "run", "RN50")
    with pytest.raises(UserError, match="does not have it"):
        vtd_jax.load(run, download=True)
    assert len(hub.requests) == 1
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    with pytest.raises(UserError, match=r"`download=True` .* downloads about 254.6 MB from"):
        vtd_jax.load(run)
    assert len(hub.requests) == 1


@pytest.fixture
def typed(monkeypatch):
    """Lets a person at a terminal type lines; what is shown there."""

    def begin(lines: str) -> Terminal:
        shown, keys = Terminal(), io.StringIO(lines)
        monkeypatch.setattr(keys, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", keys)
        monkeypatch.setattr(sys, "stderr", shown)
        monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
        return shown

    return begin


def _sent(hub) -> dict[str, set[str]]:
    """First part of a path -> what was sent there as `Authorization`."""
    found = {}
    for (_, path, _), given in zip(hub.requests, hub.authorizations, strict=True):
        found.setdefault(path.split("/")[1], set()).add(given)
    return found


def test_the_token_is_not_sent_before_the_question(asked, hub, weights, typed):
    shown = typed("y\n")
    assert resolve("hf:org/tiny").path.read_bytes() == weights
    assert shown.getvalue().count("[y/N]") == 1
    assert f"downloading {len(weights) / 1e6:.1f} MB from {hub.url}/org/tiny" in shown.getvalue()
    assert _sent(hub) == {"api": {""}, "org": {"Bearer secret"}, "lfs": {""}}


@pytest.mark.parametrize("name", NAMES)
def test_the_question_comes_before_any_request(asked, typed, name):
    shown = typed("n\n")
    with pytest.raises(UserError, match=r": not downloaded: it .only the (hub|store) knows"):
        resolve(name)
    assert shown.getvalue().count("[y/N]") == 1
    assert asked() == []
    typed("y\n")
    with contextlib.suppress(UserError):
        resolve(name)
    assert asked()


def test_what_is_here_is_asked_for_again_after_a_question(asked, hub, weights, typed, monkeypatch):
    first = resolve("hf:org/tiny").path
    hub.requests.clear()
    for lines, requests in (("n\n", 0), ("y\n", 1)):
        shown = typed(lines)
        assert refreshed("hf:org/tiny").path == first
        assert f"is on this machine. Ask {hub.url}/org/tiny for a newer" in shown.getvalue()
        assert len(hub.requests) == requests


def test_a_copy_of_a_store_is_taken_without_a_question(asked, typed):
    first = resolve("gs://bucket/a.pt").path
    Store.asked.clear()
    shown = typed("")
    assert resolve("gs://bucket/a.pt").path == first
    assert "[y/N]" not in shown.getvalue()
    assert asked() == []


def test_a_private_repository_is_asked_with_the_token_if_a_person_says_so(
    asked, hub, weights, typed
):
    hub.token = "secret"
    shown = typed("y\nn\n")
    with pytest.raises(UserError, match=r"your token was not sent"):
        resolve("hf:org/tiny")
    assert _sent(hub) == {"api": {""}}
    assert f"{hub.url}/org/tiny is not there for everyone. Ask with your token?" in shown.getvalue()
    typed("y\ny\n")
    assert resolve("hf:org/tiny").path.read_bytes() == weights
    # consent beforehand is for both
    hub.requests.clear()
    hub.authorizations.clear()
    assert refreshed("hf:org/tiny", download=True).path.read_bytes() == weights
    assert _sent(hub) == {"api": {"Bearer secret"}}


@pytest.mark.parametrize("oidc", ["", "org/tiny"])
def test_a_token_is_found_without_a_request(asked, hub, tmp_path, monkeypatch, oidc):
    """`get_token` would ask the hub for another one, before consent and without limits."""
    (tmp_path / "token").write_text("hf_file\n")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_OIDC_RESOURCE", oidc)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: pytest.fail("asks the hub"))
    resolve("hf:org/tiny")
    assert _sent(hub)["api"] == {"Bearer hf_file"}
    (tmp_path / "token").write_text("x" * 70_000)
    with pytest.raises(UserError, match="token: 70,000 bytes, expected a token of at most"):
        refreshed("hf:org/tiny")


def test_what_no_token_can_change_is_no_question(asked, hub, typed, monkeypatch):
    shown = typed("y\ny\n")
    with pytest.raises(UserError, match="has no revision 'v9'"):
        resolve("hf:org/tiny@v9")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="no repository at"):
        resolve("hf:org/none")
    assert "your token" not in shown.getvalue()
    assert _sent(hub) == {"api": {""}}


@pytest.mark.command
def test_a_command_with_a_runs_settings(asked, hub, tmp_path):
    run = _run(tmp_path / "run", "hf:org/tiny")
    settings = json.loads((run / "config.json").read_text())
    settings["data"]["train"] = ""
    (run / "config.json").write_text(json.dumps(settings))
    call = [sys.executable, "-m", "experiments.export", f"--config={run}/config.json"]
    call += [f"--out={tmp_path}/out.served", "--labels=a,b", "--download"]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(call, cwd=root, env=os.environ, capture_output=True, text=True)
    assert "config.json names hf:org/tiny, " in done.stderr
    assert "give --config.clip.path=hf:org/tiny, or fetch" in done.stderr
    assert done.returncode == 2
    assert asked() == []
    call.append("--config.clip.path=hf:org/tiny")
    subprocess.run(call, cwd=root, env=os.environ, capture_output=True, text=True)
    assert asked()
