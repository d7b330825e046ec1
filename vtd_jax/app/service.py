"""What the server does for its routes: models, videos, encoding and answers, without HTTP."""

import asyncio
import contextlib
import functools
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import threadpoolctl

import vtd_jax
from vtd_jax.app.answers import Moments, Texts, explanation, explanation_json
from vtd_jax.app.encoding import Encoder
from vtd_jax.app.host_model import HostModel
from vtd_jax.app.jobs import Job, Ticket, Wanted
from vtd_jax.app.kept import Kept, Key
from vtd_jax.app.python_lines import python_lines
from vtd_jax.app.requests import MOST_SHOWN, PORTION, Asked, Encode
from vtd_jax.app.text.checks import Checks
from vtd_jax.app.text.kept_texts import KeptTexts
from vtd_jax.app.text.queue import Gone, TextQueue, still_there
from vtd_jax.app.timelines.summary import is_long, timeline
from vtd_jax.app.timelines.windows import NearestWords
from vtd_jax.app.videos import Video, Videos
from vtd_jax.errors import UserError
from vtd_jax.outputs import csv_text, file_stem
from vtd_jax.predict.job import Encoded
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.results import Explanation, Timeline
from vtd_jax.predict.timeline import Windows
from vtd_jax.predict.zero_shot import zero_shot
from vtd_jax.report.html import Beside, jpeg
from vtd_jax.report.pages import write_page
from vtd_jax.untrusted import limits
from vtd_jax.video.suffixes import SUFFIXES

# seconds that compiling gets at the end
_COMPILED = 10.0
# side of the frames of a strip, pixels
_SIDE = 224


class NotEncoded(UserError):
    """The video is not encoded, or not any more."""


