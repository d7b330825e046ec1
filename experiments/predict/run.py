"""What `experiments.predict` knows before its first video, and what it does to a report after its
last.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtd_jax.printable import utf8
from vtd_jax.report.pages import relink


@dataclasses.dataclass(frozen=True)
class Run:
    """A request and what is known before the first video.

    Attributes:
      request: the flags, a `_predict.Request`.
      videos: all that are asked for.
      about: what results depend on, in words.
      truth: the label of the videos of which it is known; None where nobody asked.
      notice: a warning for every page, "" for none.
    """

    request: Any
    videos: Sequence[Path]
    about: Mapping[str, str]
    truth: Mapping[Path, str] | None
    notice: str

    @property
    def told(self) -> dict[str, str]:
        """`about`, and what need not be the same when a run is resumed; for pages."""
        made = {"date": self.request.date, "command": self.request.command}
        return {name: utf8(value) for name, value in made.items() if value} | dict(self.about)

    @functools.cached_property
    def folder(self) -> str:
        """The lowest folder that has all videos."""
        return os.path.commonpath(
            {os.path.dirname(os.path.abspath(video)) for video in self.videos}
        )

    def place(self, video: Path) -> str:
        """Where a video is, as short as tells it from the others."""
        return os.path.relpath(os.path.abspath(video), self.folder)


def connect(folder: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Mends the links of pages whose neighbours were expected to be others: those could not be
    read.
    """
    pages = [(entry["page"]["page"], tuple(entry["ways"])) for entry in entries if "ways" in entry]
    for i, (page, ways) in enumerate(pages):
        wanted = pages[i - 1][0] if i else "", pages[i + 1][0] if i + 1 < len(pages) else ""
        if ways != wanted and (folder / page).exists():
            relink(folder / page, *wanted)


def right_ones(entries: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Videos whose best label is theirs, and videos whose label is known."""
    found = (entry for entry in entries if "result" in entry and entry.get("truth"))
    known = [entry["result"]["label"] == entry["truth"] for entry in found]
    return sum(known), len(known)


def sentence(note: str) -> str:
    """A note as a sentence; "" stays."""
    return f"{note[:1].upper()}{note[1:]}." if note else ""
