"""Files and tables of `experiments.predict`, written from a run's journal one video at a time."""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtd_jax.durations import position
from vtd_jax.evaluate.tables import Table
from vtd_jax.files import replacing
from vtd_jax.outputs import CsvWriter, file_stem
from vtd_jax.predict.display.texts import frames_taken
from vtd_jax.printable import listed, utf8
from vtd_jax.report.pages import PageEntry, video_key
from vtd_jax.terminal import counted, say
from vtd_jax.video.lists.addresses import is_address, named

_SEGMENT = ("label", "start", "end", "score", "peak", "peak_at", "best")
# seconds after which a video that is waited for is named
_SLOW = 10.0
# scores are fractions in files, percent on the terminal
SCORE = "score, %"


def page_names(
    videos: Sequence[Path],
    taken: Iterable[str] = (),
    earlier: Iterable[PageEntry] = (),
    is_foreign: Callable[[str], bool] = lambda name: False,
) -> dict[Path, str]:
    """A name for the page and figures of every video: its stem, with a number if that is taken.

    Args:
      videos: to be named.
      taken: names that this run has used already.
      earlier: existing pages; a video's own page is replaced, no other is.
      is_foreign: whether a file of this name exists that must not be replaced.
    """
    taken, owners, own = {"index", *map(str.lower, taken)}, {}, {}
    for entry in earlier:
        name = entry.page.removesuffix(".html")
        # some file systems ignore case
        owners[name.lower()], own[entry.key] = entry.key, name
    names = {}
    for video in videos:
        key, stem = video_key(named(video)), file_stem(video.stem)
        name, number = own.get(key, stem), 1
        while name.lower() in taken or owners.get(name.lower(), key) != key or is_foreign(name):
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        names[video] = name
    return names


