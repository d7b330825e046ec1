"""What a command on hostile input may take, and what is wrong with one that ran."""

import dataclasses
import re
from collections.abc import Collection, Sequence

from hostile.watching.strace import Trace
from vtd_jax.printable import printable

_SAID = r"(warning|note|device|preprocess): .*"


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a command on small hostile input may take.

    Attributes:
      cpu: seconds of CPU time, of all its threads; a loaded machine changes nothing in it.
      wall: seconds until it counts as hanging.
      memory: bytes of address space beyond what every command has from its start; more is refused
        by the system.
      resident: bytes of memory beyond what every command has from its start, as measured; on small
        inputs up to 300 MiB are usual.
      file: bytes of a file that it writes.
      line: characters of its longest line; two of the longest paths are 8 200.
      output: characters that it prints in all.
    """

    cpu: int = 25
    wall: float = 60.0
    memory: int = 3 * 2**30
    resident: int = 2**30
    file: int = 64 * 2**20
    line: int = 9100
    output: int = 40_000


@dataclasses.dataclass
class Done:
    """What ran, and what it left."""

    command: str
    status: int | None
    stdout: str
    stderr: str
    seconds: float
    cpu: float
    peak: int
    changed: list[str]
    temporary: list[str]
    left: list[str]
    connections: int
    trace: Trace | None

    @property
    def refused(self) -> bool:
        """Whether it ended with an error line, rather than a result."""
        return self.status == 2

    @property
    def error(self) -> str:
        """The error line without `error: `, "" where there is none."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        return lines[0].removeprefix("error: ") if lines else ""

    def __str__(self) -> str:
        ended = "hung" if self.status is None else f"status {self.status}"
        taken = f"{self.seconds:.1f} s, {self.cpu:.1f} s of CPU, {self.peak / 2**20:.0f} MiB"
        message = f"{self.command}\n{ended} after {taken}"
        return f"{message}\nstdout: {self.stdout[-3000:]!r}\nstderr: {self.stderr[-3000:]!r}"


def faults_of_text(done: Done, limits: Limits) -> list[str]:
    faults = []
    for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        if len(text) > limits.output:
            faults.append(f"{len(text)} characters on {name}")
        longest = max(map(len, text.split("\n")))
        if longest > limits.line:
            faults.append(f"a line of {longest} characters on {name}")
        acting = sorted({c for c in text.replace("\n", "") if printable(c) != c})
        if acting:
            faults.append(f"characters that act on a terminal on {name}: {acting!a}")
    return faults


def faults_of_refusal(done: Done, also: Collection[str]) -> list[str]:
    faults = [] if done.status == 2 else [f"expected status 2, got {done.status}"]
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if len(errors) != 1:
        faults.append(f"{len(errors)} error lines on stderr, expected one")
    known = (_SAID, *also)
    others = [
        line
        for line in lines
        if line not in errors and not any(re.fullmatch(kind, line) for kind in known)
    ]
    return faults + [f"another line on stderr: {line[:200]!r}" for line in others[:3]]


def judged(done: Done, faults: Sequence[str]) -> Done:
    assert not faults, "\n  ".join(["", *faults]) + f"\n{done}"
    return done
