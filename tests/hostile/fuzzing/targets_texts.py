"""Texts of others: lists, labels, annotations, JSON, arrays."""

import json
from pathlib import Path

import numpy as np

from experiments.common.evaluation import has_table
from experiments.parity.golden import read_case
from experiments.predict import truth
from experiments.reproduce import execute, kept_plan
from hostile.fuzzing.target import Target
from vtd_jax.cache import shards
from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.evaluate.outputs import read_table, save_report
from vtd_jax.evaluate.scores import read_scores, save_scores
from vtd_jax.evaluate.tables import Table
from vtd_jax.manifest import Manifest, read_manifest
from vtd_jax.predict.journal import Journal
from vtd_jax.predict.words import read_words
from vtd_jax.report import pages
from vtd_jax.retrieval.index import Index
from vtd_jax.retrieval.shard_files import Row, with_shard
from vtd_jax.retrieval.store import Contents, write_contents
from vtd_jax.train.workdir import read_config
from vtd_jax.video.lists.catalog import Problem, read_labels, read_list
from vtd_jax.video.lists.official import official_lists

_LABELS = {
    "labels.csv": 'id,name\n0,red\n1,"pale, blue"\n2,green\n',
    "labels.txt": "red\npale blue\ngreen\n",
    "labels.json": '{"red": "0", "pale blue": "1", "green": 2}\n',
    "labels.tsv": "label\tid\nred\t0\nblue\t1\n",
}
_JOB = {"model": "tiny", "labels": ["red", "blue"], "outputs": ["a.json"]}


