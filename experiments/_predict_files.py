"""Files and tables of `experiments.predict`, written from a run's journal one video at a time."""

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtd_jax.evaluate.tables import Table
from vtd_jax.files import replacing
from vtd_jax.status import Line

_SEGMENT = ("label", "start", "end", "score", "peak", "peak_at", "best")
# seconds between two lines about a long job, where the last one cannot be rewritten
_EVERY = 20.0


def page_names(videos: Sequence[Path], taken: Iterable[str] = ()) -> dict[Path, str]:
    """A name for the page and figures of every video: its own without the ending, numbered where that is taken."""
    taken, names = {"index", *map(str.lower, taken)}, {}
    for video in videos:
        name = stem = video.stem or "video"
        number = 1
        # some file systems do not tell upper from lower case
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        names[video] = name
    return names


def write_json(
    path: Path, entries: Iterable[Mapping[str, Any]], failed: Sequence[tuple[str, str]], about: Mapping[str, str]
) -> None:
    """Writes `{"about", "failed": [{"video", "error"}], "videos": [result]}`, whole or not at all."""
    head = {"about": dict(about), "failed": [{"video": video, "error": error} for video, error in failed]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8") as out:
        out.write(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "videos": [')
        mark = "\n"
        for entry in entries:
            if "result" in entry:
                out.write(mark + json.dumps(entry["result"], ensure_ascii=False))
                mark = ",\n"
        out.write("\n ]\n}\n")


def write_csv(path: Path, entries: Iterable[Mapping[str, Any]], top: int | None) -> None:
    """Writes a row a video with its `top` best labels, or for None a row a segment; an error has a row of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["video", *(_SEGMENT if top is None else _columns(top)), "error"])
        for entry in entries:
            for cells in _rows(entry, top):
                writer.writerow([entry["video"], *cells, entry.get("error", "")])


def _columns(top: int) -> list[str]:
    best = [name for n in range(1, top + 1) for name in (f"label_{n}", f"score_{n}")]
    return [*best, "video_token", "words", "duration", "total_frames"]


def _rows(entry: Mapping[str, Any], top: int | None) -> Iterator[list[Any]]:
    result = entry.get("result")
    if result is None:
        yield [""] * (len(_SEGMENT) if top is None else len(_columns(top)))
    elif top is None:
        yield from ([segment[name] for name in _SEGMENT] for segment in result["segments"])
    else:
        best = [value for pair in result["top"] for value in (pair["label"], pair["score"])]
        best += [""] * (2 * top - len(best))
        words = [names[0]["word"] for names in result["words"]]
        yield [*best, result["video_token"][0]["word"], " | ".join(words), result["duration"], result["total_frames"]]


def show(entries: Sequence[Mapping[str, Any]], count: int, top: int) -> None:
    """Prints what was found: all about a single video, a row for each of several."""
    results = [entry["result"] for entry in entries if "result" in entry]
    if not results:
        return
    if count == 1:
        (_show_segments if "segments" in results[0] else _show_clip)(results[0])
        return
    # what all have in common says nothing, and takes the room of what does
    parents = {os.path.dirname(result["video"]) for result in results}
    folder = os.path.commonpath(parents) if len(set(map(os.path.isabs, parents))) == 1 else ""
    rows = tuple(
        {
            "video": os.path.relpath(result["video"], folder) if folder else result["video"],
            "label": result["label"],
            "score": result["score"],
            "second": _second(result),
        }
        for result in results
    )
    title = f"{_of(len(rows), count)} of {folder}" if folder else _of(len(rows), count)
    Table(title, ("video", "label", "score", "second"), rows).show()


def _of(shown: int, count: int) -> str:
    return f"{count} videos" if shown >= count else f"The first {shown} of {count} videos"


def _show_clip(result: Mapping[str, Any]) -> None:
    rows = tuple({"label": pair["label"], "score": pair["score"]} for pair in result["top"])
    length = "" if result["duration"] is None else f", {result['duration']:.1f} s"
    title = f"{result['video']}{length}, {len(result['frames'])} of {result['total_frames']} frames"
    Table(title, ("label", "score"), rows).show()
    token = ", ".join(pair["word"] for pair in result["video_token"])
    print(f"frames: {_words(result)}\nvideo token: {token}\n")


def _show_segments(result: Mapping[str, Any], most: int = 40) -> None:
    segments = sorted(sorted(result["segments"], key=lambda s: s["start"] - s["end"])[:most], key=lambda s: s["start"])
    rows = tuple(
        {"label": s["label"], "from": clock(s["start"]), "to": clock(s["end"]), "score": s["score"]} for s in segments
    )
    which = "" if len(segments) == len(result["segments"]) else f", the {most} longest of {len(result['segments'])}"
    title = f"{result['video']}, {clock(result['duration'])}: segments{which}"
    Table(title, ("label", "from", "to", "score"), rows).show()


def _second(result: Mapping[str, Any]) -> str:
    return "" if len(result["top"]) < 2 else f"{result['top'][1]['label']} {100 * result['top'][1]['score']:.1f}"


def _words(result: Mapping[str, Any], most: int = 3) -> str:
    """The commonest words of the frames or windows, and how often they come."""
    if "windows" in result:
        words = Counter(window["word"] for window in result["windows"])
    else:
        words = Counter(names[0]["word"] for names in result["words"])
    told = [f"{word} × {count}" for word, count in words.most_common(most)]
    return ", ".join(told) + ("" if len(words) <= most else f", {len(words) - most} more")


def clock(seconds: float) -> str:
    """`m:ss.s`, from an hour on `h:mm:ss`."""
    if seconds < 3600:
        minutes, rest = divmod(round(seconds, 1), 60)
        return f"{int(minutes)}:{rest:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class _Told:
    """How far a long job is: in the terminal's line, or now and then in a line on stderr."""

    def __init__(self):
        self.terminal, self.shown, self.line = sys.stderr.isatty(), time.monotonic(), Line(clock=False)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def tell(self, text: str) -> None:
        """Shows the text, elsewhere if it is time for it."""
        if self.terminal:
            self.line.show(text)
            self.line.open()
        elif time.monotonic() - self.shown >= _EVERY:
            self.shown = time.monotonic()
            print(text, file=sys.stderr, flush=True)


class Minutes(_Told):
    """How far a long video is."""

    def __init__(self, video: str):
        super().__init__()
        self.video = video

    def __call__(self, done: float, length: float) -> None:
        """Seconds done, and all of them, 0 if that is not known."""
        self.tell(f"{self.video}: {clock(done)}" + (f" of {clock(length)}" if length else ""))


class Encoded(_Told):
    """How many words of a vocabulary are encoded."""

    def __call__(self, done: float, total: float) -> None:
        """Words done, and all of them."""
        self.tell(f"encoding the vocabulary: {done:.0f} of {total:.0f} words")