class _Model:
    """A model that answers: its towers on the devices, the rest of it here, and texts it read."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self.host, self.texts = HostModel.of(predictor.model), KeptTexts(predictor.model)
        self.nearest = NearestWords()
        self._pool = ThreadPoolExecutor(self.texts.workers, "vtd-app-texts")
        self.queue = TextQueue(self.texts, self._pool)

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(cancel_futures=True)


class Service:
    """Answers what the page asks. A context manager: at its end processes and files are gone."""

    def __init__(
        self,
        predictor: Predictor,
        folder: Path | None = None,
        about: Mapping[str, str] | None = None,
        notice: str = "",
        *,
        public: bool = False,
        loaded: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
    ):
        """
        Args:
          predictor: the model; beside a tuned one its CLIP answers zero-shot, too.
          folder: of videos; None for uploads only.
          about: lines at the end of reports.
          notice: a warning on top of pages, such as that the model is a toy.
          public: whether clients do not know each other: then none finds the uploads of another.
          loaded: arguments that `vtd_jax.load` was called with, for the lines of Python.
          labels: that the page begins with; default: those of training.
        """
        self._models = [_Model(one) for one in (predictor, zero_shot(predictor)) if one is not None]
        self.about, self.notice = dict(about or {}), notice
        self._public, self._loaded, self._labels = public, dict(loaded or {}), [*labels]
        self.videos, self._kept = Videos(folder, strangers=public), Kept()
        devices = [one.predictor.on_devices for one in self._models]
        self.encoder = Encoder(devices, self.videos, self._kept)
        # threads of a BLAS wait for each other in loops: beside other work, and for products as
        # small as these, that takes many times as long as the products
        self._blas = threadpoolctl.threadpool_limits(1, user_api="blas")
        self._sums = ThreadPoolExecutor(4, "vtd-app-sums")
        # one long timeline at a time: several would fill the memory, and keep edits waiting
        self._long = asyncio.Lock()
        self._warm: threading.Thread | None = None
        self._checks = Checks([one.predictor for one in self._models], self._sums)

    def warm_up(self) -> None:
        """Compiles in a thread what the first edits and videos need."""

        def work() -> None:
            self.encoder.warm_up()
            for one in self._models:
                one.texts.warm_up()

        self._warm = threading.Thread(target=work, daemon=True, name="vtd-app-warm-up")
        self._warm.start()

    def close(self) -> None:
        """Ends all work, and removes the uploads."""
        self.encoder.close()
        for model in self._models:
            model.close()
        self._sums.shutdown(cancel_futures=True)
        self.videos.close()
        if self._warm is not None:
            # a process that ends while it compiles may crash
            self._warm.join(_COMPILED)
        self._blas.restore_original_limits()

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def page_data(self) -> dict[str, Any]:
        """What the page knows from the start."""
        folder = self.videos.folder
        main, *others = [one.predictor for one in self._models]
        return {
            "model": _described(main) | {"labels": self._labels or list(main.class_names)},
            "beside": _described(others[0]) if others else None,
            "folder": None if folder is None else folder.resolve().name,
            "endings": sorted(SUFFIXES),
            "version": vtd_jax.__version__,
            "public": self._public,
            "limits": {
                "labels": limits.APP_LABELS,
                "words": limits.APP_WORDS,
                "portion": PORTION,
                "characters": limits.TEXT_CHARACTERS,
                "upload_bytes": limits.APP_UPLOAD_BYTES,
                "frames": limits.APP_FRAMES,
                "shown": MOST_SHOWN,
            },
        }

    def encode(self, asked: Encode) -> Ticket:
        """Queues a video; the client's share in the job.

        Raises:
          NoVideo: there is none of this id.
          Busy: too many videos wait.
        """
        video = self.videos.find(asked.video)
        return self.encoder.submit(Wanted(video, self._keys(asked, video)))

    def finished(self, job: Job) -> dict[str, Any]:
        """What the page gets of an encoded video: facts and pictures.

        Raises:
          NotEncoded: it had to go already.
        """
        key = job.wanted.keys[0]
        one, video = self._kept.get(key), job.wanted.video
        if one is None:
            raise NotEncoded(f"{video.name}: had to go for others; encode it again")
        facts: dict[str, Any] = {"video": video.id, "name": video.name}
        if isinstance(one, Moments):
            pictures, info = one.pictures, one.info
            return facts | {
                "total": info.frames,
                "duration": info.duration,
                "note": info.note,
                "count": len(one.features),
                "frames": [
                    {"index": None, "seconds": round(second, 3), "picture": jpeg(image)}
                    for second, image in zip(pictures.seconds, pictures.images, strict=True)
                ],
            }
        clip = one.clip
        return facts | {
            "total": clip.total,
            "duration": clip.duration,
            "note": clip.note,
            "count": len(one.features),
            "frames": [
                {"index": int(i), "seconds": round(float(second), 3), "picture": jpeg(image, _SIDE)}
                for i, second, image in zip(clip.indices, clip.seconds, clip.frames, strict=True)
            ],
        }

    async def words(self, words: Sequence[str], gone: Gone | None = None) -> int:
        """Encodes words ahead, as long as somebody waits for it; the number of them."""
        for model in self._models:
            await model.queue.codes(tuple(dict.fromkeys(words)), gone or _never)
        return len(words)

    async def results(self, asked: Asked, gone: Gone | None = None) -> list[Explanation | Timeline]:
        """The result of each model that is asked.

        Args:
          asked: what is asked.
          gone: whether nobody waits for it any more; then its texts are not encoded.

        Raises:
          UserError: labels or words that no model takes.
          NotEncoded: the video is not encoded.
        """
        # it may have to look into the folder
        video = await asyncio.to_thread(self.videos.find, asked.video)
        keys = self._keys(asked, video)
        encoded = [self._kept.get(key) for key in keys]
        if None in encoded:
            raise NotEncoded("video: is not encoded yet, or had to go for others; encode it")
        found = []
        for model, one in zip(self._models, encoded):
            texts = await self._both(model, asked, gone or _never)
            made = functools.partial(self._result, model, one, texts, asked)
            waits = isinstance(one, Moments) and is_long(one, texts, _plan(asked))
            async with self._long if waits else contextlib.nullcontext():
                await still_there(gone or _never)
                found.append(await asyncio.get_running_loop().run_in_executor(self._sums, made))
        return found

    def python(self, asked: Asked) -> str:
        """The lines of Python that do the same."""
        video, model = self.videos.find(asked.video), self._models[0].predictor
        beside = asked.beside and len(self._models) > 1
        path = self.videos.given_path(video)
        return python_lines(model, self._loaded, path, asked, beside)

    def report(self, result: Explanation | Timeline) -> bytes:
        """The static page of a result."""
        about = self.about | {"Version": f"vtd_jax {vtd_jax.__version__}"}
        # among the uploads, with which it goes if the process is killed
        with tempfile.TemporaryDirectory(dir=self.videos.temporary) as folder:
            beside = Beside(notice=self.notice, index=False)
            entry = write_page(Path(folder), result, file_stem(result.video), about, beside)
            return Path(folder, entry.page).read_bytes()

    def json(self, results: Sequence[Explanation | Timeline]) -> str:
        """Results as `vtd predict --json` writes them; the second is the zero-shot model's."""
        told = {
            "about": self.about | {"version": vtd_jax.__version__},
            "videos": [result.to_dict() for result in results],
        }
        return json.dumps(told, ensure_ascii=False, indent=1) + "\n"

    def csv(self, result: Explanation | Timeline, by: str | None) -> str:
        """Rows of a result, see `Shown.rows`."""
        rows = result.rows(by)
        names = [*rows[0]] if rows else []
        return csv_text([names, *([row[name] for name in names] for row in rows)])

    def _keys(self, asked: Encode | Asked, video: Video) -> tuple[Key, ...]:
        models = range(len(self._models) if asked.beside else 1)
        if asked.window is None:
            return tuple(Key(video.content, model, asked.frames) for model in models)
        step = asked.window / asked.frames
        return tuple(Key(video.content, model, 0, step) for model in models)

    def _result(
        self, model: _Model, one: Encoded | Moments, texts: Texts, asked: Asked
    ) -> Explanation | Timeline:
        host = model.host.at(asked.temperature)
        if isinstance(one, Moments):
            return timeline(host, one, texts, _plan(asked), model.nearest)
        bias = model.predictor.on_devices.logit_bias
        return explanation(host, one.clip, one.features, texts, bias)

    async def _both(self, model: _Model, asked: Asked, gone: Gone) -> Texts:
        """Labels and vocabulary with their codes."""
        place = self._models.index(model)
        labels = await self._checks(place, asked.labels, "labels", gone)
        codes = await model.queue.codes(labels, gone)
        if asked.vocabulary is None:
            return Texts(labels, codes, labels, codes, True)
        words = await self._checks(place, asked.vocabulary, "vocabulary", gone)
        return Texts(labels, codes, words, await model.queue.codes(words, gone), False)


def answer(results: Sequence[Explanation | Timeline], asked: Asked) -> dict[str, Any]:
    """The JSON of an answer or a timeline."""
    told = [
        explanation_json(one, asked.shown) if isinstance(one, Explanation) else one.to_dict()
        for one in results
    ]
    return {
        "serial": asked.serial,
        "model": told[0],
        "beside": told[1] if len(told) > 1 else None,
    }


def _plan(asked: Asked) -> Windows:
    """How the video of a timeline is cut."""
    assert asked.window is not None
    return Windows(asked.frames, asked.window, asked.stride, asked.threshold)


def _described(predictor: Predictor) -> dict[str, Any]:
    config = predictor.model.config
    return {
        "name": Path(predictor.source).name or predictor.description,
        "description": predictor.description,
        "frames": predictor.frames,
        "temperature": config.temperature,
        "labels": list(predictor.class_names),
        "pooling": config.pooling,
        "size": predictor.size,
        "fusion": predictor.model.fusion is not None,
        "vote_unit": config.votes,
    }


async def _never() -> bool:
    return False
