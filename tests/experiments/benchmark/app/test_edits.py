"""What is measured of the answers of `vtd app`: they are compared with the library's first."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmark.app import edits
from vtd_jax.errors import UserError


@pytest.mark.parametrize(("scores", "label"), [([0.5, 0.50002], "a"), ([0.5, 0.5], "b")])
def test_another_answer_than_the_library_s_is_refused(scores, label):
    asked = SimpleNamespace(
        new=lambda count: ["a", "b"], one=lambda labels: {"model": {"scores": scores, "label": "a"}}
    )
    own = SimpleNamespace(scores=np.array([0.5, 0.5]), label=label)
    predictor = SimpleNamespace(explain=lambda path, labels: own)
    with pytest.raises(UserError, match="differs from the library's by"):
        edits._check(asked, predictor, Path("a.mp4"))


@pytest.mark.slow
def test_a_whole_run(capsys):
    found = edits.compare("tiny", 4, 2)
    tasks = [timing["task"] for timing in found["timings"]]
    assert len(tasks) == len(set(tasks)) == 2 + len(edits.EDITS) + len(edits.TIMELINES)
    assert all(len(timing["seconds"]) == 2 for timing in found["timings"])
    assert 0 < found["largest_difference"] < 1e-5
    printed = capsys.readouterr().out
    assert "| 100 labels, one new |" in printed
    assert "tiny, 4 frames, answers of `vtd app`" in printed
