"""The notebook runs as a reader runs it, with weights by the name that a hub has."""

import os
import re
import shutil
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from support.hub.server import Hub, serving
from vtd_jax.clip.weights.checkpoints import TINY_CLIP

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def book():
    return nbformat.read(NOTEBOOK, as_version=4)


def _texts(cell) -> str:
    """What a cell printed, and the plain form of what it showed."""
    parts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return "".join(parts)


def test_what_is_committed_has_no_outputs(book):
    nbformat.validate(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert "colab-badge.svg" in book.cells[0].source


def test_from_weights_to_trained_prompts(book, monkeypatch, tmp_path):
    made = Hub()
    made.add("org/tiny", {"model.safetensors": TINY_CLIP.read_bytes()})
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    # where `vtd` is
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("vtd")
    [settings] = [cell for cell in book.cells if cell.source.startswith('# "tiny" is')]
    settings.source, count = re.subn('WEIGHTS = "tiny"', 'WEIGHTS = "hf:org/tiny"', settings.source)
    assert count == 1
    where = {"metadata": {"path": str(tmp_path)}}
    with serving(made):
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        # a cell that raises, and a command that fails, end it with an error
        nbclient.NotebookClient(book, timeout=900, kernel_name="python3", resources=where).execute()
    assert "hf:org/tiny, tiny, zero-shot" in _texts(book.cells[5])
    [shown] = [cell for cell in book.cells if cell.source.endswith("\nseen")]
    assert "data:image/" in shown.outputs[-1].data["text/html"]
    rows = re.findall(r"(\w+), (CLIP as it is|trained): (\d+) of 128 right", _texts(book.cells[-2]))
    right = {(half, title): int(count) for half, title, count in rows}
    assert len(right) == 4
    for half in ("base", "novel"):
        assert right[half, "trained"] > right[half, "CLIP as it is"] > 128 / 16
