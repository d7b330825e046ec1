"""Runs on other copies of the data are not compared by mistake."""

import dataclasses

import pytest

from vtd_jax.errors import UserError
from vtd_jax.evaluate.same_data import check_data
from vtd_jax.video.copies.data_copy import DataCopy

COPY = DataCopy(2, 9, "0" * 16, "1" * 16, "video files", (("a.mp4", "2" * 16),))
FRAMES = dataclasses.replace(COPY, frames=8, files_digest="3" * 16)
SAMPLED = dataclasses.replace(COPY, sample=(("a.mp4", "4" * 16),))
FEWER = dataclasses.replace(COPY, videos=1, list_digest="5" * 16, sample=())


def test_one_copy():
    found = check_data({"A": {"val": COPY}, "B": {"val": COPY, "more": FRAMES}}, ["val"])
    assert found == (f"the same copy, fingerprints val {COPY.fingerprint}", "")


def test_other_copies_are_refused_unless_allowed():
    runs = {"A": {"val": COPY}, "B": {"val": COPY}, "C": {"val": FRAMES}}
    with pytest.raises(UserError) as caught:
        check_data(runs, ["val"])
    what = "val in A and C: 9 and 8 frames, other files (SHA-256), the sampled frames are the same"
    assert str(caught.value).startswith(f"other copies of the data: {what}; a difference may be")
    assert "`other_data`" in str(caught.value)
    assert check_data(runs, ["val"], other=True) == (
        f"other copies, compared all the same: {what}",
        what,
    )


def test_of_common_videos_the_sampled_ones_count():
    runs = {"A": {"val": COPY}, "B": {"val": FEWER}}
    with pytest.raises(UserError, match="2 and 1 video"):
        check_data(runs, ["val"])
    line = check_data(runs, ["val"], common=True).line
    # FEWER has other sampled videos, or none
    both = f"val {COPY.fingerprint} and {FEWER.fingerprint}"
    assert line == f"the same frames in 0 sampled videos that all have, fingerprints {both}"
    more = dataclasses.replace(FEWER, sample=(*COPY.sample, ("b.mp4", "4" * 16)))
    line = check_data({"A": {"val": COPY}, "B": {"val": more}}, ["val"], common=True).line
    assert line.startswith("the same frames in 1 sampled video that all have")
    with pytest.raises(UserError, match=r"other frames in 1 of 1 sampled video \(a.mp4\)"):
        check_data({"A": {"val": COPY}, "B": {"val": SAMPLED}}, ["val"], common=True)


def test_what_is_not_known_is_said():
    found = check_data({"A": {"val": COPY}, "B": {}}, ["val"])
    assert found.line == (
        "the copy is not known of B (evaluated by an earlier version, or without its table)"
    )
    # two of three are
    three = check_data({"A": {"val": COPY}, "B": {}, "C": {"val": COPY}}, ["val"]).line
    assert three == f"the same copy, fingerprints val {COPY.fingerprint}; {found.line}"
    assert check_data({"A": {}, "B": {}}, ["val"]).line.startswith("the copy is not known of A")


def test_another_storage_is_pointed_out():
    jpegs = dataclasses.replace(COPY, storage="JPEGs")
    found = check_data({"A": {"val": COPY}, "B": {"val": jpegs}}, ["val"])
    assert found.line == f"the same copy, fingerprints val {COPY.fingerprint}; {found.warning}"
    assert found.warning == "val in A and B: stored as video files and as JPEGs"
