"""One spelling of fingerprints; those that earlier versions left are compared as they were made."""

import hashlib
import os

import numpy as np
import pytest

from vtd_jax.fingerprints import DIGITS, fingerprint, fingerprint_all, same


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_anybody_can_compute_them_again():
    assert fingerprint(b"ab") == fingerprint("ab") == _sha256(b"ab")[:DIGITS]
    assert fingerprint({"b": [1, None], "a": "é"}) == fingerprint(
        '{"a": "\\u00e9", "b": [1, null]}'
    )
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert fingerprint(rows) == fingerprint(b"float32 (2, 3)\n" + rows.tobytes())
    assert fingerprint_all(["x ", rows, {}]) == fingerprint(
        b"x float32 (2, 3)\n" + rows.tobytes() + b"{}"
    )
    # a file's name may be no text
    assert len(fingerprint(os.fsdecode(b"caf\xe9"))) == DIGITS


def test_arrays_are_reported_apart_by_what_they_are_not_by_how_they_lie():
    rows = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert fingerprint(np.asfortranarray(rows)) == fingerprint(rows)
    others = (rows.T, rows.reshape(3, 2), rows.astype(np.uint32), rows + 1, rows[:0], rows[0, 0])
    assert len({fingerprint(each) for each in (rows, *others)}) == 7


@pytest.mark.parametrize("digits", [8, 12, 32, 64])
def test_more_or_fewer_digits_of_earlier_versions(digits):
    here, there = fingerprint("a"), _sha256(b"a")[:digits]
    assert same(there, here, least=min(digits, DIGITS))
    assert not same(there, fingerprint("b"), least=min(digits, DIGITS))
    # fewer digits count only where earlier versions noted so few
    assert same(there, here) == (digits >= DIGITS)
    assert same(here, here)


@pytest.mark.parametrize("noted", ["", None, 3, [], {}, "3c"])
def test_what_is_no_fingerprint_is_another(noted):
    assert not same(noted, fingerprint("a"), least=8)
    assert not same(noted, fingerprint("a"), legacy=lambda: "12345678")


def test_another_algorithm_of_earlier_versions():
    calls = []
    legacy = lambda: calls.append(1) or "12345678"  # noqa: E731
    here = fingerprint("a")
    assert same(here, here, legacy=legacy)
    assert not same(fingerprint("b"), here, legacy=legacy)
    # it costs a pass over all weights, and is not computed where it says nothing
    assert not calls
    assert same("12345678", here, legacy=legacy)
    # the first digits of the new one are not what the old algorithm gives
    assert not same(here[:8], here, legacy=legacy)
