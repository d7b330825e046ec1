"""Edits of labels, as `vtd app` answers them, against a fresh answer for the same video."""

import asyncio
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from flax import nnx

from experiments.benchmark.classes import class_names
from experiments.benchmark.readers import KINDS, sources, versions, write_clip
from experiments.benchmark.report import number, seconds_of, show, spread, table
from experiments.benchmark.tasks import random_state
from experiments.benchmark.timing import Job, Timing, interleaved, machine, ratio
from vtd_jax.app.answers import Moments, Texts
from vtd_jax.app.host_model import HostModel
from vtd_jax.app.requests import Asked, Encode, parse
from vtd_jax.app.service import Service, answer
from vtd_jax.app.timelines.summary import timeline
from vtd_jax.app.timelines.windows import NearestWords
from vtd_jax.cache.text_features import TextCache
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import ZERO_SHOT, ZERO_SHOT_PREPROCESS
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.timeline import Pictures, Windows
from vtd_jax.terminal import log
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.video.codec.wholeness import VideoInfo

FRESH, WINDOW, CLIENTS = "the video and 100 labels, from the start", 8.0, 20
# labels, and how many of them no text before was
EDITS = ((100, 0), (100, 1), (100, 5), (100, 100), (1000, 0), (1000, 1000))
# seconds of timelines, and their labels
TIMELINES = ((600, 100), (7200, 100), (7200, 1000))
# what tests of our programs against each other allow
_CLOSE = 1e-5


def compare(architecture: str, frames: int, rounds: int) -> dict[str, Any]:
    """Measures everything in one interleaved run, prints a table.

    Weights are random, and so are labels, of words from UCF-101's names, and the features of
    timelines.

    Args:
      architecture: of CLIP.
      frames: T.
      rounds: measured ones.

    Returns:
      All numbers, JSON-able.

    Raises:
      UserError: the app's scores are not those of `Predictor.explain`.
    """
    with tempfile.TemporaryDirectory() as folder:
        clip, rate = sources(None, 1)[0]
        path = write_clip(clip, rate, KINDS[0], Path(folder) / f"clip.{KINDS[0].ending}")
        log(f"building {architecture}")
        config = CLIPConfig.named(architecture)
        towers = clip_from_state(config, random_state(config))
        model = VTDCLIP(towers, ZERO_SHOT, rngs=nnx.Rngs(0), preprocess=ZERO_SHOT_PREPROCESS)
        predictor = Predictor(model, frames=frames, cache=TextCache(None))
        with Service(predictor, Path(folder)) as service, asyncio.Runner() as runner:
            edits = _Edits(service, runner, _encoded(service, frames), frames)
            error = _check(edits, predictor, path)
            jobs = _jobs(edits, predictor, path, model)
            log(f"{len(jobs)} jobs, {rounds} rounds")
            timings = interleaved(jobs, rounds)
    _print(architecture, frames, timings, error)
    about = machine() | versions() | {"architecture": architecture, "frames": frames}
    about |= {"rounds": rounds, "largest_difference": error}
    return about | {"timings": [timing.to_dict() for timing in timings]}


class _Edits:
    """Asks the service as its routes do, from JSON to JSON."""

    def __init__(self, service: Service, runner: asyncio.Runner, video: str, frames: int):
        self._service, self._runner = service, runner
        self._same = {"video": video, "frames": frames}
        self._names = _labels()

    def new(self, count: int) -> list[str]:
        """Labels that were never asked for."""
        return list(itertools.islice(self._names, count))

    def one(self, labels: Sequence[str]) -> dict[str, Any]:
        """An answer."""
        return parse_json(self._runner.run(self._answer(labels)), "answer")

    def repeated(self, count: int, new: int) -> Callable[[], Any]:
        """A job: so many labels, of which so many are new each time."""
        kept = self.new(count - new)
        self.one(kept or self.new(1))
        return lambda: self._runner.run(self._answer([*kept, *self.new(new)]))

    def together(self, clients: int) -> Callable[[], Any]:
        """A job: so many clients at once, each with 100 labels, of which one is new."""
        kept = [self.new(99) for _ in range(clients)]
        for labels in kept:
            self.one(labels)

        async def all_of_them() -> None:
            await asyncio.gather(*(self._answer([*labels, *self.new(1)]) for labels in kept))

        return lambda: self._runner.run(all_of_them())

    async def _answer(self, labels: Sequence[str]) -> bytes:
        asked = parse(json.dumps(self._same | {"labels": list(labels)}).encode(), Asked)
        results = await self._service.results(asked)
        return await asyncio.to_thread(lambda: msgspec.json.encode(answer(results, asked)))


