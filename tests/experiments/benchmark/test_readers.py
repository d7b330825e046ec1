"""The benchmark of readers: every reader gives the same frames, ratios are right, and what the
command prints and writes.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmark import readers as bench
from experiments.benchmark import timing
from support import warm
from vtd_jax.errors import UserError
from vtd_jax.video import decode

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", params=bench.KINDS, ids=[kind.ending for kind in bench.KINDS])
def clip(request, tmp_path_factory):
    """A second of a rendered clip of each kind."""
    kind = replace(request.param, seconds=1)
    ((frames, rate),) = bench.sources(None, 1)
    return kind, bench.write_clip(
        frames, rate, kind, tmp_path_factory.mktemp("clip") / f"a.{kind.ending}"
    )


@pytest.mark.slow
def test_clips_have_the_size_that_their_kind_says(clip):
    kind, path = clip
    info = decode.probe(path)
    assert (info.frames, info.fps, info.width, info.height) == (
        kind.fps,
        kind.fps,
        kind.width,
        kind.height,
    )


@pytest.mark.slow
@pytest.mark.parametrize("reader", [reader for reader in bench.OTHERS if not bench.missing(reader)])
def test_all_readers_give_the_same_frames(clip, reader, tmp_path):
    kind, path = clip
    expected = decode.decode_frames(path, bench.test_indices(kind.fps, 4))
    frames = bench.READERS[reader](path, 4)
    assert frames.shape == expected.shape
    # AVI stores no times; those that FFmpeg guesses for B-frames lead readers that seek to
    # neighbouring frames
    if kind.ending != "avi" or reader not in (bench.BASE, "decord"):
        assert np.abs(frames.astype(int) - expected).max() <= 4
    for name, records in bench.make_records([path], tmp_path).items():
        frames = bench.read_record(records, 0, 4)
        assert frames.shape == expected.shape
        assert np.abs(frames.astype(int) - expected).mean() < (5 if "jpeg" in name else 0.01)


@pytest.mark.slow
def test_measuring_gives_a_row_for_every_reader(clip):
    kind, path = clip
    rows = bench.measure(kind, [path], [2], rounds=1)
    assert [row.reader for row in rows] == [*bench.OTHERS, *bench.OURS]
    assert all(row.clips_per_second > 0 for row in rows if not bench.missing(row.reader))
    sizes = {row.reader: row.size for row in rows}
    assert (
        1 < sizes[bench.OURS[0]] < 3
    )  # a record file of one small clip is mostly padding to whole blocks
    assert sizes[bench.OURS[1]] > 0
    assert sizes[bench.BASE] is None


def test_jobs_run_in_turn_and_rates_come_from_medians(monkeypatch):
    warm_up, rounds = [0, 10, 10, 20], [20, 21, 30, 34, 40, 42, 50, 54, 60, 63, 70, 74]
    calls, clock = [], iter(warm_up + rounds)
    fake = SimpleNamespace(perf_counter=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr(timing, "time", fake)
    jobs = {"a": [lambda: calls.append("a")], "b": [lambda: calls.append("b")]}
    assert bench.clips_per_second(jobs, rounds=3) == {"a": 1 / 2, "b": 1 / 4}
    assert calls == list("ab" * 4)


def test_the_table_compares_with_seeking_and_with_the_best():
    rates = {bench.BASE: 2.0, "PyAV, decode all": 5.0, "decord": None, "records, video": 10.0}
    rows = [
        bench.Result("k", 16, reader, rate, 1.0 if rate == 10 else None)
        for reader, rate in rates.items()
    ]
    lines = bench.table(rows).cells()
    assert lines[0] == ["k", "16", bench.BASE, "2.0", "1.00×", "0.40×", "–"]
    assert lines[2] == ["k", "16", "decord", "not installed", "–", "–", "–"]
    assert lines[3] == ["k", "16", "records, video", "10.0", "5.00×", "2.00×", "1.00×"]


def test_an_empty_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match="no videos here"):
        bench.sources(tmp_path, 3)


def _run(*arguments):
    return warm.run(["-m", "experiments.benchmark", "--what=readers", *arguments])


@pytest.mark.command
def test_command_measures_own_videos_and_writes_json(clip, tmp_path):
    _, path = clip
    out = tmp_path / "readers.json"
    done = _run(
        f"--videos={path.parent}", "--frames=2", "--rounds=1", "--seconds=1", f"--out={out}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"wrote {out}")
    assert "| Kinetics-like: H.264 mp4 | 2 | records, video |" in done.stdout
    report = json.loads(out.read_text())
    assert len(report["results"]) == len(bench.KINDS) * len(bench.OTHERS + bench.OURS)
    assert {"av", "numpy", "processor"} <= set(report)
