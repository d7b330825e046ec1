"""Runs a module as `python -m` does, in a process with limits: the file that `harness` starts, warm
or cold.

    python limited.py SPEC.json

SPEC has `module`, `arguments`, `cwd`, `temporary`, `memory`, `cpu`, `file` and, to wait for strace,
`go`, a pipe.
"""

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_PR_SET_PTRACER, _ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


def _size() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limit_memory(more: int) -> None:
    """No more address space than there is now and `more` bytes."""
    most = _size() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _limit(spec: dict) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (spec["file"], spec["file"]))
    # CPU time of a fork begins at 0
    resource.setrlimit(resource.RLIMIT_CPU, (spec["cpu"], spec["cpu"] + 2))
    limit_memory(spec["memory"])


def main() -> None:
    """Takes over the specification, waits for strace, limits itself, runs the module."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    # a session of its own, by which processes that it leaves behind are found
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir(spec["cwd"])
    sys.path[0] = str(ROOT)
    os.environ["TMPDIR"], tempfile.tempdir = spec["temporary"], None
    sys.argv[:] = [spec["module"], *spec["arguments"]]
    if spec["go"]:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        signal.alarm(30)
        with open(spec["go"], "rb", buffering=0) as pipe:
            pipe.read(1)
        signal.alarm(0)
    _limit(spec)
    runpy.run_module(spec["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
