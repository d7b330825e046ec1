"""Python processes that import nothing from the current folder, where a `json.py` may lie."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# where this package lies
_ROOT = Path(__file__).resolve().parents[2]
# what keeps the current folder off the path of Python 3.11 and later
_SAFE = "PYTHONSAFEPATH"
_starting = threading.RLock()


def isolated(code: str, *arguments: str) -> list[str]:
    """The command of a Python that finds its modules where this process does.

    Args:
      code: statements; `sys` is imported, and `sys.argv[1:]` are the arguments.
      arguments: for it.
    """
    # an empty entry is the current folder of the moment, as in a Python that people type into
    paths = [path or str(_ROOT) for path in sys.path]
    begin = "import json, sys; sys.path[:] = json.loads(sys.argv.pop())"
    return [sys.executable, "-I", "-c", f"{begin}; {code}", *arguments, json.dumps(paths)]


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Processes of `multiprocessing` that are started inside begin without the current folder.

    They take the path of this process when they have imported what they start with.
    """
    with _starting:
        before = os.environ.get(_SAFE)
        os.environ[_SAFE] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_SAFE]
            else:
                os.environ[_SAFE] = before
