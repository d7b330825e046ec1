"""Builds of records that stop half way until they are ended, however long a test takes to do that."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# as sitecustomize.py in every process of a build
HOLD = """
import glob, os, sys, time

def hold(event, arguments):
    # a video of the shard is noted here before it is encoded; the first one makes the file
    if event != "open" or not str(arguments[0]).endswith(".current") or not os.path.exists(arguments[0]):
        return
    # who looks at which one it was, reads
    if arguments[2] & os.O_APPEND and len(glob.glob(os.path.dirname(arguments[0]) + "/*.done.json")) >= SHARDS:
        time.sleep(600)

sys.addaudithook(hold)
"""


def held(folder: Path, shards: int) -> dict[str, str]:
    """The environment of a build whose processes stop in the middle of a shard once so many are finished.

    Args:
      folder: for what does that.
      shards: how many; each process finishes the one that it is at when they are, or stops there.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOLD.replace("SHARDS", str(shards)))
    return {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
