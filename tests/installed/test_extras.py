"""Extras: what brings which package, and the line about one that is not installed."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import vtd_jax
from vtd_jax.errors import UserError
from vtd_jax.installed import extras
from vtd_jax.retrieval.mteb_encoder import MTEBEncoder

ROOT = Path(vtd_jax.__file__).resolve().parents[1]


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _names(requirements: list[str]) -> set[str]:
    """Packages of requirements, spelled as pip compares them."""
    names = (re.match(r"[\w.-]+", one)[0] for one in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def _without(monkeypatch, *absent: str) -> None:
    """Has these modules seem not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else find(name)
    )


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_brings_its_packages_and_nothing_else_does(extra):
    project = _project()
    brought = _names(project["optional-dependencies"][extra])
    packages = _names(list(extras.EXTRAS[extra].values()))
    assert packages <= brought
    assert not packages & _names(project["dependencies"])


def test_extras_that_bring_others():
    optional = _project()["optional-dependencies"]
    assert "vtd-jax[data]" in optional["train"]
    # mteb brings PyTorch
    all_but = set(re.findall(r"\w+", optional["all"][0].partition("[")[2])) | {"mteb"}
    assert set(extras.EXTRAS) == all_but


@pytest.mark.parametrize(
    "module, wanted, said",
    [
        ("grain", (), "grain: pip install -e '.[train]'"),
        ("grain.python", ("train", "figures"), "grain: pip install -e '.[train,figures]'"),
        # `train` brings what `data` has
        ("tensorflow_datasets.core", (), "tensorflow-datasets: pip install -e '.[data]'"),
        ("tensorflow_datasets", ("train",), "tensorflow-datasets: pip install -e '.[train]'"),
        # of another extra than those of the command
        ("skimage", ("train",), "scikit-image: pip install -e '.[verify]'"),
        ("numpy", ("train",), None),
        ("", (), None),
    ],
)
def test_what_brings_a_module(module, wanted, said):
    assert extras.missing(module, wanted) == said


def test_what_is_lacking(monkeypatch):
    assert extras.lacking(["train", "figures"]) is None
    extras.need("matplotlib", "a picture")
    _without(monkeypatch, "array_record", "matplotlib")
    assert extras.lacking(["train"]) == "array_record"
    assert extras.lacking(["figures"]) == "matplotlib"
    with pytest.raises(UserError, match=r"a picture needs matplotlib: pip install .*\[figures\]'"):
        extras.need("matplotlib", "a picture")


def test_mteb_is_asked_for_before_a_model_is_loaded(monkeypatch):
    _without(monkeypatch, "mteb")
    with pytest.raises(UserError, match=r"MTEBEncoder needs mteb: pip install .*\[mteb\]'"):
        MTEBEncoder("no such model")
