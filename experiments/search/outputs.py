"""What `experiments.search` prints and writes."""

import collections
import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.predict import files as of_predict
from vtd_jax.console.progress import Progress
from vtd_jax.evaluate.tables import Plain, Table
from vtd_jax.files import write_text
from vtd_jax.locks import locked_outputs
from vtd_jax.output_checks import Output, begins, check_outputs
from vtd_jax.outputs import check_suffix, csv_text
from vtd_jax.printable import utf8
from vtd_jax.retrieval.index import Hit, Index

# rows shown on the terminal at most, and further words of a frame in files
_SHOWN, _RUNNER_UPS = 40, 4
_JSON = b'{\n "about": {'
_CSV = b"query,rank,video,"


@dataclasses.dataclass(frozen=True)
class Answer:
    """A query and its clips, best first."""

    query: str
    hits: list[Hit]


@dataclasses.dataclass(frozen=True)
class Files:
    """The files to write: (flag, path)."""

    json: Path | None
    csv: Path | None

    @classmethod
    def of(cls, json: str | None, csv: str | None) -> "Files":
        """Of the values of the flags."""
        return cls(*(None if value is None else Path(value) for value in (json, csv)))

    def given(self) -> list[tuple[str, Path]]:
        """(flag, path) of those that are wanted."""
        both = (("--json", self.json), ("--csv", self.csv))
        return [(flag, path) for flag, path in both if path is not None]

    def check(self, inputs: Sequence[tuple[str, Any]]) -> None:
        """Refuses what would replace an input or a file of something else."""
        for flag, path in self.given():
            check_suffix(path, f".{flag[2:]}", where=f"{flag}={path}")
        check_outputs(
            [Output(flag, path, ours=_is_ours) for flag, path in self.given()], list(inputs)
        )

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Locks them for this process."""
        return locked_outputs((flag, path, False) for flag, path in self.given())

    def written(self) -> str:
        """The end of the closing line."""
        names = ", ".join(utf8(str(path)) for _, path in self.given())
        return f": wrote {names}" if names else ""

    def write(self, found: Sequence[Answer], about: Mapping[str, Any]) -> None:
        """Writes the clips of all queries."""
        if self.json is not None:
            queries = [
                {"query": utf8(one.query), "clips": [hit.to_dict() for hit in one.hits]}
                for one in found
            ]
            text = json.dumps({"about": about, "queries": queries}, ensure_ascii=False, indent=1)
            write_text(self.json, text + "\n")
        if self.csv is not None:
            names = ["video", "score", "second", "frame", "duration", "words"]
            rows: list[list[Any]] = [["query", "rank", *names]]
            for one in found:
                for rank, hit in enumerate(one.hits, start=1):
                    cells = hit.to_dict()
                    cells["words"] = " | ".join(cells.get("words", []))
                    rows.append([one.query, rank, *(cells[name] for name in names)])
            write_text(self.csv, csv_text(rows))


def _is_ours(path: Path) -> bool:
    return begins(path, _JSON, _CSV, b"video,label_1,")


def show(found: Sequence[Answer], top: int) -> None:
    """Prints a table for every query."""
    for one in found:
        folder = _common([hit.video for hit in one.hits])
        named = any(hit.words for hit in one.hits)
        rows = tuple(
            {
                "": f"{rank}",
                "video": os.path.relpath(hit.video, folder) if folder else hit.video,
                "score": Plain(hit.score),
                "at, s": Plain(hit.second),
                "words": ", ".join(dict.fromkeys(hit.words or ())),
            }
            for rank, hit in enumerate(one.hits[:_SHOWN], start=1)
        )
        more = f", the first {_SHOWN} of {len(one.hits)}" if len(one.hits) > _SHOWN else ""
        title = f"{one.query}{more}" + (f", in {folder}" if folder else "")
        Table(title, ("", "video", "score", "at, s", *(["words"] * named)), rows).show()


def _common(videos: Sequence[str]) -> str:
    """The deepest folder that contains all videos; "" for none."""
    parents = {os.path.dirname(video) for video in videos}
    return os.path.commonpath(parents) if parents and all(map(os.path.isabs, parents)) else ""


def classify(
    index: Index,
    labels: Sequence[str] | None,
    words: Sequence[str] | None,
    top: int,
    files: Files,
    about: Mapping[str, str],
) -> None:
    """Classifies all clips: prints the first, and writes what `experiments.predict` writes."""
    passes = max(len(files.given()), 1)
    explained = files.given() or len(index) == 1
    shown: list[dict[str, Any]] = []
    progress = Progress("classify", passes * len(index), "video")

    def entries() -> Iterator[dict[str, Any]]:
        runner_ups = _RUNNER_UPS if explained else None
        for result in index.classify(labels, vocabulary=words, runner_ups=runner_ups):
            entry = {"video": result.video, "result": result.to_dict(top)}
            if len(shown) < min(_SHOWN, len(index)):
                shown.append(entry)
            progress.add(1)
            yield entry

    # a pass for each file: no result stays in memory
    with progress:
        if files.json is not None:
            of_predict.write_json(files.json, entries(), (), about)
        if files.csv is not None:
            of_predict.write_csv(files.csv, entries(), top)
        if not files.given():
            collections.deque(entries(), maxlen=0)
    of_predict.show(shown, len(index), top)
