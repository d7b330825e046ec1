"""Lines of JSON between the processes of a run; lines of any other program are refused."""

import contextlib
import json
import os
import secrets
import socket
import threading
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vtd_jax.errors import UserError
from vtd_jax.untrusted.json_text import parse_json

# bytes of one line: the flags of a command, each cut to 200 characters
LINE = 2**18
# seconds to send a line: the other end may have stopped reading
_SEND_TIMEOUT = 5.0


@dataclass(frozen=True)
class Hello:
    """The first line of a process to process 0.

    Attributes:
      versions: of this package and JAX.
      rank: which process it is.
      count: how many processes it expects.
      who: host and process id, for messages.
      flags: flags and settings by name, which must be the same on all processes.
      mark: unique to this process; process 0 recognises its own.
      failed: why it does not join, in one line; "" where it does.
    """

    versions: str
    rank: int
    count: int
    who: str
    flags: dict[str, str]
    mark: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Reply:
    """Every other line.

    Attributes:
      kind: "here" (process 0 has read the hello), "go" (all processes have joined), "failed" (a
        command is wrong) or "lost" (a process is gone).
      text: for "failed" and "lost" the line that every process prints; for "here" who process 0 is.
    """

    kind: Literal["here", "go", "failed", "lost"]
    text: str = ""


class Lost(UserError):
    """Another process of the run is gone."""


def new_mark() -> str:
    """A mark that no other process has."""
    return secrets.token_hex(16)


class Wire:
    """One connection. Several threads may write to it, one reads."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(_SEND_TIMEOUT)
        self._socket, self._unread, self._lock = connection, b"", threading.Lock()

    def fileno(self) -> int:
        """The file descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: Hello | Reply) -> bool:
        """Sends a line; False if the other end is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(f"{json.dumps(asdict(message))}\n".encode())
            return True
        return False

    def received(self, kind: Any = Reply) -> list[Any] | None:
        """The lines received, once a selector reports some; None at the end of the connection.

        Raises:
          UserError: not such a line, or too long.
        """
        try:
            content = self._socket.recv(2**16)
        except (TimeoutError, BlockingIOError):
            return []
        except OSError:
            return None
        if not content:
            return None
        *lines, self._unread = (self._unread + content).split(b"\n")
        if len(self._unread) > LINE or any(len(line) > LINE for line in lines):
            raise UserError(f"a line of more than {LINE:,} bytes")
        return [parse_json(line, "another process", kind) for line in lines]

    def wait(self, seconds: float, kind: Any = Reply) -> Any:
        """Waits for one line; None if the other end is gone.

        Raises:
          TimeoutError: no line arrived.
          UserError: as for `received`.
        """
        self._socket.settimeout(max(seconds, 0.01))
        try:
            while b"\n" not in self._unread:
                content = self._socket.recv(2**16)
                if not content:
                    return None
                self._unread += content
                if len(self._unread) > LINE:
                    raise UserError(f"a line of more than {LINE:,} bytes")
        except TimeoutError:
            raise
        except OSError:
            return None
        finally:
            self._socket.settimeout(_SEND_TIMEOUT)
        line, _, self._unread = self._unread.partition(b"\n")
        return parse_json(line, "another process", kind)

    def detach(self) -> None:
        """Closes this end only: another process keeps the connection open."""
        self._socket.close()

    def close(self) -> None:
        """Closes the connection; what was sent still arrives."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()


def listen(port: int) -> socket.socket:
    """A server on all addresses; raises OSError where the port is taken."""
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError:
        # IPv6 may be compiled in and switched off; a taken port raises here too
        return socket.create_server(("", port), backlog=1024)


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def myself() -> str:
    """Host and process id, for messages."""
    return f"{socket.gethostname()}, process id {os.getpid()}"
