"""The git checkout that this package runs from."""

import subprocess
from pathlib import Path

import vtd_jax


def commit() -> str | None:
    """The git commit of the code, with `+` if files were changed; None outside a checkout."""
    root = Path(vtd_jax.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    changes = _git(root, "status", "--porcelain", "-uno")
    return None if head is None or changes is None else head + ("+" if changes else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
