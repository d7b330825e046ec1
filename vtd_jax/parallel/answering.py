"""The roll call, seen from any process but 0: it says who it is, and waits."""

import socket
import time
from collections.abc import Callable

from vtd_jax.errors import UserError, setting
from vtd_jax.parallel.wires import Hello, Lost, Wire, split

# seconds between two attempts to reach process 0, and to wait for its reply
_RETRY, _SILENT = 0.3, 10.0
# seconds without process 0 after which the wait is reported
_PATIENT = 10.0


def answer(
    address: str,
    own: Hello,
    deadline: float,
    patience: float,
    report: Callable[[str], object] = lambda line: None,
) -> tuple[Wire, str]:
    """Says hello to process 0 and waits until all processes have joined.

    Args:
      address: of process 0.
      own: this process's hello.
      deadline: by `time.monotonic`.
      patience: seconds to retry where another program answers, such as the service of a run that
        just ended.
      report: called with one line if process 0 does not answer for 10 s.

    Returns:
      The connection, which stays open, and who process 0 is.

    Raises:
      UserError: the processes do not fit each other, one could not start, or another program
        answers.
      Lost: process 0 is gone.
      TimeoutError: process 0 or others did not come in time; the message is for users.
    """
    strange, why = None, "no answer"
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
            wire.send(own)
            if (who := _process_0(wire, deadline)) is not None:
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
                    f"{setting('coordinator_address', address)}: another program answers there, "
                    "not process 0 of this command; is the port in use, or did the run start "
                    "without this process?"
                )
        time.sleep(_RETRY)
    raise TimeoutError(why)


def _process_0(wire: Wire, deadline: float) -> str | None:
    """Who process 0 is; None where another program answers."""
    try:
        reply = wire.wait(min(_SILENT, deadline - time.monotonic()))
    except (UserError, TimeoutError):
        return None
    return reply.text if reply is not None and reply.kind == "here" else None


def _await_go(wire: Wire, who: str, deadline: float) -> None:
    while True:
        # 5 s more: process 0 gives up at the same deadline, and sends a line about it
        try:
            reply = wire.wait(deadline - time.monotonic() + 5)
        except TimeoutError:
            raise TimeoutError("not all processes came") from None
        if reply is None:
            raise Lost(f"process 0 ({who}) ended before all processes had come")
        if reply.kind in ("failed", "lost"):
            raise (Lost if reply.kind == "lost" else UserError)(reply.text)
        if reply.kind == "go":
            return
