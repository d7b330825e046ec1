"""A hub with nothing in it, an empty cache, and a small CLIP for it."""

import fsspec
import pytest

from support.helpers import random_state
from support.hub.allowed import allowed_hub
from support.hub.store import Store
from support.small_run import SMALL
from vtd_jax.clip.weights.checkpoints import save_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    """A small CLIP as safetensors that say everything themselves."""
    path = tmp_path_factory.mktemp("clip") / "model.safetensors"
    save_clip(path, SMALL, random_state(SMALL))
    return path.read_bytes()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache and a hub; downloads are allowed."""
    with allowed_hub(monkeypatch, tmp_path) as found:
        yield found


@pytest.fixture
def store(monkeypatch, tmp_path):
    """An empty store and an empty cache; copies are allowed."""
    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, Store, clobber=True)
    Store.store.clear()
    Store.asked.clear()
    Store.pseudo_dirs[:] = [""]
    monkeypatch.setattr(Store, "down", False)
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    return fsspec.filesystem("gcs")
