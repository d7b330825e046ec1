"""What is measured of many videos: every job of a round, and shares of the same round."""

import pytest

from experiments.benchmark.predict import stream
from experiments.benchmark.setting import Options
from experiments.benchmark.timing import Timing
from support.video_files import make_video


def test_shares_are_of_the_same_round():
    found = {
        name: Timing(name, "", seconds)
        for name, seconds in (
            (stream.DECODER, (1.0, 2.0, 3.0)),
            (stream.TOWER, (4.0, 1.0, 4.0)),
            (stream.BOTH, (5.0, 2.0, 5.0)),
            (stream.ONE_FULL, (3.0, 3.0, 3.0)),
            (stream.ONE, (1.5, 1.0, 3.0)),
        )
    }
    shares = stream._goals(found)
    assert shares["of the slower of decoder and tower"] == (0.8, 0.8, 1.0)
    assert shares["of one after the other"].median == pytest.approx(1.4)
    assert shares["one clip, of one that is fully decoded"] == (2.0, 1.0, 3.0)
    assert "of videos that are encoded by themselves" not in shares


@pytest.mark.slow
def test_a_whole_run(tmp_path, capsys):
    for frames in (9, 30):
        make_video(tmp_path / f"{frames}.mp4", frames)
    options = Options("tiny", 4, 1, 3, 2, 2, 2)
    found = stream.compare(options, "float32", tmp_path, 5)
    assert (found["clips"], found["different"]) == (5, 2)
    tasks = [timing["task"] for timing in found["timings"]]
    assert tasks == [
        stream.DECODER, stream.TOWER, stream.BOTH, stream.ALONE, stream.ONE_FULL, stream.ONE,
    ]  # fmt: skip
    assert all(len(timing["seconds"]) == 2 for timing in found["timings"])
    assert {(timing["task"], timing["variant"]) for timing in found["checks"]} == {
        (f"{frames}.mp4", check) for frames in (9, 30) for check in ("index", "full")
    }
    printed = capsys.readouterr().out
    assert "tiny, 4 frames a clip, 2 different clips" in printed
    assert "| 30.mp4 |" in printed