def _labels() -> Iterator[str]:
    """Different labels of 2 to 5 words, which seldom begin alike: what texts begin with alike is
    encoded once.
    """
    words = sorted({word for name in class_names(101) for word in re.findall("[A-Z][a-z]+", name)})
    rng, seen = np.random.default_rng(0), set()
    while True:
        label = " ".join(rng.choice(words, rng.integers(2, 6))).lower()
        if label not in seen:
            seen.add(label)
            yield label


def _encoded(service: Service, frames: int) -> str:
    """Encodes the only video of the folder; its id."""
    [video], _ = service.videos.list()
    ticket = service.encode(Encode(video.id, frames))
    # a job that nobody listens to is ended after seconds
    with ticket.heard(lambda: None):
        while not ticket.job.is_over:
            time.sleep(0.05)
    event, data = ticket.now()
    if event != "done":
        raise UserError(": ".join([video.name, event, *filter(None, [data.get("error")])]))
    return video.id


def _check(edits: _Edits, predictor: Predictor, path: Path) -> float:
    """The largest difference of a score from `Predictor.explain`'s.

    Raises:
      UserError: it is too large.
    """
    labels = edits.new(100)
    ours = edits.one(labels)["model"]
    # of one path it is one explanation
    theirs: Any = predictor.explain(path, labels)
    error = float(np.abs(np.subtract(ours["scores"], theirs.scores)).max())
    if error > _CLOSE or ours["label"] != theirs.label:
        raise UserError(f"an answer of the app differs from the library's by {error:.1e}")
    return error


def _jobs(edits: _Edits, predictor: Predictor, path: Path, model: VTDCLIP) -> list[Job]:
    """Everything that is measured."""
    jobs = [Job(FRESH, "", lambda: predictor.explain(path, edits.new(100)), clips=1)]
    jobs += [
        Job(f"{count:,} labels, {_words(new)} new", "", edits.repeated(count, new))
        for count, new in EDITS
    ]
    jobs.append(Job(f"{CLIENTS} clients at once, one new each", "", edits.together(CLIENTS)))
    rng, host = np.random.default_rng(0), HostModel.of(model)
    plan, pictures = Windows(predictor.frames, WINDOW, None, 0.25), Pictures()
    pictures.add(0.0, np.zeros((224, 224, 3), np.uint8))
    for seconds, count in TIMELINES:
        shape = round(seconds / plan.step), model.clip.config.embed_dim
        info = VideoInfo(30 * seconds, 30.0, float(seconds), 340, 256, "h264")
        moments = Moments("", rng.standard_normal(shape, np.float32), pictures, info)
        labels = tuple(edits.new(count))
        codes = rng.standard_normal((count, shape[1]), np.float32)
        texts, nearest = Texts(labels, codes, labels, codes, True), NearestWords()

        def run(given=(host, moments, texts, plan, nearest)) -> bytes:
            return msgspec.json.encode(timeline(*given).to_dict())

        name = f"a timeline of {seconds // 60} minutes, {count:,} labels, none new"
        jobs.append(Job(name, "", run))
    return jobs


def _words(new: int) -> str:
    return {0: "none", 1: "one", 5: "five"}.get(new, "all")


def _print(architecture: str, frames: int, timings: Sequence[Timing], error: float) -> None:
    fresh = next(timing for timing in timings if timing.task == FRESH)
    same = [f"100 labels, {_words(new)} new" for count, new in EDITS if count == 100]
    rows = [
        [
            timing.task,
            seconds_of(timing),
            # the others ask for something else
            spread(ratio(fresh.seconds, timing.seconds), "×") if timing.task in same else "–",
        ]
        for timing in timings
    ]
    head = ["", "median (min–max)", "times as fast as from the start"]
    show(table(f"{architecture}, {frames} frames, answers of `vtd app`", head, rows))
    print(f"\nLargest difference of a score from Predictor.explain: {number(error)}")
