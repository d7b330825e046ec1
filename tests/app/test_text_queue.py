"""Texts of several clients: encoded once, in batches of all, and nobody waits for a mistake."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from support.small_model import LABELS, NONE, WORDS, small_model
from vtd_jax.app.text import checks
from vtd_jax.app.text import queue as text_queue
from vtd_jax.app.text.kept_texts import KeptTexts
from vtd_jax.app.text.queue import PageGone, TextQueue
from vtd_jax.cache.text_features import TextCache
from vtd_jax.errors import UserError


async def here() -> bool:
    return False


@pytest.fixture
def model():
    return small_model(**NONE)


@pytest.fixture
def queue(model):
    kept = KeptTexts(model)
    kept.workers = 1
    with ThreadPoolExecutor(1) as pool:
        yield TextQueue(kept, pool)


@pytest.fixture
def batches(queue, monkeypatch) -> list[list[str]]:
    """What is encoded at once, in order."""
    found, encode = [], queue.kept.encode
    monkeypatch.setattr(queue.kept, "encode", lambda texts: found.append(texts) or encode(texts))
    return found


def test_codes_are_those_of_the_codebook(queue, model):
    names = (*LABELS, *WORDS)
    found = asyncio.run(queue.codes(names, here))
    np.testing.assert_allclose(found, TextCache(None).encode(model, names), rtol=1e-5, atol=1e-5)
    assert asyncio.run(queue.codes(names, here)) is found


def test_only_new_texts_are_encoded(queue, batches):
    asyncio.run(queue.codes(LABELS, here))
    asyncio.run(queue.codes((*LABELS[:3], "new", *LABELS[3:]), here))
    assert [sorted(batch) for batch in batches] == [sorted(LABELS), ["new"]]


def test_texts_of_several_clients_are_encoded_once_and_at_once(queue, batches):
    async def clients():
        lists = [("shared", f"own {number}") for number in range(20)]
        return lists, await asyncio.gather(*(queue.codes(one, here) for one in lists))

    lists, found = asyncio.run(clients())
    encoded = [text for batch in batches for text in batch]
    assert sorted(encoded) == sorted({text for one in lists for text in one})
    assert len(batches) < 10
    for one, codes in zip(lists, found, strict=True):
        alone = queue.kept.encode(list(one))
        np.testing.assert_allclose(codes, [alone[text] for text in one], rtol=1e-5, atol=1e-5)


def test_a_long_list_lets_others_in_between(queue, batches, monkeypatch):
    monkeypatch.setattr(text_queue, "_TAKEN", 4)
    monkeypatch.setattr(text_queue, "_PORTION", 8)

    async def clients():
        long = asyncio.ensure_future(queue.codes(tuple(f"long {n}" for n in range(40)), here))
        while not batches:
            await asyncio.sleep(0.001)
        await queue.codes(("short",), here)
        return len(batches), await long

    seen, _ = asyncio.run(clients())
    assert seen < 6
    assert len(batches) >= 10


def test_long_texts_are_read_in_parts(queue, monkeypatch):
    read, tokens = [], queue.kept.tokens
    monkeypatch.setattr(queue.kept, "tokens", lambda names: read.append(names) or tokens(names))
    monkeypatch.setattr(text_queue, "_CHARACTERS", 20)
    names = ("aaaa", "bbbb", "c" * 19, "dd" * 30, "e", "f")
    asyncio.run(queue.codes(names, here))
    assert read == [["aaaa", "bbbb"], ["c" * 19], ["dd" * 30], ["e", "f"]]
    # what comes after a text that is too long is not read, nor what nobody waits for
    read.clear()
    with pytest.raises(UserError, match="too long"):
        asyncio.run(queue.codes(("word " * 200, "g" * 30, "h"), here))
    asks = iter([False, True])

    async def gone() -> bool:
        return next(asks)

    with pytest.raises(PageGone):
        asyncio.run(queue.codes(("i" * 30, "j" * 30, "k"), gone))
    assert read == [["word " * 200], ["i" * 30]]


def test_a_text_that_is_too_long_is_the_fault_of_its_list(queue):
    async def clients():
        bad = queue.codes(("fine", "word " * 200), here)
        return await asyncio.gather(bad, queue.codes(("good",), here), return_exceptions=True)

    bad, good = asyncio.run(clients())
    assert isinstance(bad, UserError)
    assert good.shape[0] == 1


def test_a_fault_reaches_all_who_wait_and_the_queue_lives(queue, monkeypatch):
    monkeypatch.setattr(queue.kept, "encode", lambda texts: 1 / 0)

    async def clients():
        both = (queue.codes((name,), here) for name in "ab")
        return await asyncio.gather(*both, return_exceptions=True)

    assert all(isinstance(one, ZeroDivisionError) for one in asyncio.run(clients()))
    monkeypatch.undo()
    assert asyncio.run(queue.codes(("a",), here)).shape[0] == 1


def test_a_client_that_leaves_takes_nothing_from_others(queue, monkeypatch):
    go, encode = threading.Event(), queue.kept.encode
    monkeypatch.setattr(queue.kept, "encode", lambda texts: go.wait(60) and encode(texts))

    async def clients():
        leaves = asyncio.ensure_future(queue.codes(("shared",), here))
        stays = asyncio.ensure_future(queue.codes(("shared", "own"), here))
        await asyncio.sleep(0.05)
        leaves.cancel()
        await asyncio.wait([leaves])
        go.set()
        return await stays

    assert asyncio.run(clients()).shape[0] == 2


def test_nothing_is_encoded_for_a_page_that_is_gone(queue, batches):
    async def gone() -> bool:
        return True

    with pytest.raises(PageGone):
        asyncio.run(queue.codes(("a",), gone))
    assert not batches


def test_long_lists_are_checked_one_at_a_time_and_short_ones_beside_them(monkeypatch):
    monkeypatch.setattr(checks, "_CHARACTERS", 10)
    go, running, most = threading.Event(), [], []

    def slow(self, place, texts, what):
        if len(texts) > 1:
            running.append(texts)
            most.append(len(running))
            assert go.wait(60)
            running.pop()
        return texts

    monkeypatch.setattr(checks.Checks, "_check", slow)

    async def clients(pool):
        check = checks.Checks([], pool)
        long = [
            asyncio.ensure_future(check(0, ["long" * 5, name], "labels", here)) for name in "abc"
        ]
        while not running:
            await asyncio.sleep(0.001)
        assert await check(0, ["short"], "labels", here) == ("short",)
        go.set()
        return await asyncio.gather(*long)

    with ThreadPoolExecutor(4) as pool:
        found = asyncio.run(clients(pool))
    assert found == [("long" * 5, name) for name in "abc"]
    assert most == [1, 1, 1]
