"""Several processes as one run: what they exchange, and how all of them fail (how they start:
`joining`).

Everything here works in a single process too, where it does nothing but call what it was given.
With several, all of them must make the same calls in the same order.
"""

import contextlib
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

_RAISED_BY = "raised_by_process"


def process_count() -> int:
    """How many processes the run has."""
    return jax.process_count()


def process_index() -> int:
    """Which of them this is, from 0."""
    return jax.process_index()


def is_first() -> bool:
    """Whether this is process 0, the one that prints and writes."""
    return jax.process_index() == 0


def on_first(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on process 0 only and gives its result to all.

    Args:
      function: its result must be small, and something `pickle` can take.
      *args: what it is called with.

    Raises:
      UserError: it raised one, which all raise and process 0 reports.
      RuntimeError: it raised another exception, which process 0 raises itself.
    """
    if process_count() == 1:
        return function(*args)
    sent, failure = None, None
    if is_first():
        try:
            sent = pickle.dumps((function(*args), None))
        except Exception as error:
            failure, sent = error, pickle.dumps((None, _description(error)))
    result, description = pickle.loads(_broadcast(sent, 0))
    if description is not None:
        raise _common_error(failure, description, 0)
    return result


def on_all(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function` on every process and returns when all are done; if one raises, all raise.

    The processes that failed raise their own exception, the others one with the message of the
    first that failed: UserError for a UserError, else RuntimeError.
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
    sent = pickle.dumps(_description(failure)) if process_index() == first else None
    raise _common_error(failure, pickle.loads(_broadcast(sent, first)), first)


def mark_common(error: Exception) -> Exception:
    """Marks an error that all processes raise by themselves, from what all of them know; process 0
    reports it.
    """
    return _mark(error, 0)


def check_same(**values: str) -> None:
    """Refuses a value that is not the same on all processes; all must give the same
    names.

    Raises:
      UserError: naming what differs and the first process where it does.
    """
    if process_count() == 1:
        return
    # as pairs of 32 bits, which JAX has everywhere
    digests = [np.frombuffer(bytes.fromhex(fingerprint(each)), "u4") for each in values.values()]
    everywhere = multihost_utils.process_allgather(np.stack(digests))
    for place, found in enumerate(everywhere):
        differ = (found != everywhere[0]).any(axis=-1)
        wrong = [name for name, differs in zip(values, differ) if differs]
        if wrong:
            raise mark_common(
                UserError(
                    f"process {place}: its {' and '.join(wrong)} differ from those of process 0; "
                    "give all processes the same command, and the same files under its paths"
                )
            )


_before_end: Callable[[], object] | None = None


def before_end(function: Callable[[], object]) -> None:
    """Has a function called where this process ends because of another one: to wait for what it is
      writing.

    It is called by another thread. The next one takes its place.
    """
    global _before_end
    _before_end = function


def finish(seconds: float) -> None:
    """Calls what `before_end` was given, for so many seconds at most; never raises."""

    def call() -> None:
        with contextlib.suppress(Exception):
            _before_end()

    if _before_end is not None:
        thread = threading.Thread(target=call, name="vtd-finish", daemon=True)
        thread.start()
        thread.join(seconds)


def raised_everywhere(error: BaseException) -> bool:
    """Whether all processes raise this now, so that each may leave in the ordinary way."""
    return _marked(error) is not None


def alone(error: BaseException) -> bool:
    """Whether only this one of several processes raises this: the others are elsewhere, and none
    can go on.
    """
    return process_count() > 1 and not raised_everywhere(error)


def reported_elsewhere(error: BaseException) -> bool:
    """Whether another process reports this error to the user."""
    return _marked(error) not in (None, process_index())


def gather_rows(rows: Shaped[np.ndarray, "rows ..."]) -> Shaped[np.ndarray, "all ..."]:
    """The rows of all processes, one process after the other; each may have another number of them,
    or none.

    Raises:
      ValueError: the processes' rows differ in dtype or shape.
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
    # as bytes: JAX would make 32 bits of 64, and has no dtype for some
    padded = np.zeros((int(counts.max()), width), np.uint8)
    padded[: len(rows)] = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), width)
    gathered = (
        multihost_utils.process_allgather(padded)
        if padded.size
        else np.zeros((len(counts), *padded.shape), "u1")
    )
    data = b"".join(part[:count].tobytes() for part, count in zip(gathered, counts))
    return np.frombuffer(data, dtype).reshape(int(counts.sum()), *shape).copy()


def _description(error: Exception) -> tuple[bool, str]:
    """Whether it is the user's to mend, and what it says."""
    mendable = isinstance(error, UserError)
    return mendable, str(error) if mendable else f"{type(error).__name__}: {error}"


def _common_error(failure: Exception | None, description: tuple[bool, str], first: int) -> Exception:
    """What failed here, or else what failed in process `first`, marked as raised by all."""
    mendable, message = description
    if failure is None:
        failure = UserError(message) if mendable else RuntimeError(f"process {first}: {message}")
    return _mark(failure, first)


def _mark(error: Exception, process: int) -> Exception:
    """Notes on an error that all processes raise it, and which of them tells the user.

    An attribute, not a type of its own: callers and commands go by the type that the error has.
    """
    setattr(error, _RAISED_BY, process)
    return error


def _marked(error: BaseException) -> int | None:
    """The process that tells the user of an error that all raise; None where one raises alone."""
    return getattr(error, _RAISED_BY, None)


def _broadcast(data: bytes | None, source: int) -> bytes:
    """Bytes of process `source`, given to all; the others pass None."""
    here = process_index() == source
    size = int(
        multihost_utils.broadcast_one_to_all(np.uint32(len(data) if here else 0), is_source=here)
    )
    # lengths of powers of two: few programs to compile
    padded = np.zeros(max(256, 1 << (size - 1).bit_length()), np.uint8)
    if here:
        padded[:size] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded, is_source=here))[:size].tobytes()