def _write(files: dict[str, str]):
    def write(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return write


def _read_list(folder: Path) -> None:
    problems: list[Problem] = []
    labels = read_labels(folder / "labels.csv")
    for entry in read_list(folder / "list.txt", labels, problems):
        assert 0 <= entry.label < len(labels.names)
    _check_lines([str(problem) for problem in problems])
    truth.read_truth(str(folder / "truth.csv"), [Path("a/0.mp4"), Path("1.mp4")], ["red", "green"])


def _check_lines(lines: list[str]) -> None:
    assert not any("\n" in line for line in lines)


def _read_labels(folder: Path) -> None:
    _each(
        [lambda path=path: read_words(str(path), "--labels") for path in sorted(folder.iterdir())]
    )
    _each([lambda path=path: read_labels(path) for path in sorted(folder.iterdir())])


def _each(calls: list) -> None:
    """Calls all; the last UserError is the one that is raised."""
    last = None
    for call in calls:
        try:
            call()
        except UserError as error:
            last = error
    if last is not None:
        raise last


def _read_annotations(folder: Path) -> None:
    _each(
        [lambda name=name: official_lists(name, folder / name) for name in ("ssv2", "kinetics400")]
    )


_ROW = {
    "dataset": "hmdb51",
    "method": "CLIP",
    "learnt_on": "",
    "cells": {"": ["a", "b"]},
    "ablation": None,
}
_CASE = dict(
    seed=0, layers=1, frames=2, batch=1, classes=["a"], prompt_model=True, zs_eval=False,
    n_ctx_text=1, n_ctx_vision=1, depth_text=1, depth_vision=1, lr=0.1, epochs=1, warmup=0.0,
    cos=1.0, interval=1.0, steps=1,
)  # fmt: skip

_SCORES = np.eye(2, dtype=np.float32)
_RESULTS = {
    "base": SplitResult(
        ("red", "blue"), _SCORES, np.arange(2, dtype=np.int32), ("a", "b"), np.zeros(2, bool)
    )
}


def _write_json(folder: Path) -> None:
    from support import small_run
    from vtd_jax.train.workdir import save_config

    save_config(folder, small_run.run_config(folder))
    table = Table("t", ("split", "top-1"), ({"split": "base", "top-1": 0.5},), {"learnt": "step 3"})
    save_report(folder, "results", table, _RESULTS)
    plan = {"table": "zero_shot", "rows": [_ROW], "missing": [], "differs": [], "notes": {"a": "b"}}
    files = {"plan": plan, "identity": {"finished": True, "config": "x"}, "case": _CASE}
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    files = {"00000.array_record": 4}
    Manifest("x", {"key": "a"}, True, files, {"frames": 3}).write(folder / "manifest.json")


def _is_whole(folder: Path) -> None:
    noted = read_manifest(folder / "manifest.json", "x")
    noted.is_whole(folder)
    noted.differences({"key": "a"})


def _read_json(folder: Path) -> None:
    calls = [
        lambda: read_config(folder),
        lambda: read_table(folder / "results.json", _RESULTS),
        lambda: has_table(folder, 3),
        lambda: kept_plan.load_plan(folder / "plan.json"),
        lambda: execute._claim(folder, {"config": "x"}),
        lambda: _is_whole(folder),
        lambda: read_case(folder / "case.json"),
    ]
    _each(calls)


def _write_arrays(folder: Path) -> None:
    save_scores(folder / "results_scores.npz", _RESULTS)
    np.savez(folder / "case.npz", case=json.dumps(_CASE))
    shards.write_rows(folder / "rows.safetensors", np.eye(4, dtype=np.float32), "rows")


def _read_arrays(folder: Path) -> None:
    calls = [
        lambda: read_scores(folder / "results_scores.npz"),
        lambda: read_case(folder / "case.npz"),
        lambda: shards.read_rows(folder / "rows.safetensors", (4, 4), "rows"),
    ]
    _each(calls)


def _write_index(folder: Path) -> None:
    contents = Contents("e", 2, 4, "tiny", "w", "p", {"dtype": None}, ("/videos",))
    rows = [Row(0, f"{n}.mp4", 1, 2, 9, 1.5, [2, 6], [0.2, 0.6], "note") for n in range(3)]
    features = np.arange(24, dtype=np.float16).reshape(3, 2, 4)
    for _ in range(2):
        contents = with_shard(folder, contents, features, rows)
    write_contents(folder, contents)


def _read_index(folder: Path) -> None:
    index = Index.open(folder)
    _each([index.check, lambda: list(index), lambda: len(index)])


def _write_journal(folder: Path) -> None:
    with Journal(folder / "journal.jsonl", _JOB) as journal:
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            journal.add(name, name=name, result={"labels": [{"label": "red", "score": 0.5}]})
    (folder / "page.html").write_text(_page())


def _page() -> str:
    import html

    entry = dict(
        page="a.html",
        video="a",
        label="red",
        score=0.5,
        duration=1.0,
        thumbnail="",
        date="2026",
        key="k",
        truth=None,
    )
    return f'<html><meta name="{pages.ENTRY}" content="{html.escape(json.dumps(entry))}"></html>'


def _read_journal(folder: Path) -> None:
    pages.read_entry(folder / "page.html")
    with Journal(folder / "journal.jsonl", _JOB) as journal:
        for entry in journal.entries():
            assert isinstance(entry["video"], str)


TARGETS = {
    "list": Target(
        _write(
            {
                "labels.csv": "id,name\n0,red\n1,green\n",
                "list.txt": "red/0.mp4 0\ngreen/1.mp4 1\n'a b.mp4' 1\nc.mp4 0\n",
                "truth.csv": "file,label\na/0.mp4,red\n1.mp4,green\n",
            }
        ),
        _read_list,
    ),
    "labels": Target(_write(_LABELS), _read_labels),
    "annotations": Target(
        _write(
            {
                "ssv2/labels.json": '{"Putting [something]": "0", "Holding": "1"}',
                "ssv2/train.json": (
                    '[{"id": "1", "template": "Putting [something]"}, {"id": 2, "template": '
                    '"Holding"}]'
                ),
                "ssv2/validation.json": '[{"id": "3", "template": "Holding"}]',
                "kinetics400/train.csv": (
                    "label,youtube_id,time_start,time_end,split\nred,abcdefghijk,1,11,train\n"
                ),
                "kinetics400/val.csv": (
                    'label,youtube_id,time_start,time_end,split\n"red, x",abcdefghijl,2,12,val\n'
                ),
            }
        ),
        _read_annotations,
    ),
    "json": Target(_write_json, _read_json, ("*.json",)),
    "arrays": Target(_write_arrays, _read_arrays),
    "index": Target(_write_index, _read_index),
    "journal": Target(_write_journal, _read_journal),
}
