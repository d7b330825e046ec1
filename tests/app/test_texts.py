"""Codes of texts: only new ones are encoded, in few programs, and they are the codebook's."""

import numpy as np
import pytest

from support.small_model import LABELS, NONE, WORDS, small_model
from vtd_jax.app import texts as module
from vtd_jax.app.texts import KeptTexts
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError

LONG = tuple(f"{'a very ' * n}long text" for n in range(1, 12))


def encode_all(kept, texts):
    found = {}
    for batch in kept.batches(texts):
        found |= kept.encode(batch)
    return np.stack([found[text] for text in texts])


@pytest.mark.parametrize(
    "settings", [{}, NONE, {**NONE, "templates": ("a {}", "one {}, seen")}], ids=str
)
def test_codes_are_those_of_the_codebook(settings):
    model = small_model(**settings)
    texts = (*LABELS, *WORDS, *LONG[:3])
    found = encode_all(KeptTexts(model), texts)
    expected = TextCache(None).encode(model, texts)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_only_new_texts_are_encoded(monkeypatch):
    kept, encoded = KeptTexts(small_model(**NONE)), []
    encode_all(kept, LABELS)
    known = kept.known([*LABELS, "new"])
    assert list(known) == list(LABELS)
    monkeypatch.setattr(kept, "_encode", lambda tokens, state: encoded.append(tokens))
    assert kept.table(LABELS) is None
    table = kept.keep(LABELS, known)
    assert kept.table((*LABELS,)) is table
    assert not encoded


def test_texts_of_a_length_share_programs_of_few_sizes():
    kept = KeptTexts(small_model(**NONE))
    texts = [f"word {n}" for n in range(300)] + [*LONG]
    batches = kept.batches(texts)
    assert sorted(text for batch in batches for text in batch.texts) == sorted(texts)
    assert {len(batch.tokens) for batch in batches} <= set(module.SIZES)
    filled = sum(len(batch.tokens) for batch in batches)
    assert filled < 1.2 * len(texts)


def test_no_edit_compiles_where_a_larger_program_is_there():
    kept = KeptTexts(small_model(**NONE))
    kept._ready = {(8, 12)}
    (batch,) = kept.batches(["a", "b"])
    assert batch.tokens.shape == (8, 12)
    # without one that is large enough there is a new one
    (batch,) = kept.batches([LONG[-1]])
    assert batch.tokens.shape[0] == 1


def test_warming_up_compiles_what_everyday_labels_need():
    kept = KeptTexts(small_model(**NONE))
    kept.warm_up()
    count = kept._encode._cache_size()
    encode_all(kept, ["arm wrestling", *WORDS[:5]])
    encode_all(kept, [f"red {n}" for n in range(70)])
    assert kept._encode._cache_size() == count == len(module._WARM)


def test_the_least_recently_used_codes_go(monkeypatch):
    model = small_model(**NONE)
    monkeypatch.setattr(module, "_KEPT_BYTES", 3 * 4 * model.clip.config.embed_dim)
    kept = KeptTexts(model)
    encode_all(kept, ["a", "b", "c"])
    kept.known(["a"])
    encode_all(kept, ["d"])
    assert sorted(kept.known(["a", "b", "c", "d"])) == ["a", "c", "d"]


def test_a_text_that_is_too_long_is_named():
    with pytest.raises(UserError, match="word word"):
        KeptTexts(small_model(**NONE)).batches(["a", "word " * 200])
