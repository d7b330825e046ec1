"""What a process did, as strace saw it: files opened, sockets made, programs started."""

import contextlib
import dataclasses
import errno
import os
import re
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from hostile.watching.traces import covers

# what any command may write: its own memory, devices that keep nothing, and caches of programs and
# text features
_DEVICES = ("/dev/null", "/dev/tty", "/dev/shm", "/proc", "/sys", "/memfd")
_CALLS = (
    "open,openat,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,"
    "link,linkat,connect,bind,sendto,execve"
)
_OPENED = re.compile(
    r"open(?:at)?\((?:[^\"]*?, )?\"((?:[^\"\\]|\\.)*)\", ([A-Z_|0-9]+).*\) = (\d+)"
)
_MADE = re.compile(
    r"(creat|mkdir|mkdirat|unlink|unlinkat)\((?:[^\"]*?, )?\"((?:[^\"\\]|\\.)*)\".*\) = 0"
)
_MOVED = re.compile(r"(?:rename|symlink|link)\w*\(.*\"((?:[^\"\\]|\\.)*)\"[^\"]*\) = 0")


@dataclasses.dataclass
class Trace:
    """Absolute paths that were opened, those written or removed, internet sockets, and programs
    that were started.
    """

    temporary: Path
    opened: set[Path] = dataclasses.field(default_factory=set)
    written: set[Path] = dataclasses.field(default_factory=set)
    sockets: list[str] = dataclasses.field(default_factory=list)
    programs: list[str] = dataclasses.field(default_factory=list)

    def faults(self, outputs: Collection[Path], secrets: Collection[Path]) -> list[str]:
        """What was done without being requested."""
        caches = [
            os.environ.get(name, "/nowhere")
            for name in ("JAX_COMPILATION_CACHE_DIR", "VTD_JAX_CACHE")
        ]
        allowed = [self.temporary, *map(Path, (*_DEVICES, *caches)), *outputs]
        faults = [
            f"wrote {path}"
            for path in sorted(self.written)
            if not any(covers(output, path) for output in allowed)
            and "__pycache__" not in path.parts
            and not any(path in out.parents for out in outputs)
        ]
        faults += [f"opened {path}" for path in secrets if path in self.opened]
        faults += [f"socket: {line[:200]}" for line in self.sockets]
        return faults + [f"started {line[:200]}" for line in self.programs]

    def read(self, path: Path, cwd: str) -> "Trace":
        """Takes over what strace wrote; paths are from `cwd`."""
        for line in path.read_text(errors="replace").splitlines():
            if found := _OPENED.match(line):
                where = _path(found[1], cwd)
                self.opened.add(where)
                if {"O_WRONLY", "O_RDWR", "O_CREAT"} & set(found[2].split("|")):
                    self.written.add(where)
            elif found := _MADE.match(line):
                self.written.add(_path(found[2], cwd))
            elif found := _MOVED.match(line):
                self.written.add(_path(found[1], cwd))
            elif re.match(r"(connect|bind|sendto)\(.*AF_INET", line):
                self.sockets.append(line)
            elif line.startswith("execve(") and line.endswith("= 0"):
                self.programs.append(line)
        return self


def _path(text: str, cwd: str) -> Path:
    raw = text.encode("latin-1", "replace").decode("unicode_escape").encode("latin-1", "replace")
    return Path(os.path.abspath(os.path.join(cwd, os.fsdecode(raw))))


@contextlib.contextmanager
def traced(pid: int, go: Path | None, scratch: Path, cwd: str) -> Iterator[Trace | None]:
    """Looks on while the block runs; the process waits at the pipe `go` until strace has it, None
    leaves it alone.
    """
    if go is None:
        yield None
        return
    # before this pipe is reached, it is the harness that opens files
    pipe = _opened_for_its_reader(pid, go)
    out, said, trace = scratch / "strace", scratch / "strace.said", Trace(scratch / "tmp")
    what = ["-e", f"trace={_CALLS}", "-e", "signal=none"]
    # a file for each thread: calls of several threads in one file are written in halves
    call = ["strace", "-ff", "-qq", "-s", "4096", *what, "-o", str(out), "-p", str(pid)]
    with said.open("wb") as errors:
        process = subprocess.Popen(call, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        _wait_until_it_has(pid, process)
        os.write(pipe, b"x")
        yield trace
        process.wait(30)
        for of_a_thread in scratch.glob("strace.[0-9]*"):
            trace.read(of_a_thread, cwd)
    finally:
        os.close(pipe)
        process.kill()
        process.wait()


def _opened_for_its_reader(pid: int, go: Path) -> int:
    """The writing end of the pipe, once the process waits at the other."""
    end = time.monotonic() + 60
    while True:
        try:
            return os.open(go, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        assert Path(f"/proc/{pid}").exists(), "the process ended before it was looked at"
        assert time.monotonic() < end, "the process does not come to its start"
        time.sleep(0.01)


def _wait_until_it_has(pid: int, strace: subprocess.Popen) -> None:
    end = time.monotonic() + 20
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        assert strace.poll() is None, "strace cannot look at a process of ours"
        assert time.monotonic() < end, "strace does not take the process"
        time.sleep(0.01)
