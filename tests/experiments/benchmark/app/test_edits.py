"""What is measured of the answers of `vtd app`: they are compared with the library's first."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmark.app import edits
from vtd_jax.app.jobs import Job, Ticket, Wanted
from vtd_jax.app.videos import Video
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


def _encoding(after: dict) -> tuple[SimpleNamespace, list[float]]:
    """A service whose only job ends a moment later; for how long nobody has listened until then."""
    video = Video("1", "a.mp4", Path("a.mp4"), 1)
    ticket, silence = Job(Wanted(video, ())).join(), []

    def work() -> None:
        time.sleep(0.2)
        silence.append(ticket.silence())
        ticket.job.tell(**after)

    def encode(asked) -> Ticket:
        threading.Thread(target=work, daemon=True).start()
        return ticket

    videos = SimpleNamespace(list=lambda: ([video], False))
    return SimpleNamespace(videos=videos, encode=encode), silence


def test_its_job_is_listened_to_and_so_not_ended_on_a_slow_machine():
    service, silence = _encoding({"event": "done"})
    assert edits._encoded(service, 4) == "1"
    assert silence == [0.0]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"event": "failed", "error": "it is no video"}, "a.mp4: failed: it is no video"),
        ({"event": "cancelled"}, "a.mp4: cancelled"),
    ],
)
def test_a_job_that_fails_says_why(after, said):
    with pytest.raises(UserError) as error:
        edits._encoded(_encoding(after)[0], 4)
    assert str(error.value) == said


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
