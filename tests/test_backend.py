"""A platform that is not there: one line that says what to install."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import vtd_jax
from vtd_jax.backend import check_backend, no_backend
from vtd_jax.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def asked(monkeypatch):
    """JAX as it is where a platform of JAX_PLATFORMS cannot be used."""

    def ask(platforms, error):
        jaxs = {"__name__": "jax._src.xla_bridge", "error": error}
        exec("def fail(): raise error", jaxs)
        monkeypatch.setattr(jax, "local_devices", jaxs["fail"])
        monkeypatch.setattr(type(jax.config), "jax_platforms", platforms)

    return ask


@pytest.mark.parametrize(
    "platforms, remedy",
    [
        ("cuda", "On a machine with an NVIDIA GPU: pip install 'jax[cuda13]=="),
        ("gpu", "pip install 'jax[cuda13]=="),
        ("tpu", "On a machine with a TPU: pip install 'jax[tpu]=="),
        ("metal", "Expected cpu, cuda or tpu, or a platform whose JAX plugin is installed"),
    ],
)
def test_what_to_install(platforms, remedy, asked):
    message = (
        f"Unable to initialize backend '{platforms}': no plugin. (you may need to uninstall the "
        "failing plugin)"
    )
    # JAX says so, or, on a machine without a GPU, asserts without a word
    for error in (RuntimeError(message), AssertionError()):
        asked(platforms, error)
        for call in (check_backend, lambda: vtd_jax.load("tiny")):
            with pytest.raises(UserError) as found:
                call()
            assert str(found.value).startswith(
                f"JAX_PLATFORMS={platforms}: Unable to initialize backend '{platforms}'"
            )
            assert remedy in str(found.value)
            assert "you may need to" not in str(found.value)


def test_other_errors_stay_what_they_are(asked, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    for platforms, error in (("cpu", RuntimeError("out of memory")), ("", AssertionError())):
        asked(platforms, error)
        assert no_backend(error) is None
        with pytest.raises(type(error)):
            check_backend()
    asked("cuda", None)
    # an assertion of ours
    assert no_backend(AssertionError()) is None


@pytest.mark.slow
def test_a_command_says_it_first():
    call = [sys.executable, "-m", "experiments.predict", "--video=nothing.mp4"]
    environment = dict(os.environ, JAX_PLATFORMS="cuda")
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: JAX_PLATFORMS=cuda: Unable to initialize backend 'cuda'")
    assert "pip install 'jax[cuda13]==" in line
