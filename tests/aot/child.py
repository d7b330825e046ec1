"""Scripts of this folder in processes of their own, with nothing set that says where to compute."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def printed(script: str, seconds: float) -> Any:
    """What a script prints as JSON."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("JAX_PLATFORMS", "XLA_FLAGS")
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(script)], cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
