"""Reads changed files in processes with limits: `make fuzz`, or from the root

    PYTHONPATH=.:tests python -m hostile.fuzzing [KIND…]

FUZZ_COUNT is how many of each kind, FUZZ_SEED where to begin (the time, if not given; it is
printed). What breaks the rule is printed with its seed, and the files are kept in FUZZ_KEEP,
`fuzz_failures/` if not given. One seed of one kind again: `FUZZ_SEED=SEED FUZZ_COUNT=1 python -m
hostile.fuzzing KIND`.

The rule: a right value, or a `UserError` of one line; within seconds and a bounded memory; no
crash, nothing printed
that acts on a terminal.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from hostile.fuzzing.kinds import KINDS
from support import warm

# seconds without a line of progress after which a child hangs; and until its good files are made
# and read
_STUCK, _START = 40.0, 300.0
# bytes of address space beyond what a child has when it begins to read
_MEMORY = 4 * 2**30


class Fault(NamedTuple):
    """A changed file that broke the rule."""

    target: str
    seed: int
    what: str

    @property
    def kind(self) -> str:
        """Faults of one kind have one cause, probably."""
        raised, _, place = self.what.rpartition(" at ")
        return (
            f"{self.target} {raised.partition(':')[0]} {place}"
            if raised
            else re.sub("[0-9]+", "N", self.what[:40])
        )


class Found(NamedTuple):
    """What became of changed files: faults, and how many were refused and read."""

    faults: list[Fault]
    refused: int
    read: int


def fuzz(kind: str, first: int, count: int, keep: Path) -> Found:
    """Reads `count` changed files of a kind, of the seeds from `first` on."""
    faults, refused, seeds = [], 0, list(range(first, first + count))
    while seeds:
        folder = Path(tempfile.mkdtemp(prefix="vtd_jax_fuzz_"))
        try:
            found, some, last = _child(kind, seeds, folder, keep)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        faults, refused = faults + found, refused + some
        seeds = [seed for seed in seeds if seed > last]
    return Found(faults, refused, count - refused - len(faults))


def _child(
    kind: str, seeds: Sequence[int], folder: Path, keep: Path
) -> tuple[list[Fault], int, int]:
    """The faults that one process found, how many files it refused, and the last seed that it came
    to.
    """
    spec = dict(kind=kind, seeds=list(seeds), folder=str(folder), keep=str(keep), memory=_MEMORY)
    (folder / "spec.json").write_text(json.dumps(spec))
    (folder / "progress").touch()
    environment = dict(
        os.environ,
        XLA_FLAGS="",
        JAX_PLATFORMS="cpu",
        PYTHONPATH=f"{warm.ROOT}:{warm.ROOT / 'tests'}",
    )
    environment |= {
        "HOME": str(folder),
        "VTD_JAX_CACHE": str(folder / "cache"),
        "TMPDIR": str(folder),
    }
    started = warm.Started(["-m", "hostile.fuzzing.child", str(folder / "spec.json")], environment)
    stuck = _wait(started, folder / "progress")
    lines = [json.loads(line) for line in (folder / "progress").read_text().splitlines()]
    faults = [
        Fault(line["target"], line["seed"], line["fault"]) for line in lines if line.get("fault")
    ]
    refused = sum(line["refused"] for line in lines if line.get("refused") and not line["fault"])
    if not stuck and started.returncode == 0:
        return faults, refused, seeds[-1]
    if not lines:
        raise RuntimeError(f"{kind}: cannot begin: {(started.out / 'stderr').read_text()[-3000:]}")
    at = lines[-1]
    message = (started.out / "stderr").read_text(errors="replace").strip()[-300:]
    ends = f"ends the process ({started.returncode}): {' '.join(message.split())}"
    what = "hangs" if stuck else ends
    with contextlib.suppress(OSError):
        shutil.copytree(
            folder / "case",
            keep / f"{at['target']}-{at['seed']}",
            symlinks=True,
            dirs_exist_ok=True,
        )
    return [*faults, Fault(at["target"], at["seed"], what)], refused, at["seed"]


def _wait(started: warm.Started, progress: Path) -> bool:
    """Waits for the end; ends what hangs, and returns whether it did."""
    before, since = -1, time.monotonic()
    while started.poll() is None:
        size = progress.stat().st_size
        if size != before:
            before, since = size, time.monotonic()
        elif time.monotonic() - since > (_STUCK if before else _START):
            started.kill()
            started.wait(10)
            return True
        time.sleep(0.05)
    return False


def described(faults: Sequence[Fault], keep: Path) -> list[str]:
    """A line for every kind of fault, with its first seeds."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    return [
        f"{same[0].target}, seed {', '.join(str(f.seed) for f in same[:3])} ({len(same)} in all): "
        f"{same[0].what}; files in {keep / f'{same[0].target}-{same[0].seed}'}"
        for same in kinds.values()
    ]


def main() -> int:
    """Fuzzes all kinds, or those that are named; the exit status is 1 where a rule was broken."""
    count, keep = (
        int(os.environ.get("FUZZ_COUNT") or 2000),
        Path(os.environ.get("FUZZ_KEEP") or "fuzz_failures").absolute(),
    )
    # a number that is easily given again
    first = int(os.environ.get("FUZZ_SEED") or int(time.time()) % 10**6 * 10**4)
    kinds = sys.argv[1:] or list(KINDS)
    print(f"FUZZ_SEED={first} FUZZ_COUNT={count}, kinds {', '.join(kinds)}", flush=True)
    os.environ["JAX_PLATFORMS"] = "cpu"
    # the server of warm starts, before there are threads
    warm.run(["-c", "pass"])
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        done = {kind: threads.submit(_timed, kind, first, count, keep) for kind in kinds}
        for kind, result in done.items():
            found, seconds = result.result()
            failed += len(found.faults)
            counts = f"{found.refused} refused, {found.read} read, {len(found.faults)} faults"
            print(f"{kind}: {count} changed files, {counts}, {seconds:.0f} s", flush=True)
            for line in described(found.faults, keep):
                print(f"  {line}", flush=True)
    return 1 if failed else 0


def _timed(kind: str, first: int, count: int, keep: Path) -> tuple[Found, float]:
    begun = time.monotonic()
    return fuzz(kind, first, count, keep), time.monotonic() - begun


if __name__ == "__main__":
    sys.exit(main())