def write_json(
    path: Path,
    entries: Iterable[Mapping[str, Any]],
    failed: Sequence[tuple[str, str]],
    about: Mapping[str, str],
) -> None:
    """Writes `{"about", "failed": [{"video", "error"}], "videos": [result]}` atomically."""
    head = {
        "about": dict(about),
        "failed": [{"video": utf8(video), "error": error} for video, error in failed],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        out.write(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "videos": [')
        mark = "\n"
        for entry in entries:
            if "result" in entry:
                known = {"truth": entry["truth"]} if "truth" in entry else {}
                out.write(mark + json.dumps(entry["result"] | known, ensure_ascii=False))
                mark = ",\n"
        out.write("\n ]\n}\n")


def write_csv(
    path: Path, entries: Iterable[Mapping[str, Any]], top: int | None, truth: bool = False
) -> None:
    """Writes a row for each video with its `top` best labels; for None, a row for each segment.

    A failed video has a row with its error. With `truth` there is a column for the known label.
    No cell is a formula, whatever files and labels are called.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as out:
        writer = CsvWriter(out)
        known = ["truth"] if truth else []
        writer.writerow(["video", *known, *(_SEGMENT if top is None else _columns(top)), "error"])
        for entry in entries:
            known = [entry.get("truth")] if truth else []
            for cells in _rows(entry, top):
                writer.writerow([entry["video"], *known, *cells, entry.get("error", "")])


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
        yield [
            *best,
            result["video_token"][0]["word"],
            " | ".join(words),
            result["duration"],
            result["total_frames"],
        ]


def show(entries: Sequence[Mapping[str, Any]], count: int, top: int) -> None:
    """Prints the results: everything about a single video, or a row for each of several."""
    found = [entry for entry in entries if "result" in entry]
    results = [entry["result"] for entry in found]
    if not results:
        return
    if count == 1:
        (_show_segments if "segments" in results[0] else _show_clip)(results[0])
        return
    # the common folder goes into the title, to leave room in the rows
    folder = _common_folder([utf8(entry["video"]) for entry in entries])
    rows = tuple(
        {
            "video": _from_folder(result["video"], folder),
            "label": result["label"],
            SCORE: result["score"],
            "second": _second(result),
            "truth": entry.get("truth"),
        }
        for entry, result in zip(found, results)
    )
    title = counted(count, "video")
    if len(entries) < count:
        title = f"The first {len(entries)} of {count} videos"
    title += f" of {folder}" if folder else ""
    if failed := len(entries) - len(rows):
        title += f"; {failed} could not be read"
    known = ("truth",) if any("truth" in entry for entry in found) else ()
    Table(title, ("video", "label", SCORE, "second", *known), rows, less=("second",)).show()


def _common_folder(videos: Sequence[str]) -> str:
    """The deepest folder of all videos; "" where there is none, such as of files and addresses."""
    parents = {os.path.dirname(video) for video in videos}
    if not any(map(is_address, videos)):
        return os.path.commonpath(parents) if len(set(map(os.path.isabs, parents))) == 1 else ""
    # `commonpath` would make one slash of the two in front of a host
    schemes, places = zip(*(parent.split("://", 1) for parent in parents if is_address(parent)))
    common = os.path.commonpath(places)
    is_one = common and len(set(schemes)) == 1 and len(places) == len(parents)
    return f"{schemes[0]}://{common}" if is_one else ""


def _from_folder(video: str, folder: str) -> str:
    """A video as a table names it whose title has the folder."""
    if not folder:
        return video
    return video.removeprefix(f"{folder}/") if is_address(video) else os.path.relpath(video, folder)


def _show_clip(result: Mapping[str, Any]) -> None:
    rows = tuple({"label": pair["label"], SCORE: pair["score"]} for pair in result["top"])
    length = "" if result["duration"] is None else f", {result['duration']:.1f} s"
    title = (
        f"{result['video']}{length}, {frames_taken(len(result['frames']), result['total_frames'])}"
    )
    Table(title, ("label", SCORE), rows).show()
    token = ", ".join(pair["word"] for pair in result["video_token"])
    say(f"frames: {_words(result)}")
    say(f"video token: {token}")
    say("")


def _show_segments(result: Mapping[str, Any], most: int = 40) -> None:
    segments = sorted(
        sorted(result["segments"], key=lambda s: s["start"] - s["end"])[:most],
        key=lambda s: s["start"],
    )
    rows = tuple(
        {
            "label": s["label"],
            "from": position(s["start"]),
            "to": position(s["end"]),
            SCORE: s["score"],
        }
        for s in segments
    )
    title = f"{result['video']}, {position(result['duration'])}: segments"
    if len(segments) < len(result["segments"]):
        title += f", the {most} longest of {len(result['segments'])}"
    Table(title, ("label", "from", "to", SCORE), rows).show()


def _second(result: Mapping[str, Any]) -> str:
    if len(result["top"]) < 2:
        return ""
    second = result["top"][1]
    return f"{second['label']} {100 * second['score']:.1f} %"


def _words(result: Mapping[str, Any], most: int = 3) -> str:
    """The commonest words of the frames or windows, and how often they come."""
    if "windows" in result:
        words = Counter(window["word"] for window in result["windows"])
    else:
        words = Counter(names[0]["word"] for names in result["words"])
    return listed([f"{word} × {count}" for word, count in words.most_common()], most)


def slow_told(videos: Sequence[Path], results: Iterable[Any]) -> Iterator[Any]:
    """The results; a video that is waited for long is named in a line on stderr, where that is no
    terminal.
    """
    results = iter(results)
    for video in videos:
        told = f"{utf8(named(video))}: not finished after {_SLOW:g} s, still working on it"
        timer = threading.Timer(_SLOW, say, (told, sys.stderr))
        timer.daemon = True
        if not sys.stderr.isatty():
            timer.start()
        try:
            result = next(results, None)
        finally:
            timer.cancel()
        if result is None:
            return
        yield result
