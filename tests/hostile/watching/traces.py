"""What a command left: entries that changed, processes that did not end."""

import contextlib
import os
import re
import signal
import stat
import time
from collections.abc import Collection
from pathlib import Path


def left_processes(session: int) -> list[str]:
    """Processes of the session that are there ten seconds after its leader has gone; they are
    ended.
    """
    end = time.monotonic() + 10
    while (there := _of_session(session)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return list(there.values())


def covers(output: Path, path: Path) -> bool:
    """Whether permission to write `output` covers `path`: below it, its temporary name, or its
    name and an ending.
    """
    if path == output or output in path.parents:
        return True
    name = path.name.lstrip(".")
    temporary = re.fullmatch(
        re.escape(output.stem) + r"\.[0-9a-f]{12}\.part" + re.escape(output.suffix), name
    )
    return path.parent == output.parent and (
        name.startswith(f"{output.name}.") or temporary is not None
    )


def _of_session(session: int) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != session:
            with contextlib.suppress(OSError, IndexError):
                # pid (name) state ppid pgrp session …
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = command.decode(errors="replace")[:200]
    return found


def absolute(path: str | Path, cwd: str) -> Path:
    """A path from `cwd`, without `..`; links are not followed."""
    return Path(os.path.abspath(os.path.join(cwd, path)))


def snapshot(folder: Path) -> dict[str, tuple]:
    """Every entry below a folder: kind and permissions, and of all but folders the size, the time,
    the number.
    """
    found = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(here, name)
            with contextlib.suppress(FileNotFoundError):
                entry = os.lstat(path)
                inside = (
                    ()
                    if stat.S_ISDIR(entry.st_mode)
                    else (entry.st_size, entry.st_mtime_ns, entry.st_ino)
                )
                found[path] = (entry.st_mode, *inside)
    return found


def changed_entries(
    before: dict, after: dict, folder: Path, outputs: Collection[Path]
) -> list[str]:
    """Names of entries that came, went or changed and are no outputs, below one, nor beside one
    under its name.
    """

    changed = (Path(path) for path in {*before, *after} if before.get(path) != after.get(path))
    # folders that are made for an output
    above = {parent for out in outputs for parent in out.parents}
    return sorted(
        str(path.relative_to(folder))
        for path in changed
        if not any(covers(out, path) for out in outputs) and path not in above
    )
