"""The routes of the page, and the server that runs them."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from vtd_jax.app.encoding import DONE, FAILED, LAST, Busy, Job
from vtd_jax.app.guard import PAGE_POLICY, UPLOAD, Guard, Refused
from vtd_jax.app.requests import Asked, Encode, Words, parse, serial_of
from vtd_jax.app.service import NotEncoded, Service, answer
from vtd_jax.app.videos import NoVideo
from vtd_jax.errors import UserError
from vtd_jax.outputs import file_stem
from vtd_jax.predict.results import Explanation, Timeline
from vtd_jax.report.html import document
from vtd_jax.terminal import warn
from vtd_jax.untrusted.limits import APP_CONNECTIONS, APP_PATIENCE_SECONDS

# seconds after which a silent stream shows that it lives
_PING = 15.0
# seconds that answers on their way get when the server ends
_GRACE = 1


class Routes:
    """The routes over a service.

    Attributes:
      closing: set when the server ends, so that streams do.
    """

    def __init__(self, service: Service):
        self._service, self.closing = service, asyncio.Event()

    def app(self) -> Starlette:
        """The application, without its guard."""
        routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/videos", self.videos, methods=["GET"]),
            Route(UPLOAD, self.upload, methods=["POST"]),
            Route("/video/{id}", self.video, methods=["GET"]),
            Route("/encode", self.encode, methods=["POST"]),
            Route("/encode/{id}", self.cancel, methods=["DELETE"]),
            Route("/encode/{id}/events", self.events, methods=["GET"]),
            Route("/words", self.words, methods=["POST"]),
            Route("/answer", self.answer, methods=["POST"]),
            Route("/timeline", self.answer, methods=["POST"]),
            Route("/report", self.report, methods=["POST"]),
            Route("/json", self.json, methods=["POST"]),
            Route("/csv", self.csv, methods=["POST"]),
            Route("/python", self.python, methods=["POST"]),
        ]
        return Starlette(routes=[_told(route) for route in routes])

    async def page(self, request: Request) -> Response:
        """The page."""
        data = self._service.page_data()
        pieces = document(
            "app.html",
            {"data": data, "model": data["model"]},
            title="vtd app",
            about=self._service.about,
            script="app.js",
            notice=self._service.notice,
        )
        policy = {"content-security-policy": PAGE_POLICY.decode()}
        return HTMLResponse("".join(pieces), headers=policy)

    async def videos(self, request: Request) -> Response:
        """The videos of the folder."""
        search = request.query_params.get("search", "")
        found, more = await _in_thread(self._service.videos.list, search)
        return _json({"videos": [video.to_dict() for video in found], "more": more})

    async def upload(self, request: Request) -> Response:
        """Takes a video."""
        upload = self._service.videos.upload(request.query_params.get("name", ""))
        with upload:
            async for part in request.stream():
                if part:
                    await _in_thread(upload.write, part)
            video = await _in_thread(upload.finish)
        return _json(video.to_dict(), 201)

    async def video(self, request: Request) -> Response:
        """A video's file, or the part of it that is wanted."""
        video = await _in_thread(self._service.videos.find, request.path_params["id"])
        return FileResponse(video.path, media_type=video.content_type)

    async def encode(self, request: Request) -> Response:
        """Queues a video."""
        asked = parse(await request.body(), Encode)
        job = await _in_thread(self._service.encode, asked)
        return _json({"job": job.id}, 202)

    async def cancel(self, request: Request) -> Response:
        """Cancels a job."""
        await _in_thread(self._service.encoder.cancel, self._job(request))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Where a job stands, until its end."""
        stream = self._events(self._job(request))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def words(self, request: Request) -> Response:
        """Encodes words ahead."""
        asked = parse(await request.body(), Words)
        return _json({"encoded": await self._service.words(asked.words)})

    async def answer(self, request: Request) -> Response:
        """What a video shows; with a window, when."""
        asked, results = await self._results(request)
        return _json(await _in_thread(answer, results, asked))

    async def report(self, request: Request) -> Response:
        """The static page."""
        _, (result, *_) = await self._results(request)
        page = await _in_thread(self._service.report, result)
        return _file(page, result, "html", "text/html; charset=utf-8")

    async def json(self, request: Request) -> Response:
        """Everything, as JSON."""
        _, results = await self._results(request)
        text = await _in_thread(self._service.json, results)
        return _file(text, results[0], "json", "application/json")

    async def csv(self, request: Request) -> Response:
        """Rows of a table."""
        _, (result, *_) = await self._results(request)
        by = request.query_params.get("by")
        text = await _in_thread(self._service.csv, result, by)
        return _file(text, result, "csv", "text/csv; charset=utf-8")

    async def python(self, request: Request) -> Response:
        """The lines of Python that do the same."""
        asked = parse(await request.body(), Asked)
        text = await _in_thread(self._service.python, asked)
        return Response(text, media_type="text/plain; charset=utf-8")

    def _job(self, request: Request) -> Job:
        job = self._service.encoder.find(request.path_params["id"])
        if job is None:
            raise NoVideo("job: there is none of this id (any more); encode the video again")
        return job

    async def _results(self, request: Request) -> tuple[Asked, list[Explanation | Timeline]]:
        asked = parse(await request.body(), Asked)
        return asked, await self._service.results(asked, request.is_disconnected)

    async def _events(self, job: Job) -> AsyncIterator[bytes]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            # the loop may be over
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        told: Any = None
        with job.heard(listener):
            while not self.closing.is_set():
                changed.clear()
                now = event, data = job.now()
                if now == told:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._either(changed), _PING)
                        continue
                    yield b": still here\n\n"
                    continue
                told = now
                if event == DONE:
                    try:
                        data = await _in_thread(self._service.finished, job)
                    except UserError as error:
                        event, data = FAILED, {"error": str(error)}
                yield f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
                if event in LAST:
                    return

    async def _either(self, changed: asyncio.Event) -> None:
        """Waits for a change, or for the end of the server."""
        waits = [asyncio.ensure_future(one.wait()) for one in (changed, self.closing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()


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
      KeyboardInterrupt: after Ctrl-C, once everything has ended.
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
        ready(*listening.getsockname()[:2])
        await _Server(config, routes).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends its streams when it is told to end."""

    def __init__(self, config: uvicorn.Config, routes: Routes):
        super().__init__(config)
        self._routes, self._loop = routes, asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for Ctrl-C and SIGTERM, between any two lines of Python."""
        self._loop.call_soon_threadsafe(self._routes.closing.set)
        super().handle_exit(sig, frame)


class _Patient(H11Protocol):
    """Closes a connection on which no request begins in time."""

    def connection_made(self, transport: Any) -> None:
        """A new connection."""
        super().connection_made(transport)

        def close() -> None:
            if self.cycle is None and not transport.is_closing():
                transport.close()

        self.loop.call_later(APP_PATIENCE_SECONDS, close)


def _told(route: Route) -> Route:
    """A route whose errors are JSON, with the serial number of the request."""
    inner: Callable[[Request], Awaitable[Response]] = route.endpoint

    @functools.wraps(inner)
    async def endpoint(request: Request) -> Response:
        body: dict[str, Any] = {}
        try:
            return await inner(request)
        except Refused:
            raise
        except ClientDisconnect:
            return Response(status_code=400)
        except NoVideo as error:
            status, body = 404, {"error": str(error)}
        except NotEncoded as error:
            status, body = 409, {"error": str(error), "encode": True}
        except Busy as error:
            status, body = 429, {"error": str(error)}
        except UserError as error:
            status, body = 422, {"error": str(error)}
        except Exception as error:
            # one line, and the others go on
            warn(f"{request.url.path}: {type(error).__name__}: {error}")
            status, body = 500, {"error": "the server failed; its terminal says more"}
        # what a route has read is kept; what it has not is not read now
        if isinstance(read := getattr(request, "_body", None), bytes):
            body["serial"] = serial_of(read)
        return _json(body, status)

    return Route(route.path, endpoint, methods=route.methods)


async def _in_thread(function: Callable[..., Any], *given: Any) -> Any:
    """Calls a function that takes its time beside the loop."""
    return await asyncio.to_thread(function, *given)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _file(content: bytes | str, result: Any, ending: str, kind: str) -> Response:
    """An attachment that is named after the video."""
    name = file_stem(result.video.rpartition("/")[2].rpartition(".")[0])
    ascii_name = name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f'attachment; filename="{ascii_name}.{ending}"'
    headers = {"content-disposition": disposition}
    return Response(content, media_type=kind, headers=headers)
