"""100 000 clips of 16 frames, 1.6 GB: searched in the memory of a few blocks."""

import json
import os
import shutil

import numpy as np
import pytest
from retrieval import large

from support import warm
from support.small_run import ROOT
from vtd_jax.predict.loading import load
from vtd_jax.retrieval.index import Index

# MiB beyond what the process has before: blocks, one shard, compiled programs. All features are
# 1562 MiB as float16, twice that as float32.
_MOST = 400


@pytest.mark.slow
@pytest.mark.command
def test_an_index_of_a_hundred_thousand_clips(tmp_path):
    if shutil.disk_usage(tmp_path).free < 8 * 2**30:
        pytest.skip("needs 8 GiB of free disk")
    folder = large.write(tmp_path, 100_000, planted=77_777)
    try:
        # the child is started at the root, and finds `support` and `retrieval` in the tests
        environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
        done = warm.run(["-m", "retrieval.large", str(folder)], environment)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["peak"] - found["before"]["VmRSS"] < _MOST, found
        assert found["hits"][0][0] == "/videos/77777.mp4"
        assert len(found["hits"]) == 10
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_synthetic_index_is_searched_as_by_brute_force(tmp_path):
    index = Index.open(large.write(tmp_path, 300, planted=280), load(tmp_path / "clip.safetensors"))
    assert len(index.about.shards) == 2
    code = np.asarray(index.predictor.encode_words((large.QUERY,)))[0].astype(np.float64)
    features = np.stack([one.features for one in index]).astype(np.float64)
    cosines = features @ code / np.linalg.norm(code) / np.linalg.norm(features, axis=2)
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / 0.01)
    scores = (weights * cosines).sum(axis=1) / weights.sum(axis=1)
    order = np.argsort(-scores, kind="stable")[:10]
    hits = index.search(large.QUERY)
    assert [hit.video for hit in hits] == [f"/videos/{i}.mp4" for i in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], rtol=0, atol=1e-5)
    assert hits[0].frame == 8
