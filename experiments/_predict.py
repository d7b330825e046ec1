"""What `experiments.predict` does: videos one after another, a journal line each, then the files asked for."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import vtd_jax
from experiments import _predict_files as files
from experiments.configs._templates import read_templates
from vtd_jax.errors import UserError
from vtd_jax.explain.journal import Journal
from vtd_jax.explain.loading import load
from vtd_jax.explain.picture import explanation_figure
from vtd_jax.explain.predictor import Failure, Predictor
from vtd_jax.explain.report import PageEntry, write_index, write_page
from vtd_jax.explain.results import Explanation, Timeline
from vtd_jax.explain.timeline import Windows
from vtd_jax.explain.timeline_picture import timeline_figure
from vtd_jax.explain.words import read_words
from vtd_jax.status import Line, Part
from vtd_jax.video.decode import VideoError
from vtd_jax.video.progress import Progress

# videos whose rows are shown on the terminal
SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Request:
    """The flags of the command, by their names."""

    labels: str | None
    vocabulary: str | None
    frames: int | None
    top: int
    window: float | None
    stride: float | None
    threshold: float
    json: str | None
    csv: str | None
    report: str | None
    figures: str | None
    restart: bool
    workers: int

    def check(self, videos: Sequence[Path]) -> None:
        """Refuses what does not go together, before anything is loaded.

        Raises:
          UserError: an option that would do nothing, an output that cannot be written or is one of the videos.
        """
        if self.window is None and self.stride is not None:
            raise UserError(f"--stride={self.stride}: is for windows; give --window=SECONDS too")
        if self.window is not None:
            Windows(self.frames or 1, self.window, self.stride, self.threshold)
        for flag, value, ending in (("json", self.json, ".json"), ("csv", self.csv, ".csv")):
            if value is not None and Path(value).suffix != ending:
                raise UserError(f"--{flag}={value}: expected the name of a file that ends in {ending}")
            if value is not None and Path(value).is_dir():
                raise UserError(f"--{flag}={value}: is a folder, expected the name of a file")
        for flag, value in (("report", self.report), ("figures", self.figures)):
            if value is not None and Path(value).exists() and not Path(value).is_dir():
                raise UserError(f"--{flag}={value}: is a file, expected the name of a folder")
        if self.restart and self.journal is None:
            raise UserError("--restart: there is nothing to throw away without --json, --csv, --report or --figures")

    @property
    def journal(self) -> Path | None:
        """Where finished videos are noted until all are; None where no file is asked for."""
        for value in (self.json, self.csv):
            if value is not None:
                return Path(f"{value}.unfinished")
        folder = self.report or self.figures
        return None if folder is None else Path(folder) / "unfinished.jsonl"


def load_model(source, clip, checkpoint, templates, pooling, dtype, cache) -> Predictor:
    """The model of the flags."""
    texts = read_templates(templates)[1] if templates else ()
    with Line(f"loading {source}"):
        model = load(
            source, clip=clip, checkpoint=checkpoint, templates=texts, pooling=pooling, dtype=dtype, cache=cache
        )
    if source == "tiny":
        print(
            "note: --model=tiny knows coloured, textured shapes only ('red striped circle'); for anything else give "
            "--model=CHECKPOINT, e.g. OpenAI's ViT-B-16.pt",
            file=sys.stderr,
        )
    return model


def run(request: Request, videos: Sequence[Path], model: Predictor) -> str:
    """Names the videos, writes what is asked for, tells the best; returns the closing line.

    Raises:
      UserError: bad labels; or, when all others are done, videos that could not be read.
    """
    given = None if request.labels is None else read_words(request.labels, "--labels", model.label_room)
    labels = model.check_labels(given)
    words = None if request.vocabulary is None else read_words(request.vocabulary, "--vocabulary", model.label_room)
    about = _about(request, model, labels, words)
    if request.journal is None:
        shown, failed = _work(request, videos, _results(request, model, videos, labels, words), about, None)
        return _closing(len(videos), failed, shown, [])
    outputs = {flag: getattr(request, flag) for flag in ("json", "csv", "report", "figures")}
    job = about | {"labels": _digest(labels), "words": _digest(words or ()), "weights": model.weights}
    with Journal(request.journal, job | {"outputs": outputs}, request.restart) as journal:
        left = [video for video in videos if str(video) not in journal.done]
        if journal.done:
            count = len(videos) - len(left)
            print(f"{count} of {len(videos)} videos were finished before; going on", file=sys.stderr)
        try:
            shown, _ = _work(request, left, _results(request, model, left, labels, words), about, journal)
        except KeyboardInterrupt:
            done = sum(str(video) in journal.done for video in videos)
            raise KeyboardInterrupt(f"{done} of {len(videos)} videos are finished; the same command resumes") from None
        written, failed = _write(request, journal, videos, about)
    return _closing(len(videos), failed, shown, written)


def _work(
    request: Request,
    videos: Sequence[Path],
    results: Iterable[Explanation | Timeline | Failure],
    about: Mapping[str, str],
    journal: Journal | None,
) -> tuple[list[dict[str, Any]], int]:
    """Finishes video by video; the first ones for the terminal, and how many could not be read."""
    taken = () if journal is None else [entry["name"] for entry in journal.entries()]
    names = files.page_names(videos, taken)
    progress = Progress(len(videos), "predict") if len(videos) > 1 else None
    shown, failed = [], 0
    for video, result in zip(videos, _first_told(results, progress)):
        entry = {"video": str(video), "name": names[video]} | _finish(request, result, names[video], about)
        failed += "error" in entry
        if progress is not None:
            progress.add((1, int("error" in entry), entry.get("error", "")))
        if journal is not None:
            journal.add(**entry)
        if len(shown) < SHOWN:
            shown.append(entry)
    files.show(shown, len(videos), request.top)
    return shown, failed


def _first_told(results: Iterable[Any], progress: Progress | None) -> Iterator[Any]:
    """The results; until the first one is there, and where there is no count of videos, the terminal says so."""
    results = iter(results)
    with Line("encoding the labels, compiling", Part("and reading the first video", 1)):
        first = next(results, None)
    if first is None:
        return
    yield first
    if progress is not None:
        progress.show()
    yield from results


def _finish(
    request: Request, result: Explanation | Timeline | Failure, name: str, about: Mapping[str, str]
) -> dict[str, Any]:
    """Writes the page and figures of a video; gives its line of the journal."""
    if isinstance(result, Failure):
        return {"error": str(result.error)}
    fields: dict[str, Any] = {"result": result.to_dict(request.top) if request.window is None else result.to_dict()}
    if request.report is not None:
        fields["page"] = write_page(Path(request.report), result, name, about).to_dict()
    if request.figures is not None:
        Path(request.figures).mkdir(parents=True, exist_ok=True)
        draw = explanation_figure if isinstance(result, Explanation) else timeline_figure
        for ending in ("png", "pdf"):
            draw(Path(request.figures) / f"{name}.{ending}", result)
    return fields


def _write(request: Request, journal: Journal, videos: Sequence[Path], about: dict) -> tuple[list[str], int]:
    """Makes the files of a finished run from its journal, which goes; what was written, and how many videos failed."""
    meant = set(map(str, videos))

    def entries() -> Iterator[dict[str, Any]]:
        return (entry for entry in journal.entries() if entry["video"] in meant)

    failed = [(entry["video"], entry["error"]) for entry in entries() if "error" in entry]
    written = []
    if request.json is not None:
        files.write_json(Path(request.json), entries(), failed, about)
        written.append(request.json)
    if request.csv is not None:
        files.write_csv(Path(request.csv), entries(), None if request.window else request.top)
        written.append(request.csv)
    if request.report is not None:
        pages = (PageEntry.from_dict(entry["page"]) for entry in entries() if "page" in entry)
        written.append(str(write_index(Path(request.report), pages, failed, about)))
    if request.figures is not None:
        written.append(f"PNG and PDF in {request.figures}")
    # videos that failed are tried again by the same command
    journal.remove()
    return written, len(failed)


def _closing(count: int, failed: int, shown: Sequence[Mapping[str, Any]], written: Sequence[str]) -> str:
    where = f"wrote {', '.join(written)}" if written else "no file was asked for (--json, --csv, --report, --figures)"
    if failed and count == 1 and shown:
        raise UserError(shown[0]["error"])
    if failed:
        raise UserError(f"{failed} of {count} videos could not be read, as told above; of the others: {where}")
    return f"{count} video{'s' if count > 1 else ''}: {where}"


def _about(request: Request, model: Predictor, labels: Sequence[str], words: Sequence[str] | None) -> dict[str, str]:
    """What a result depends on, in words."""
    config = model.model.config
    told = {
        "model": model.told,
        "labels": f"{len(labels)}",
        "frames named by": "the labels" if words is None else f"{len(words)} words of {request.vocabulary}",
        "frames": f"{request.frames or model.frames}" + (" a window" if request.window else ""),
        "pooling": config.pooling,
        "normalization": config.normalization,
        "assignment": config.assignment,
        "vtd_jax": vtd_jax.__version__,
    }
    if config.templates:
        told["templates"] = f"{len(config.templates)}, the first {config.templates[0]!r}"
    if request.window:
        plan = Windows(request.frames or model.frames, request.window, request.stride, request.threshold)
        told["windows"] = f"{request.window} s, stride {plan.steps * plan.step:g} s, from {request.threshold}"
    return told


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _results(request, model, videos, labels, words) -> Iterator[Explanation | Timeline | Failure]:
    """One result a video, in order."""
    if words is not None:
        with files.Encoded() as told:
            model.encode_vocabulary(words, told)
    if request.window is None:
        yield from model.stream(
            videos, labels, frames=request.frames, vocabulary=words, runner_ups=4, workers=request.workers
        )
        return
    for video in videos:
        try:
            with files.Minutes(str(video)) as told:
                found = model.timeline(
                    video,
                    labels,
                    window=request.window,
                    stride=request.stride,
                    frames=request.frames,
                    vocabulary=words,
                    threshold=request.threshold,
                    told=told,
                )
            yield found
        except VideoError as error:
            yield Failure(str(video), error)
