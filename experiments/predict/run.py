"""What a run of `experiments.predict` depends on, and its report's links and counts."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flax import nnx

import vtd_jax
from vtd_jax.backend import describe_devices
from vtd_jax.fingerprints import fingerprint
from vtd_jax.model.normalization import describe as describe_normalization
from vtd_jax.model.saved.fingerprint import legacy_weights_fingerprint
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.timeline import Windows
from vtd_jax.printable import utf8
from vtd_jax.report.pages import relink
from vtd_jax.terminal import counted
from vtd_jax.video.lists.addresses import Copy, named

_LAST_DIGITS = re.compile(r"(?<=, config [0-9a-f]{12})[0-9a-f]{4}(?=\)\Z)")


@dataclasses.dataclass(frozen=True)
class Run:
    """A request and what is known before the first video.

    Attributes:
      request: the flags, a `request.Request`.
      videos: all of the run.
      about: what results depend on, in words.
      truth: video -> known label; None without --truth.
      notice: a warning for every page, "" for none.
    """

    request: Any
    videos: Sequence[Path]
    about: Mapping[str, str]
    truth: Mapping[Path, str] | None
    notice: str

    @property
    def on_pages(self) -> dict[str, str]:
        """What pages print: `about`, with date and command, which may differ on resuming."""
        made = {"date": self.request.date, "command": self.request.command}
        return {name: utf8(value) for name, value in made.items() if value} | dict(self.about)

    @functools.cached_property
    def folder(self) -> str:
        """The deepest folder that contains all videos, but for those at addresses."""
        local = [video for video in self.videos if not isinstance(video, Copy)]
        return os.path.commonpath({os.path.dirname(os.path.abspath(video)) for video in local})

    def place(self, video: Path) -> str:
        """The path of a video from `folder`, or its address."""
        if isinstance(video, Copy):
            return named(video)
        return os.path.relpath(os.path.abspath(video), self.folder)


def about(
    request: Any, model: Predictor, labels: Sequence[str], words: Sequence[str] | None
) -> dict[str, str]:
    """What a result depends on, in words."""
    config = model.model.config
    facts = {
        "model": utf8(model.description),
        "weights": model.weights,
        "labels": f"{len(labels)}",
        "frames named by": "the labels"
        if words is None
        else f"{counted(len(words), 'word')} of {utf8(request.vocabulary)}",
        "frames": f"{request.frames or model.frames}" + (" a window" if request.window else ""),
        "pooling": config.pooling,
        "normalization": describe_normalization(
            config.normalization, model.model.clip.config.preprocessing
        ),
        "preprocess": model.fit.describe(model.size),
        "assignment": config.assignment,
        "votes": config.votes,
        "ties": config.ties,
        "device": describe_devices(),
        "vtd_jax": vtd_jax.__version__,
    }
    if config.templates:
        facts["templates"] = f"{len(config.templates)}, the first {config.templates[0]!r}"
    if request.window:
        plan = Windows(
            request.frames or model.frames, request.window, request.stride, request.threshold
        )
        facts["windows"] = (
            f"{request.window} s, stride {plan.steps * plan.step:g} s, from {request.threshold}"
        )
    return facts


def journal_job(run: Run, labels: Sequence[str], words: Sequence[str] | None) -> dict[str, Any]:
    """What identifies the journal of a run: all that its lines depend on, and its outputs."""
    # a run may be resumed on another device
    job: dict[str, Any] = {key: fact for key, fact in run.about.items() if key != "device"}
    job |= {"labels": _fingerprint(labels), "words": _fingerprint(words or ())}
    if run.truth is not None:
        job["truth"] = _fingerprint(
            [f"{named(video)}\0{label}" for video, label in run.truth.items()]
        )
    if run.request.window is None:
        how = run.request.how
        job |= {"check": how.get("check", "index")}
        job |= {"deterministic": how.get("deterministic", False)}
    outputs = {flag: getattr(run.request, flag) for flag in ("json", "csv", "report", "figures")}
    return job | {"outputs": outputs}


def legacy_fields(job: Mapping[str, Any], model: Predictor) -> dict[str, Callable[[], Any]]:
    """Fields of a job whose fingerprints earlier versions wrote in another form."""
    fields: dict[str, Callable[[], Any]] = {
        "weights": functools.partial(legacy_weights_fingerprint, nnx.state(model.model)),
        # a run's name ends in the fingerprint of its settings, once twelve digits instead of 16
        "model": lambda: _LAST_DIGITS.sub("", job["model"]),
        # earlier versions decoded everything and encoded videos alone: the strictest of both
        "check": lambda: None,
        "deterministic": lambda: None,
    }
    # earlier versions, which had no such field, prepared all frames as the release does
    if model.fit.is_release:
        fields["preprocess"] = lambda: None
    return fields


def _fingerprint(texts: Sequence[str]) -> str:
    return fingerprint("\n".join(texts))


def connect(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Corrects links between pages that lead to videos which could not be read."""
    pages = [(entry["page"]["page"], tuple(entry["ways"])) for entry in entries if "ways" in entry]
    for i, (page, ways) in enumerate(pages):
        wanted = pages[i - 1][0] if i else "", pages[i + 1][0] if i + 1 < len(pages) else ""
        if ways != wanted and (folder / page).exists():
            relink(folder / page, *wanted)


def right_ones(entries: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """(Videos whose best label is the known one, videos with a known label)."""
    found = (entry for entry in entries if "result" in entry and entry.get("truth"))
    known = [entry["result"]["label"] == entry["truth"] for entry in found]
    return sum(known), len(known)


def sentence(note: str) -> str:
    """A note as a sentence; "" stays."""
    return f"{note[:1].upper()}{note[1:]}." if note else ""
