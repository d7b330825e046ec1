"""The server of the page: a socket, and signals."""

import asyncio
import contextlib
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn

from vtd_jax.app.connections import Patient
from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.service import Service
from vtd_jax.errors import UserError, setting
from vtd_jax.printable import shown
from vtd_jax.untrusted.limits import APP_CONNECTIONS, APP_CONNECTIONS_EACH, APP_IDLE_SECONDS

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# seconds that answers on their way get when the server ends
_GRACE = 1


def guarded(routes: Routes, token: str | None, **settings: Any) -> Guard:
    """The application behind its guard; `settings` are of `Guard`."""
    return Guard(routes.app(), token, **settings)


def serve(
    service: Service,
    token: str | None,
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    **settings: Any,
) -> None:
    """Serves until Ctrl-C, SIGTERM or the end of its terminal.

    Args:
      service: what answers.
      token: that every request has; None for none.
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
    token: str | None,
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    settings: dict[str, Any],
) -> None:
    routes = Routes(service)
    guard = guarded(routes, token, **settings)
    each = APP_CONNECTIONS_EACH if guard.tells_clients_apart else APP_CONNECTIONS
    config = uvicorn.Config(
        guard,
        # uvicorn only calls it
        http=cast(Any, functools.partial(Patient, each=each)),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=APP_CONNECTIONS + 1,
        timeout_keep_alive=APP_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=2**14,
    )
    with _listening(host, port) as listening:
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
        """Hears Ctrl-C, SIGTERM and the end of its terminal; uvicorn's own would send them again.

        What is ignored, as under nohup, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for a signal, between any two lines of Python."""
        self._loop.call_soon_threadsafe(self._routes.closing.set)
        super().handle_exit(sig, frame)


def check_address(host: str, port: int) -> None:
    """Listens for a moment, so that an address that cannot be used is told before a model is read.

    Raises:
      UserError: the address cannot be used.
    """
    _listening(host, port).close()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
      UserError: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError, OverflowError) as error:
        why = (getattr(error, "strerror", None) or "no address").partition(" (")[0]
        name = shown(host, 120)
        raise UserError(
            f"{f'[{name}]' if ':' in host else name}:{port}: cannot be listened at ({why}); "
            f"give another {setting('port')} or {setting('host')}"
        ) from None
