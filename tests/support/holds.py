"""Commands that stop half way by themselves until they are ended, however long a test takes to do
that.

Each function gives the environment of such a command, and takes a new folder for what all of its
processes begin with; where they may continue, they do when its file "held" is gone.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = """
import glob, os, sys, time

def hold(event, arguments):
    # a video of the shard is noted here before it is encoded; the first one makes the file
    if event != "open" or not str(arguments[0]).endswith(".current")\
 or not os.path.exists(arguments[0]):
        return
    # who looks at which one it was, reads
    if arguments[2] & os.O_APPEND\
 and len(glob.glob(os.path.dirname(arguments[0]) + "/*.done.json")) >= SHARDS:
        end = time.monotonic() + 600
        while os.path.exists(HELD) and time.monotonic() < end:
            time.sleep(0.01)

sys.addaudithook(hold)
"""
WORKERS = """
import os, time
with open("/proc/self/cmdline") as file:
    end = time.monotonic() + 600 * ("spawn_main" in file.read())
while os.path.exists(HELD) and time.monotonic() < end:
    time.sleep(0.01)
"""
IMPORT = """
import sys, time

def hold(event, arguments):
    if event == "import" and arguments[0] == "MODULE":
        time.sleep(600)

sys.addaudithook(hold)
"""


def held_build(folder: Path, shards: int) -> dict[str, str]:
    """Of a build: once so many shards are finished, its processes stop in the middle of the next
    one.
    """
    return _with(folder, BUILD.replace("SHARDS", str(shards)))


def held_workers(folder: Path) -> dict[str, str]:
    """Worker processes come no further than their start while they are held."""
    return _with(folder, WORKERS)


def held_import(folder: Path, module: str) -> dict[str, str]:
    """Stops where a module is about to be imported."""
    return _with(folder, IMPORT.replace("MODULE", module))


def _with(folder: Path, code: str) -> dict[str, str]:
    folder.mkdir()
    # one that starts while others are let go still finds its code
    held = folder / "held"
    held.touch()
    (folder / "sitecustomize.py").write_text(f"HELD = {str(held)!r}\n{code}")
    return {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
