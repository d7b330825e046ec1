"""A hub with nothing in it, and an empty cache, for the length of a test."""

import contextlib

from support.hub.server import serving


@contextlib.contextmanager
def allowed_hub(monkeypatch, tmp_path):
    """An empty cache and a hub; downloads are allowed."""
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found
