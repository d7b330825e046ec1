"""Lines of JSON between processes at the roll call of a run; what strangers write there is refused,
and no more.
"""

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
# seconds within which a few bytes must be sent
_SENT = 5.0


@dataclass(frozen=True)
class Hello:
    """The first line of a process to process 0.

    Attributes:
      versions: of this package and JAX.
      place: which process it is.
      count: how many it expects.
      who: host and process id, for messages.
      told: its flags and settings by name, which must be the same everywhere.
      mark: of this very process, by which process 0 knows itself.
      failed: why it does not join, in one line; "" where it does.
    """

    versions: str
    place: int
    count: int
    who: str
    told: dict[str, str]
    mark: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Word:
    """Every other line.

    Attributes:
      kind: "here" (process 0 has read the hello), "go" (all have come), "failed" and "lost"
        (nothing comes of it, by a mistake in a command or because a process is gone).
      text: for "failed" and "lost" the line that every process prints; for "here" who process 0 is.
    """

    kind: Literal["here", "go", "failed", "lost"]
    text: str = ""


class Lost(UserError):
    """Another process of the run is gone; nothing that this one's user did wrong."""


def new_mark() -> str:
    """What no other process has."""
    return secrets.token_hex(16)


class Wire:
    """One connection; may be written by several threads, and is read by one."""

    def __init__(self, connection: socket.socket):
        connection.settimeout(_SENT)
        self._socket, self._unread, self._lock = connection, b"", threading.Lock()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def say(self, message: Hello | Word) -> bool:
        """Sends a line; False where nobody is there any more."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(f"{json.dumps(asdict(message))}\n".encode())
            return True
        return False

    def heard(self, kind: Any = Word) -> list[Any] | None:
        """What has come, once a selector says that something has; None at the end.

        Raises:
          UserError: it is no such line, or one that is too long.
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

    def wait(self, seconds: float, kind: Any = Word) -> Any:
        """The next line; None if the other end is gone. For the beginning, when one line is
        expected.

        Raises:
          TimeoutError: nothing came.
          UserError: as `heard`.
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
            self._socket.settimeout(_SENT)
        line, _, self._unread = self._unread.partition(b"\n")
        return parse_json(line, "another process", kind)

    def leave(self) -> None:
        """Closes it here alone: another process has it."""
        self._socket.close()

    def close(self) -> None:
        """What was sent still arrives."""
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
        # IPv6 that is compiled in and switched off; a port that is taken is so here too
        return socket.create_server(("", port), backlog=1024)


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def myself() -> str:
    """Host and process id, for messages."""
    return f"{socket.gethostname()}, process id {os.getpid()}"
