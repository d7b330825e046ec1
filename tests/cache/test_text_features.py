"""Text features of word lists: exact, kept by what they depend on, never believed when damaged."""

import dataclasses
import functools
import os

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from support.helpers import SMALL, random_state
from vtd_jax.cache import text_features
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

BARE = ModelConfig(text_prompts=0, visual_prompts=0, visual_depth=0, fusion=False)
LEARNT = dataclasses.replace(BARE, text_prompts=3, text_depth=2)
TEMPLATES = dataclasses.replace(BARE, templates=("a photo of {}", "{} again"))
# of several lengths, in no order of length
WORDS = tuple(f"{'very ' * (i * 3 % 4)}long_word {i}" for i in range(21)) + ("綱引き",)


@functools.cache
def _model(config=BARE, seed=0, copy=0):
    """One model for all tests; those that change one take a `copy` of their own."""
    return VTDCLIP(clip_from_state(SMALL, random_state(SMALL, seed)), config, rngs=nnx.Rngs(0))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Files of 8 words, batches of 4."""
    for name, value in {"SHARD": 8, "LEAST": 8, "_BATCH": 4}.items():
        monkeypatch.setattr(text_features, name, value)


@pytest.fixture
def encoded(monkeypatch):
    """Collects the words that were encoded."""
    found, encode = [], text_features.encode_texts

    def collecting(model, words, *others):
        found.extend(words)
        return encode(model, words, *others)

    monkeypatch.setattr(text_features, "encode_texts", collecting)
    return found


def _assert_same(found, expected):
    """Texts of another padding are another program, which rounds otherwise: 1e-6 of a feature's
    length.
    """
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() < 1e-6


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("config", [BARE, LEARNT, TEMPLATES])
def test_features_are_those_of_the_model(config, tmp_path):
    model = _model(config)
    found = TextCache(tmp_path).encode(model, WORDS)
    expected = jax.jit(model.encode_classes)(model.class_tokens(WORDS))
    assert found.dtype == np.float32
    assert found.ctypes.data % 64 == 0
    _assert_same(found, expected)
    np.testing.assert_array_equal(TextCache(tmp_path).encode(model, WORDS), found)


@pytest.mark.slow
def test_a_list_is_encoded_once_and_words_at_the_end_leave_the_rest(tmp_path, encoded):
    model, done = _model(), []
    first = TextCache(tmp_path).encode(model, WORDS[:20])
    assert encoded == list(WORDS[:20])
    assert len(_files(tmp_path)) == 3
    longer = TextCache(tmp_path).encode(model, WORDS, lambda *progress: done.append(progress))
    # two files of 8 are there, the third has other words now
    assert encoded[20:] == list(WORDS[16:])
    _assert_same(longer[:20], first)
    assert done == [(8, 22), (16, 22), (20, 22), (22, 22)]
    # other words, or the same in another order, are other features
    TextCache(tmp_path).encode(model, (WORDS[1], WORDS[0], *WORDS[2:8]))
    assert len(encoded) == 26 + 8


def test_an_encoding_that_was_broken_off_resumes(tmp_path, encoded):
    def stop(done, count):
        if done > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TextCache(tmp_path).encode(_model(), WORDS, stop)
    assert len(_files(tmp_path)) == 1
    encoded.clear()
    TextCache(tmp_path).encode(_model(), WORDS)
    assert encoded == list(WORDS[8:])


@pytest.mark.slow
def test_other_weights_prompts_or_settings_are_other_features(tmp_path):
    cache, models = (
        TextCache(tmp_path),
        [_model(), _model(seed=1), _model(TEMPLATES), _model(LEARNT)],
    )
    models.append(_model(LEARNT, copy=1))
    models[-1].text_prompts[...] = models[-1].text_prompts[...] + 0.1
    names = [cache._file(model, list(WORDS)).name for model in models]
    assert len(set(names)) == len(models)
    assert [TextCache(tmp_path)._file(model, list(WORDS)).name for model in models] == names
    # the image side, the metric and the like change nothing
    other = _model(dataclasses.replace(BARE, assignment="cosine", top_n=3))
    assert cache._file(other, list(WORDS)).name == names[0]


def test_weights_are_hashed_once(tmp_path, monkeypatch):
    cache, model = TextCache(tmp_path), _model(LEARNT, copy=2)
    before = cache._weights(model)
    monkeypatch.setattr(jax, "device_get", None)
    assert cache._weights(model) == before
    # training changed them: they must be looked at again
    model.text_prompts[...] = model.text_prompts[...] + 1
    with pytest.raises(TypeError):
        cache._weights(model)


@pytest.mark.parametrize(
    "damage",
    [
        lambda x: x[:-9],
        lambda x: x[:200] + b"?" + x[201:],
        lambda x: b"",
        # the header is not part of the checksum
        lambda x: (200).to_bytes(8, "little") + b"[" * 200 + x[200:],
        lambda x: x.replace(b"[8,", b"[9,"),
        lambda x: x.replace(b'"F32"', b'"I32"'),
        lambda x: x.replace(b'"rows"', b'"cows"'),
        lambda x: (2**40).to_bytes(8, "little") + x[8:],
        "pipe",
        None,
    ],
)
def test_a_damaged_file_is_reported_and_made_again(damage, tmp_path, capsys, encoded):
    model = _model()
    expected = TextCache(tmp_path).encode(model, WORDS[:16])
    file = TextCache(tmp_path)._file(model, list(WORDS[:8]))
    content = file.read_bytes()
    np.testing.assert_array_equal(load_file(file)["rows"], expected[:8])
    file.unlink()
    if damage == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir() if damage is None else file.write_bytes(damage(content))
    encoded.clear()
    if damage is None:
        with pytest.raises(UserError, match="VTD_JAX_CACHE"):
            TextCache(tmp_path).encode(model, WORDS[:16])
        return
    _assert_same(TextCache(tmp_path).encode(model, WORDS[:16]), expected)
    assert encoded == list(WORDS[:8])
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {file}: damaged text features")
    assert message.count("\n") == 1
    assert file.read_bytes() == content


def test_short_lists_leave_no_files(tmp_path):
    found = TextCache(tmp_path / "none").encode(_model(), WORDS[:3])
    assert found.shape == (3, SMALL.embed_dim)
    assert not (tmp_path / "none").exists()


def test_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path))
    assert TextCache().folder == tmp_path
    assert TextCache(tmp_path / "own").folder == tmp_path / "own"
    monkeypatch.delenv("VTD_JAX_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TextCache().folder == tmp_path / ".cache" / "vtd_jax"


def test_a_folder_that_cannot_be_written_is_reported_before_the_work(
    tmp_path, monkeypatch, encoded
):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError,
        match=r"file/cache: text features cannot be kept .*; set VTD_JAX_CACHE to a folder",
    ):
        TextCache(tmp_path / "file" / "cache").encode(_model(), WORDS)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"no permission.*VTD_JAX_CACHE"):
        TextCache(tmp_path).encode(_model(), WORDS)
    assert encoded == []


def test_in_a_folder_that_everybody_can_write_nothing_is_read_or_kept(tmp_path, capsys):
    TextCache(tmp_path).encode(_model(), WORDS)
    files = sorted(tmp_path.iterdir())
    for file in files:
        file.write_bytes(b"planted")
    tmp_path.chmod(0o777)
    found = TextCache(tmp_path).encode(_model(), WORDS)
    np.testing.assert_allclose(
        found, TextCache(tmp_path / "own").encode(_model(), WORDS), rtol=0, atol=0
    )
    assert capsys.readouterr().err.count("warning: text features are neither read nor kept") == 1
    assert all(file.read_bytes() == b"planted" for file in files)


def test_what_cannot_be_encoded_is_reported(tmp_path):
    with pytest.raises(UserError, match="no words"):
        TextCache(tmp_path).encode(_model(), ())
    with pytest.raises(UserError, match=r"among words 9 to 16: text too long for CLIP: 'x7 x7"):
        TextCache(tmp_path).encode(_model(), (*WORDS[:10], "x7 " * 60, *WORDS[10:]))
    # what came before stays
    assert len(_files(tmp_path)) == 1
