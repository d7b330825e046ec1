"""Facts of a table: stored fields, which text never overrules, and what older files say."""

import dataclasses
import json

import numpy as np
import pytest

from vtd_jax.errors import UserError
from vtd_jax.evaluate.facts import Facts, facts_of
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import read_table, save_report
from vtd_jax.evaluate.tables import split_table

RESULTS = {"val": SplitResult(("a",), np.ones((1, 1), np.float32), np.array([0], np.int32))}
FACTS = Facts(step=6, views=(4, 3), training="official", lists={"base": "given"})

# what 0.1.0 wrote, shortened
OLDER = {
    "title": "base_to_novel_hmdb51: top-1 in percent",
    "rows": [{"split": "base", "top-1": 0.5}],
    "about": {
        "learnt": "checkpoint of step 6 (best)",
        "training list": "train (official list; 12 videos, 2 more left out)",
        "lists": {
            "base": "base_val (own split: 8 videos a class of train1 drawn with seed 0; 8 videos)",
            "novel": "novel_val (given list; 4 videos)",
            "other": "other_val",
        },
        "views": "4 temporal × 3 spatial",
    },
}


def _read(tmp_path, content):
    (tmp_path / "results.json").write_text(json.dumps(content))
    return facts_of(read_table(tmp_path / "results.json"))


def test_a_table_of_an_earlier_version_is_read_from_its_text(tmp_path):
    assert _read(tmp_path, OLDER) == Facts(
        step=6,
        views=(4, 3),
        training="official",
        lists={"base": "own split", "novel": "given", "other": "not known"},
    )


@pytest.mark.parametrize("about", [{}, {"learnt": 3, "lists": 4, "views": None}])
def test_an_older_table_that_says_nothing(tmp_path, about):
    content = OLDER | {"about": about}
    assert _read(tmp_path, content) == Facts(step=None, views=None, training="", lists={})


def test_stored_facts_come_before_any_text(tmp_path):
    table = split_table("t", "mine", RESULTS, OLDER["about"] | {"learnt": "step 99"})
    save_report(tmp_path, "results", dataclasses.replace(table, facts=FACTS), RESULTS)
    assert facts_of(read_table(tmp_path / "results.json", RESULTS)) == FACTS
    # they are for programs: people are not shown them
    assert "facts" not in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    "facts", [[], {}, FACTS | {"step": "6"}, FACTS | {"views": [1]}, FACTS | {"lists": []}]
)
def test_facts_of_another_kind_are_refused(tmp_path, facts):
    with pytest.raises(UserError, match=r"results\.json: .*facts"):
        _read(tmp_path, OLDER | {"facts": facts})
