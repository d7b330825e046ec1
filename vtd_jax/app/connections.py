"""Patience with connections: none waits for ever, and no client has all of them."""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vtd_jax.app.guard import SAFETY
from vtd_jax.untrusted.limits import (
    APP_CONNECTIONS,
    APP_PATIENCE_SECONDS,
    APP_STALLED_SECONDS,
)

_FULL = b"503 Service Unavailable", b"too many connections; close some\n"
_BAD = b"400 Bad Request", b"no request of HTTP/1.1\n"
# seconds until a silent peer is asked whether it lives, from question to question, and questions
_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class Patient(H11Protocol):
    """A connection whose requests come in time: the head of each from its first byte on.

    uvicorn bounds the time between requests, and `guard` the pace of bodies.
    """

    def __init__(
        self,
        *given: Any,
        most: int = APP_CONNECTIONS,
        each: int = APP_CONNECTIONS,
        patience: float = APP_PATIENCE_SECONDS,
        **settings: Any,
    ):
        """
        Args:
          *given: for uvicorn, as `**settings`.
          most: connections of all clients at once.
          each: of one address.
          patience: seconds for the head of a request.
        """
        super().__init__(*given, **settings)
        self._most, self._each, self._patience = most, each, patience
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)
        if (own := transport.get_extra_info("socket")) is not None:
            _prepare(own)
        if len(self.connections) > self._most or self._of_this_client() > self._each:
            self._refuse(*_FULL)
            return
        self._expect()

    def data_received(self, data: bytes) -> None:
        """More bytes, of a head or a body."""
        super().data_received(data)
        if self._answers():
            self._forgive()
        else:
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, with the headers of safety as all else."""
        if self._answers() and self.cycle.response_started:
            # not into the middle of an answer
            self.transport.close()
            return
        self._refuse(*_BAD)

    def _answers(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: bytes, text: bytes) -> None:
        """Answers what no application sees, and closes the connection."""
        size = (b"content-length", str(len(text)).encode())
        given = ((b"content-type", b"text/plain"), size, (b"connection", b"close"))
        lines = [b"HTTP/1.1 " + status, *(b": ".join(one) for one in (*given, *SAFETY))]
        self.transport.write(b"\r\n".join([*lines, b"", text]))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._forgive()
        super().connection_lost(exc)

    def _of_this_client(self) -> int:
        if self.client is None:
            return 0
        clients = [getattr(one, "client", None) for one in self.connections]
        return sum(one is not None and one[0] == self.client[0] for one in clients)

    def _expect(self) -> None:
        """A head is on its way, which more bytes do not make late."""
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._patience, self.transport.abort)

    def _forgive(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _prepare(own: Any) -> None:
    """Sends what there is at once, and notices a peer that is gone without a word."""
    # asyncio does so for sockets that know their protocol, which uvicorn's do not: then an answer's
    # body waits 40 ms for the browser to confirm its head
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux has all of these, others some
    values = _ALIVE | {"TCP_USER_TIMEOUT": 1000 * APP_STALLED_SECONDS}
    for name, value in values.items():
        if (option := getattr(socket, name, None)) is not None:
            own.setsockopt(socket.IPPROTO_TCP, option, value)
