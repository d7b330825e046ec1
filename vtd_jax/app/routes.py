"""The routes of the page: requests in, answers and streams out."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from vtd_jax.app.guard import UPLOAD, Refused, refusal
from vtd_jax.app.jobs import DONE, FAILED, LAST, Ticket
from vtd_jax.app.requests import Asked, Encode, Words, parse, serial_of
from vtd_jax.app.service import NotEncoded, Service, answer
from vtd_jax.app.uploads import NO_ROOM, Full
from vtd_jax.app.videos import Busy, NoVideo
from vtd_jax.errors import UserError
from vtd_jax.outputs import file_stem
from vtd_jax.predict.results import Explanation, Timeline
from vtd_jax.report.html import document
from vtd_jax.terminal import warn

# seconds after which a silent stream shows that it lives
_PING = 15.0
# milliseconds after which a browser connects again to a stream that broke off: before the job ends
# for want of listeners
_RETRY = b"retry: 1000\n\n"
_FAILED = "the server failed; its terminal says more"
_NO_ROOM = "the server has no room left on its disk; try again later"


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
        app = Starlette(routes=[_told(route) for route in routes])
        # an answer that sends somewhere else would repeat the token
        app.router.redirect_slashes = False
        return app

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
        return HTMLResponse("".join(pieces))

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
        ticket = await _in_thread(self._service.encode, asked)
        return _json({"job": ticket.id}, 202)

    async def cancel(self, request: Request) -> Response:
        """Cancels a job."""
        await _in_thread(self._service.encoder.cancel, self._ticket(request))
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Where a job stands, until its end."""
        stream = self._events(self._ticket(request))
        # proxies would collect it
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def words(self, request: Request) -> Response:
        """Encodes words ahead."""
        asked = parse(await request.body(), Words)
        count = await self._service.words(asked.words, request.is_disconnected)
        return _json({"encoded": count})

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

    def _ticket(self, request: Request) -> Ticket:
        ticket = self._service.encoder.find(request.path_params["id"])
        if ticket is None:
            raise NoVideo("job: there is none of this id (any more); encode the video again")
        return ticket

    async def _results(self, request: Request) -> tuple[Asked, list[Explanation | Timeline]]:
        asked = parse(await request.body(), Asked)
        return asked, await self._service.results(asked, request.is_disconnected)

    async def _events(self, ticket: Ticket) -> AsyncIterator[bytes]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            # the loop may be over
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        told: Any = None
        yield _RETRY
        with ticket.heard(listener):
            while not self.closing.is_set():
                changed.clear()
                now = event, data = ticket.now()
                if now == told:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._either(changed), _PING)
                        continue
                    yield b": still here\n\n"
                    continue
                told = now
                if event == DONE:
                    try:
                        data = await _in_thread(self._service.finished, ticket.job)
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


def _told(route: Route) -> Route:
    """A route whose errors are JSON, with the serial number of the request."""
    inner: Callable[[Request], Awaitable[Response]] = route.endpoint

    @functools.wraps(inner)
    async def endpoint(request: Request) -> Response:
        body: dict[str, Any] = {}
        try:
            return await inner(request)
        except Refused as error:
            # not raised on: Starlette would answer it as a fault of its own
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=400)
        except NoVideo as error:
            status, body = 404, {"error": str(error)}
        except NotEncoded as error:
            status, body = 409, {"error": str(error), "encode": True}
        except Busy as error:
            status, body = 429, {"error": str(error)}
        except Full as error:
            status, body = 507, {"error": str(error)}
        except UserError as error:
            status, body = 422, {"error": str(error)}
        except OSError as error:
            warn(f"{request.url.path}: {error}")
            full = error.errno in NO_ROOM
            status, body = (507, {"error": _NO_ROOM}) if full else (500, {"error": _FAILED})
        except Exception as error:
            # one line, and the others go on
            warn(f"{request.url.path}: {type(error).__name__}: {error}")
            status, body = 500, {"error": _FAILED}
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
