"""Attention's kernels compiled for TPUs that are not there: needs libtpu (`make aot`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

from aot.compiled_attention import JOBS

ROOT = Path(__file__).resolve().parents[2]


def test_the_kernels_compile_for_every_chip_and_tower():
    environment = {
        key: value for key, value in os.environ.items() if key not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compiled_attention.py")], cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # a row too large for a chip's memory would have ended the process
    both = ["attention_forward", "attention_backward"]
    assert found == [[*job, both] for job in JOBS]
