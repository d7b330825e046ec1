"""The server of the page: a socket, signals, and patience with connections."""

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.service import Service
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import APP_CONNECTIONS, APP_PATIENCE_SECONDS

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# seconds that a connection is kept between requests, as between the edits of a person
_IDLE = 60
# seconds that answers on their way get when the server ends
_GRACE = 1


def guarded(routes: Routes, token: str, **settings: Any) -> Guard:
    """The application behind its guard; `settings` are of `Guard`."""
    return Guard(routes.app(), token, **settings)


def serve(
    service: Service,
    token: str,
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    **settings: Any,
) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
      service: what answers.
      token: that every request has.
      host: address to listen at.
      port: 0 for a free one.
      ready: called with host and port once connections are taken.
      **settings: of `Guard`.

    Raises:
      UserError: the address cannot be used.
    """
    asyncio.run(_serve(service, token, host, port, ready, settings))


async def _serve(
    service: Service,
    token: str,
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    settings: dict[str, Any],
) -> None:
    routes = Routes(service)
    config = uvicorn.Config(
        guarded(routes, token, **settings),
        host=host,
        port=port,
        http=_Patient,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=APP_CONNECTIONS,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=2**14,
    )
    try:
        listening = config.bind_socket()
    except SystemExit:
        # uvicorn has logged why and ends the process
        raise UserError(
            f"{host}:{port}: cannot be listened at (in use, or no address of this machine); give "
            "another"
        ) from None
    with listening:
        name = listening.getsockname()[:2]
        server = _Server(config, routes, functools.partial(ready, *name))
        await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends its streams when it is told to end, and then returns."""

    def __init__(self, config: uvicorn.Config, routes: Routes, ready: Callable[[], None]):
        super().__init__(config)
        self._routes, self._ready = routes, ready
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: Any = None) -> None:
        """Takes connections, and says so: signals are heard already."""
        await super().startup(sockets=sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hears Ctrl-C and SIGTERM; uvicorn's own would send them again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for Ctrl-C and SIGTERM, between any two lines of Python."""
        self._loop.call_soon_threadsafe(self._routes.closing.set)
        super().handle_exit(sig, frame)


class _Patient(H11Protocol):
    """Closes a connection on which no request begins in time, and sends what there is at once."""

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)
        # asyncio does so for sockets that know their protocol, which uvicorn's do not: then an
        # answer's body waits 40 ms for the browser to confirm its head
        if (own := transport.get_extra_info("socket")) is not None:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def close() -> None:
            if self.cycle is None and not transport.is_closing():
                transport.close()

        self.loop.call_later(APP_PATIENCE_SECONDS, close)
