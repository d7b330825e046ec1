"""The process in which changed files are read, many of them: `python -m hostile.fuzzing.child
SPEC.json`, from `fuzz`.

It writes a line before and after each; where there is no line after, it has crashed or hangs.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import unicodedata
from pathlib import Path
from typing import Any

from hostile.fuzzing import kinds
from hostile.limited import limit_memory
from vtd_jax.errors import UserError
from vtd_jax.printable import printable

# of a message, and of all that one file makes a reader print
_LINE, _OUTPUT = 9100, 40_000
_ROOT = Path(__file__).resolve().parents[3]


def main() -> None:
    """Reads what SPEC asks for: `kind`, `seeds`, `folder`, `keep`, `memory`."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    folder, keep = Path(spec["folder"]), Path(spec["keep"])
    targets, good = kinds.load(spec["kind"]), folder / "good"
    for name, target in targets.items():
        (good / name).mkdir(parents=True)
        target.make(good / name)
        # what is imported and compiled by the first reading is no fault of a file's
        with contextlib.suppress(*target.documented):
            target.read(good / name)
    limit_memory(spec["memory"])
    names, case = list(targets), folder / "case"
    with (folder / "progress").open("a", buffering=1) as progress:
        for seed in spec["seeds"]:
            name = names[seed % len(names)]
            shutil.rmtree(case, ignore_errors=True)
            targets[name].changed(random.Random(f"{name}/{seed}"), good / name, case)
            progress.write(json.dumps({"seed": seed, "target": name}) + "\n")
            fault, refused = _fault(targets[name], case, targets[name].seconds)
            if fault is not None:
                kept = keep / f"{name}-{seed}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(case, kept, symlinks=True)
            progress.write(
                json.dumps({"seed": seed, "target": name, "fault": fault, "refused": refused})
                + "\n"
            )


def _fault(target: Any, case: Path, seconds: float) -> tuple[str | None, bool]:
    """What is wrong with how a folder is read (None if nothing), and whether it was refused."""
    before, said = time.process_time(), [os.fstat(number).st_size for number in (1, 2)]
    _forget_peak()
    start, fault, refused = _memory("VmRSS"), None, True
    try:
        target.read(case)
        refused = False
    except UserError as error:
        fault = _bad_line(str(error))
    except target.documented:
        pass
    except Exception as error:
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:150]} at {_place(error)}"
    spent, grown = time.process_time() - before, _memory("VmHWM") - start
    if spent > seconds:
        fault = fault or f"{spent:.0f} s of CPU time"
    if grown > kinds.RESIDENT:
        fault = fault or f"{grown / 2**20:.0f} MiB of memory"
    return fault or _bad_output(said), refused


def _bad_line(text: str) -> str | None:
    if len(text) > _LINE:
        return f"an error of {len(text)} characters: {text[:60]!r}"
    if "\n" in text or printable(text) != text:
        return f"an error that acts on a terminal: {text[:200]!r}"
    return None


def _bad_output(said: list[int]) -> str | None:
    """What is wrong with what was printed since."""
    sys.stdout.flush()
    sys.stderr.flush()
    for number, start in enumerate(said, start=1):
        with Path(f"/proc/self/fd/{number}").open("rb") as file:
            file.seek(start)
            text = file.read(10 * _OUTPUT).decode(errors="replace")
        if len(text) > _OUTPUT:
            return f"{len(text)} characters printed: {text[:60]!r}"
        if "Traceback" in text:
            return f"a traceback printed: {text.strip().splitlines()[-1][:200]!r}"
        if any(
            unicodedata.category(c) in ("Cc", "Cf") and c != "\n" and printable(c) != c
            for c in text
        ):
            return f"printed what acts on a terminal: {text[:200]!r}"
    return None


def _place(error: BaseException) -> str:
    """The last two places of ours in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f
        for f in frames
        if f.filename.startswith(str(_ROOT))
        and ".venv" not in f.filename
        and "/tests/" not in f.filename
    ]
    return " < ".join(
        f"{os.path.relpath(f.filename, _ROOT)}:{f.lineno}" for f in reversed(ours[-2:])
    )


def _forget_peak() -> None:
    # not allowed everywhere: then the peak is that of all that was read
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    try:
        return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
