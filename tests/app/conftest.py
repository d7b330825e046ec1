"""A service on a small model with seeded weights, and a folder of small videos."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from support.small_model import small_model
from support.video_files import make_video
from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.cache.text_features import TextCache
from vtd_jax.predict.predictor import Predictor

TOKEN = "a-token-of-sixteen-characters"
HOST = b"127.0.0.1:8000"


class Answer(NamedTuple):
    """What came back: status, headers, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def check_fields(found: Any, expected: Any, *, but: str = "") -> None:
    """Fields of results: arrays to rounding and of one type, all else exactly.

    Args:
      found: a dataclass.
      expected: another of its type.
      but: a field that is left out.
    """
    for field in dataclasses.fields(expected):
        mine, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5, err_msg=field.name)
            assert mine.dtype == theirs.dtype, field.name
        elif field.name != but:
            assert mine == theirs, field.name


class Client:
    """Calls an ASGI application in this process, as a browser on its page would."""

    def __init__(self, app: Guard):
        self.app = app

    def __call__(self, method: str, address: str, body: Any = b"", **settings: Any) -> Answer:
        """One request and its answer; see `ask`."""
        return asyncio.run(self.ask(method, address, body, **settings))

    async def ask(
        self,
        method: str,
        address: str,
        body: Any = b"",
        *,
        headers: dict[str, str] | None = None,
        token: str | None = TOKEN,
        host: bytes | None = HOST,
        parts: list[Any] | None = None,
    ) -> Answer:
        """One request.

        Args:
          body: bytes, or what becomes JSON.
          parts: of the body instead, one message each; None stands for silence.
          host: None leaves it out.
        """
        path, _, query = address.partition("?")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = [(b"host", host)] if host is not None else []
        given += [(b"x-vtd-token", token.encode())] if token is not None else []
        given += [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": given,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        left, over = list([content] if parts is None else parts), asyncio.Event()
        sent: list[Any] = []

        async def receive() -> Any:
            if not left:
                await over.wait()
                return {"type": "http.disconnect"}
            part = left.pop(0)
            if part is None:
                await over.wait()
            return {"type": "http.request", "body": part, "more_body": bool(left)}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                over.set()

        await self.app(scope, receive, send)
        start, *rest = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(one.get("body", b"") for one in rest))

    def encoded(self, video: str, **asked: Any) -> Any:
        """Encodes a video; its last event."""
        begun = self("POST", "/encode", {"video": video, "frames": 4} | asked)
        assert begun.status == 202, begun.body
        return events(self("GET", f"/encode/{begun.json['job']}/events"))[-1]

    def uploaded(self, path: Path) -> Answer:
        """Uploads a file."""
        return self("POST", f"/upload?name={path.name}", path.read_bytes())


def events(answer: Answer) -> list[tuple[str, Any]]:
    """The events of a stream: name, data."""
    blocks = [block for block in answer.body.decode().split("\n\n") if block.startswith("event")]
    pairs = (block.split("\n", 1) for block in blocks)
    return [(name.removeprefix("event: "), json.loads(data[6:])) for name, data in pairs]


def small_predictor(**settings: Any) -> Predictor:
    """A predictor that takes 4 frames."""
    one = dict(frames=4, description="small", weights="0", source="small.safetensors")
    cache = TextCache(None)
    return Predictor(small_model(**settings), cache=cache, devices=jax.devices()[:1], **one)


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """A folder with `a.mp4`, `b.mp4` and `deep/c.avi`."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "deep").mkdir()
    for name, frames in (("a.mp4", 9), ("b.mp4", 25), ("deep/c.avi", 50)):
        make_video(folder / name, frames)
    return folder


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """With all that can be learnt."""
    return small_predictor()


@pytest.fixture(scope="module")
def service(predictor, clips) -> Iterator[Service]:
    """Over the folder."""
    with Service(predictor, clips, {"Model": "small"}) as service:
        yield service


@pytest.fixture(scope="module")
def client(service) -> Client:
    """Of the whole application."""

    async def app() -> Guard:
        return guarded(Routes(service), TOKEN)

    return Client(asyncio.run(app()))


@pytest.fixture
def ids(client) -> dict[str, str]:
    """The id of each video of the folder, by name."""
    return {one["name"]: one["id"] for one in client("GET", "/videos").json["videos"]}
