"""The roll call from the side of a process that is not the first: it says who it is, and waits."""

import socket
import time
from collections.abc import Callable

from vtd_jax.errors import UserError, setting
from vtd_jax.parallel.wires import Hello, Lost, Wire, split

# seconds between two tries to reach process 0, and for which it may say nothing
_RETRY, _SILENT = 0.3, 10.0
# seconds without process 0 after which that is reported
_PATIENT = 10.0


def answer(
    address: str,
    own: Hello,
    deadline: float,
    patience: float,
    report: Callable[[str], object] = lambda line: None,
) -> tuple[Wire, str]:
    """Says hello to process 0 and waits until all have come.

    Args:
      address: of process 0.
      own: this process's.
      deadline: by `time.monotonic`.
      patience: seconds to keep asking one that answers, but not as process 0 does: the service of
        a run that ended.
      report: gets one line where process 0 does not come for 10 s.

    Returns:
      The connection, which stays, and who process 0 is.

    Raises:
      UserError: the processes do not fit each other, or one of them could not start; or another
        program answers.
      Lost: process 0 is gone.
      TimeoutError: it could not be reached, or not all came in time; the message is for users.
    """
    strange, why = None, "nobody answers"
    begun, silent = time.monotonic(), True
    while time.monotonic() < deadline:
        if silent and time.monotonic() - begun > _PATIENT:
            left = max(deadline - time.monotonic(), 0)
            report(
                f"waiting for process 0 at {address}, for {left:.0f} s more: {why}; is it started?"
            )
            silent = False
        try:
            wire = Wire(
                socket.create_connection(
                    split(address), timeout=min(5, deadline - time.monotonic() + 0.1)
                )
            )
        except OSError as error:
            why = f"cannot be reached ({error.strerror or error})"
        else:
            wire.say(own)
            if (who := _named(wire, deadline)) is not None:
                try:
                    _await_go(wire, who, deadline)
                except BaseException:
                    wire.close()
                    raise
                return wire, who
            wire.close()
            strange = strange or time.monotonic()
            if time.monotonic() - strange > patience:
                raise UserError(
                    f"{setting('coordinator_address', address)}: something answers there, but not process 0 "
                    "of this command; is the port another program's, or did the run begin "
                    "without this process?"
                )
        time.sleep(_RETRY)
    raise TimeoutError(why)


def _named(wire: Wire, deadline: float) -> str | None:
    """Who answers; None where it is not process 0."""
    try:
        word = wire.wait(min(_SILENT, deadline - time.monotonic()))
    except (UserError, TimeoutError):
        return None
    return word.text if word is not None and word.kind == "here" else None


def _await_go(wire: Wire, who: str, deadline: float) -> None:
    while True:
        # process 0 gives up at its own deadline, and says so
        try:
            word = wire.wait(deadline - time.monotonic() + 5)
        except TimeoutError:
            raise TimeoutError("not all processes came") from None
        if word is None:
            raise Lost(f"process 0 ({who}) ended before all processes had come")
        if word.kind in ("failed", "lost"):
            raise (Lost if word.kind == "lost" else UserError)(word.text)
        if word.kind == "go":
            return
