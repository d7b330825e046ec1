"""Memory while building: bounded by a few videos, not by the size of a shard."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from support.video_files import write_catalog
from vtd_jax.video.records import open_records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
COPIES = 24
BUILD = """
import resource, sys
from vtd_jax.video.ingest.records import build_records
from vtd_jax.video.ingest.config import BuildConfig
if __name__ == "__main__":
    small, big = (BuildConfig(name, lists=((sys.argv[1 + i], sys.argv[3]),),\
 video_dir=sys.argv[4], storage="video",
                  workers=2) for i, name in enumerate(("small", "big")))
    build_records(small, sys.argv[5])  # loads everything once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build_records(big, sys.argv[5])
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def make_noise(path: Path) -> Path:
    """About 8 MB that no codec can make smaller."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.options = {"qmin": "1", "qmax": "1"}
        for _ in range(20):
            image = rng.integers(0, 256, (480, 640, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_shard_is_not_held_in_memory(tmp_path):
    first = make_noise(tmp_path / "0.avi")
    for i in range(1, COPIES):
        os.link(first, tmp_path / f"{i}.avi")
    small, labels = write_catalog(tmp_path, ["0.avi 0"], stem="small")
    big, _ = write_catalog(tmp_path, [f"{i}.avi 0" for i in range(COPIES)], stem="big")
    call = [
        sys.executable,
        "-c",
        BUILD,
        *map(str, (small, big, labels, tmp_path, tmp_path / "out")),
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    size = first.stat().st_size
    shards = list((tmp_path / "out/video_folder/big").rglob("*array_record*"))
    assert (len(shards), len(open_records(tmp_path / "out", "big"))) == (1, COPIES)
    assert shards[0].stat().st_size > COPIES * size > 150e6
    assert int(done.stdout) < 10 * size
