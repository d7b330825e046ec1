"""CLIPs of other designs by their names: what they need beside the weights comes along."""

import pytest

from support.helpers import random_state
from support.weights.encoders import SIGLIP, tokenizer, write_siglip
from vtd_jax.clip.weights.checkpoints import load_clip


@pytest.mark.slow
def test_a_tokenizer_comes_with_the_weights(hub, tmp_path, monkeypatch):
    (tmp_path / "original").mkdir()
    folder = write_siglip(tmp_path / "original", random_state(SIGLIP, 3))
    hub.add("org/siglip", {path.name: path.read_bytes() for path in folder.iterdir()})
    clip = load_clip("hf:org/siglip")
    assert clip.config == SIGLIP
    assert clip.tokenizer == tokenizer()
    # and from the cache
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_clip("hf:org/siglip").tokenizer == tokenizer()
