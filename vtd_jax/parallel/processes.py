"""What the processes of a run exchange, and how all of them fail (how they start: `joining`).

Everything here works in a single process too. With several, all of them must make the same calls in
the same order.
"""

import contextlib
import itertools
import pickle
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Shaped

from vtd_jax.errors import UserError
from vtd_jax.fingerprints import fingerprint

_REPORTER = "reported_by_process"


def process_count() -> int:
    """The number of processes of the run."""
    return jax.process_count()


def process_index() -> int:
    """The rank of this process, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is process 0, the one that prints and writes."""
    return jax.process_index() == 0


def on_first(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on process 0 only and returns its result on all.

    Args:
      function: its result must be small and picklable.
      *args: its arguments.

    Raises:
      UserError: the function raised one; all raise it, process 0 reports it.
      RuntimeError: the function raised another exception, which process 0 raises itself.
    """
    if process_count() == 1:
        return function(*args)
    sent, failure = b"", None
    if is_first():
        try:
            sent = pickle.dumps((function(*args), None))
        except Exception as error:
            failure, sent = error, pickle.dumps((None, _for_others(error)))
    result, error = pickle.loads(_broadcast(sent, 0))
    if error is not None:
        raise mark_common(failure or error)
    return result


def on_all(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on every process and waits for all; if one raises, all raise.

    A process that failed raises its own exception. The others raise one with the message of the
    first that failed: a UserError for a UserError, else a RuntimeError.
    """
    if process_count() == 1:
        return function(*args)
    result, failure = None, None
    try:
        result = function(*args)
    except Exception as error:
        failure = error
    failed = multihost_utils.process_allgather(np.uint8(failure is not None))
    if not failed.any():
        return result
    first = int(np.argmax(failed))
    sent = b"" if failure is None else pickle.dumps(_for_others(failure))
    # all take part in the broadcast, also those that failed
    others = pickle.loads(_broadcast(sent, first))
    raise mark_common(failure or others, first)


def mark_common(error: Exception, reporter: int = 0) -> Exception:
    """Marks an error that all processes raise; process `reporter` reports it.

    It is an attribute and not another type, because callers check the type of the error.
    """
    setattr(error, _REPORTER, reporter)
    return error


def check_same(**values: str) -> None:
    """Checks that values are the same on all processes, which must give the same names.

    Raises:
      UserError: it names what differs and the first process where it does.
    """
    if process_count() == 1:
        return
    # as pairs of 32 bits, which JAX has everywhere
    digests = [np.frombuffer(bytes.fromhex(fingerprint(each)), "u4") for each in values.values()]
    gathered = multihost_utils.process_allgather(np.stack(digests))
    for rank, of_rank in enumerate(gathered):
        differ = (of_rank != gathered[0]).any(axis=-1)
        if wrong := list(itertools.compress(values, differ)):
            raise mark_common(
                UserError(
                    f"process {rank}: its {' and '.join(wrong)} differ from those of process 0; "
                    "give all processes the same command, and the same files under its paths"
                )
            )


_before_end: Callable[[], object] | None = None


def before_end(function: Callable[[], object]) -> None:
    """Sets the function that another thread calls before this process ends because of another one,
    to wait for a file that is being written. It replaces an earlier one.
    """
    global _before_end
    _before_end = function


def finish(seconds: float) -> None:
    """Calls the function of `before_end` and waits at most `seconds` for it; never raises."""
    if (function := _before_end) is None:
        return

    def call() -> None:
        with contextlib.suppress(Exception):
            function()

    thread = threading.Thread(target=call, name="vtd-finish", daemon=True)
    thread.start()
    thread.join(seconds)


def raised_everywhere(error: BaseException) -> bool:
    """Whether all processes raise this error, so that each may exit in the ordinary way."""
    return hasattr(error, _REPORTER)


def alone(error: BaseException) -> bool:
    """Whether only this one of several processes raises this error, so that the others must end."""
    return process_count() > 1 and not raised_everywhere(error)


def reported_elsewhere(error: BaseException) -> bool:
    """Whether another process reports this error to the user."""
    return getattr(error, _REPORTER, process_index()) != process_index()


def gather_rows(rows: Shaped[np.ndarray, "rows ..."]) -> Shaped[np.ndarray, "all ..."]:
    """The rows of all processes, in the order of ranks; each may have any number of them.

    Raises:
      ValueError: the rows differ in dtype or shape between processes.
    """
    if process_count() == 1:
        return rows
    shape, dtype = rows.shape[1:], rows.dtype
    kind = int(fingerprint(f"{dtype} {shape}")[:8], 16)
    counts, kinds = multihost_utils.process_allgather(np.array([len(rows), kind], np.uint32)).T
    if len(set(kinds.tolist())) > 1:
        raise ValueError(
            f"rows of {dtype} {shape} here, of another dtype or shape on another process"
        )
    width = int(np.prod(shape)) * dtype.itemsize
    # as bytes: JAX would cut 64 bits to 32, and lacks some dtypes
    padded = np.zeros((int(counts.max()), width), np.uint8)
    padded[: len(rows)] = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), width)
    gathered = (
        multihost_utils.process_allgather(padded)
        if padded.size
        else np.zeros((len(counts), *padded.shape), "u1")
    )
    data = b"".join(part[:count].tobytes() for part, count in zip(gathered, counts))
    return np.frombuffer(data, dtype).reshape(int(counts.sum()), *shape).copy()


def _for_others(error: Exception) -> Exception:
    """The error that other processes raise for an error of this one, which may not be picklable."""
    if isinstance(error, UserError):
        return UserError(str(error))
    return RuntimeError(f"process {process_index()}: {type(error).__name__}: {error}")


def _broadcast(data: bytes, source: int) -> bytes:
    """Sends the bytes of process `source` to all; those of the others are ignored."""
    here = process_index() == source
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(data)), is_source=here))
    # lengths of powers of two: few programs to compile
    padded = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    if here:
        padded[:size] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded, is_source=here))[:size].tobytes()
