"""Codes of texts: only new ones are encoded, and they are the codebook's, in NumPy or compiled."""

import dataclasses
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from support.helpers import SMALL, random_state
from support.small_model import LABELS, NONE, WORDS, small_model
from vtd_jax.app.text import host_text
from vtd_jax.app.text import kept_texts as texts
from vtd_jax.app.text import programs as text_programs
from vtd_jax.app.text.host_text import HostTexts
from vtd_jax.app.text.kept_texts import KeptTexts
from vtd_jax.app.text.programs import TextPrograms
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.vtd_clip import VTDCLIP

LONG = tuple(f"{'a very ' * n}long text" for n in range(1, 12))
CLOSE = dict(rtol=1e-5, atol=1e-5)
WAYS = {"host": HostTexts, "programs": TextPrograms}
SLOW = [
    {},
    {"text_depth": 1},
    {"text_prompts": 5, "text_depth": 2},
    {**NONE, "templates": ("a {}", "one {}, seen")},
]
SETTINGS = [NONE, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)]


def encoded(way, names) -> np.ndarray:
    """Codes in the order of the names."""
    found = {}
    for batch in way.batches(names):
        found |= dict(zip(batch.texts, way.encode(batch), strict=True))
    return np.stack([found[name] for name in names])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_codes_are_those_of_the_codebook(settings, way):
    model = small_model(**settings)
    names = (*LABELS, *WORDS, *LONG[:3])
    expected = TextCache(None).encode(model, names)
    np.testing.assert_allclose(encoded(WAYS[way](model), names), expected, **CLOSE)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_tanh"])
def test_every_activation_is_that_of_the_tower(activation):
    config = dataclasses.replace(SMALL, activation=activation)
    clip = clip_from_state(config, random_state(config))
    model = VTDCLIP(clip, ModelConfig(**NONE), rngs=nnx.Rngs(0))
    expected = TextCache(None).encode(model, LABELS)
    np.testing.assert_allclose(encoded(HostTexts(model), LABELS), expected, **CLOSE)


def test_numpy_encodes_for_a_cpu_in_float32_and_programs_all_else(monkeypatch):
    model = small_model(**NONE)
    assert HostTexts.takes(model)
    assert isinstance(KeptTexts(model)._way, HostTexts)
    half = VTDCLIP(
        clip_from_state(SMALL, random_state(SMALL), dtype="bfloat16"),
        ModelConfig(**NONE),
        rngs=nnx.Rngs(0),
    )
    assert not HostTexts.takes(half)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not HostTexts.takes(model)


def test_only_new_texts_are_encoded():
    kept = KeptTexts(small_model(**NONE))
    kept.encode(LABELS)
    known = kept.known([*LABELS, "new"])
    assert list(known) == list(LABELS)
    assert kept.table(LABELS) is None
    table = kept.keep(LABELS, known)
    assert kept.table((*LABELS,)) is table
    assert kept.table(LABELS[:2]) is None


def test_texts_are_encoded_beside_those_that_begin_alike():
    kept = KeptTexts(small_model(**NONE))
    names = ["b a", "a b c", "b", "a", "b a c", "a b"]
    found = kept.arranged(names, [kept.tokens(names)])
    assert [names[0] for names in found] == ["a", "a", "a", "b", "b", "b"]
    # and for programs by length
    tokens = kept._model.class_tokens(["a b c d", "a", "a b c", "b", "a b"])
    assert TextPrograms.arranged(tokens).tolist() == [1, 3, 4, 2, 0]


def _nodes(model, names) -> int:
    """Tokens that are computed for names; each is as many as the beginnings that they have."""
    way, found = HostTexts(model), []
    seen, way._through = (
        way._through,
        lambda block, x, *more: found.append(len(x)) or seen(block, x, *more),
    )
    encoded(way, names)
    return sum(found) // len(way._blocks)


def test_what_texts_begin_with_is_computed_once():
    model = small_model(**NONE)
    # red, one of three words, an end each
    assert _nodes(model, ["red circle", "red star", "red dog"]) == 1 + 3 + 3
    assert _nodes(model, ["red", "red dog", "red dog house"]) == 3 + 3
    words = [f"{name}" for name in WORDS]
    # red, blue and pale, each with four others
    assert _nodes(model, words) == 3 + 12 + 12
    # the words of a template, too
    templates = small_model(**{**NONE, "templates": ("a photo of {}", "a {}")})
    # a, photo, of; behind each of "a" and "of" the labels
    assert _nodes(templates, words) == 3 + 2 * (3 + 12 + 12)


@pytest.mark.parametrize("tokens", [1, 7, 64])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_portions_of_any_size_are_the_same(settings, tokens, monkeypatch):
    model = small_model(**settings)
    names = (*WORDS, *LABELS, "a", "a a", "a a a", *LONG[:3])
    expected = TextCache(None).encode(model, names)
    monkeypatch.setattr(host_text, "_TOKENS", tokens)
    monkeypatch.setattr(host_text, "_TEXTS", 5)
    np.testing.assert_allclose(encoded(HostTexts(model), names), expected, **CLOSE)


def test_tables_are_few():
    kept = KeptTexts(small_model(**NONE))
    codes = {"a": np.zeros(4, np.float32)}
    first = ("a",)
    kept.keep(first, codes)
    for number in range(2, 12):
        kept.keep(("a",) * number, codes)
    assert kept.table(first) is None
    assert kept.table(("a",) * 11) is not None


def test_the_least_recently_used_codes_go(monkeypatch):
    model = small_model(**NONE)
    each = sys.getsizeof("a") + 4 * model.clip.config.embed_dim
    monkeypatch.setattr(texts, "_KEPT_BYTES", 3 * each)
    kept = KeptTexts(model)

    kept.encode(["a", "b", "c"])
    kept.known(["a"])
    kept.encode(["d"])
    assert sorted(kept.known(["a", "b", "c", "d"])) == ["a", "c", "d"]


def test_long_texts_count_for_what_is_kept(monkeypatch):
    # blanks are no tokens
    long = [f"{letter}{' ' * 4000}" for letter in "abcdef"]
    model = small_model(**NONE)
    monkeypatch.setattr(texts, "_KEPT_BYTES", 3 * (4100 + 4 * model.clip.config.embed_dim))
    kept = KeptTexts(model)
    for _ in range(2):
        kept.encode(long)
        assert len(kept.known(long)) == 3
    kept.encode([str(number) for number in range(10)])
    assert len(kept.known([str(number) for number in range(10)])) == 10


@pytest.mark.parametrize("way", WAYS)
def test_a_text_that_is_too_long_is_named(way):
    names = ["a", "word " * 200]
    with pytest.raises(UserError, match="word word"):
        WAYS[way](small_model(**NONE)).batches(names)
    with pytest.raises(UserError, match="word word"):
        KeptTexts(small_model(**NONE)).tokens(names)


@pytest.mark.parametrize("way", WAYS)
def test_batches_hold_every_text_once(way):
    names = [f"word {n}" for n in range(300)] + [*LONG]
    batches = WAYS[way](small_model(**NONE)).batches(names)
    assert sorted(name for batch in batches for name in batch.texts) == sorted(names)
    filled = sum(len(batch.tokens) for batch in batches)
    assert filled < 1.2 * len(names)


def test_no_edit_compiles_where_a_larger_program_is_there():
    programs = TextPrograms(small_model(**NONE))
    programs._ready = {(8, 12)}
    (batch,) = programs.batches(["a", "b"])
    assert batch.tokens.shape == (8, 12)
    # without one that is large enough there is a new one
    (batch,) = programs.batches([LONG[-1]])
    assert batch.tokens.shape[0] == 1


@pytest.mark.slow
def test_warming_up_compiles_what_everyday_labels_need():
    programs = TextPrograms(small_model(**NONE))
    programs.warm_up()
    count = programs._encode._cache_size()
    encoded(programs, ["arm wrestling", *WORDS[:5]])
    encoded(programs, [f"red {n}" for n in range(70)])
    assert programs._encode._cache_size() == count == len(text_programs.WARM)
