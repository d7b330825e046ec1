"""The work of `experiments.predict`: a journal line for each video, then the output files."""

import contextlib
import functools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import program
from experiments.common.word_flags import given_words
from experiments.configs._templates import read_templates
from experiments.predict import files, outputs
from experiments.predict.lines import line_kind
from experiments.predict.request import Request
from experiments.predict.run import (
    Run,
    about,
    connect,
    journal_job,
    legacy_fields,
    right_ones,
    sentence,
)
from experiments.predict.truth import read_truth
from vtd_jax.clip.toy import toy_note
from vtd_jax.console.progress import Progress
from vtd_jax.console.status import Line, Part
from vtd_jax.durations import position
from vtd_jax.errors import UserError
from vtd_jax.predict.journal import Journal
from vtd_jax.predict.loading import WithoutSettings, load
from vtd_jax.predict.predictor import Failure, Predictor
from vtd_jax.predict.results import Explanation, Timeline
from vtd_jax.printable import utf8
from vtd_jax.report.html import Beside
from vtd_jax.report.pages import PageEntry, earlier_pages, write_index, write_page
from vtd_jax.terminal import counted, log, say
from vtd_jax.video.decode import VideoError
from vtd_jax.video.lists.addresses import named

# rows shown on the terminal at most
SHOWN = 40


def load_model(source: str, templates: str | None, **settings: Any) -> Predictor:
    """The model of `--model` and `--templates`; `settings` are for `vtd_jax.load`."""
    texts = read_templates(templates)[1] if templates else ()
    with Line(f"loading {source}"):
        try:
            model = load(source, templates=texts, **settings)
        except WithoutSettings as error:
            path = error.path
            raise UserError(
                f"{path}: the authors' format has no settings; make a file that has: "
                f"{program.spelled('export')} --checkpoint={path} --out={path.stem}.safetensors "
                "--config=… --config.clip.path=…"
            ) from None
    if source == "tiny":
        log(
            "note: --model=tiny knows coloured, textured shapes only ('red striped circle'); for "
            "anything else give --model=ViT-B/16, or another real CLIP "
            f"({program.spelled('weights')} list)"
        )
    elif note := toy_note(model.model.clip.config):
        log(
            f"note: --model={source}: {note}; learn on a real one, with "
            "--config.clip.path=CHECKPOINT"
        )
    return model


def run(request: Request, videos: Sequence[Path], model: Predictor) -> str:
    """Names the videos, prints the best labels, writes the files; returns the closing line.

    Raises:
      UserError: bad labels; or, once all others are finished, videos that could not be read.
    """
    limits = model.label_room, model.tokenizer
    labels = model.check_labels(given_words(request.labels, "--labels", *limits))
    words = given_words(request.vocabulary, "--vocabulary", *limits)
    truth = None if request.truth is None else read_truth(request.truth, videos, labels)
    run = Run(
        request,
        videos,
        about(request, model, labels, words),
        truth,
        sentence(toy_note(model.model.clip.config)),
    )
    log(f"device: {run.about['device']}")
    log(f"preprocess: {run.about['preprocess']}")
    if request.journal is None:
        shown, failed = _work(run, videos, _results(request, model, videos, labels, words), None)
        return _closing(run, failed, shown, [])
    job = journal_job(run, labels, words)
    with contextlib.ExitStack() as stack:
        stack.enter_context(outputs.locked(request))
        kind = line_kind(request.window is not None)
        journal = stack.enter_context(
            Journal(request.journal, job, request.restart, kind, legacy_fields(job, model))
        )
        left = [video for video in videos if named(video) not in journal.done]
        if journal.done:
            count = len(videos) - len(left)
            say(
                f"{count} of {counted(len(videos), 'video')} were finished before; resuming",
                sys.stderr,
            )
        try:
            shown, _ = _work(run, left, _results(request, model, left, labels, words), journal)
        except KeyboardInterrupt:
            done = sum(named(video) in journal.done for video in videos)
            message = (
                f"{done} of {counted(len(videos), 'video')} are finished; the same command resumes"
            )
            raise KeyboardInterrupt(message) from None
        written, failed = _write(run, journal)
    return _closing(run, failed, shown, written)


def _work(
    run: Run,
    videos: Sequence[Path],
    results: Iterable[Explanation | Timeline | Failure],
    journal: Journal | None,
) -> tuple[list[dict[str, Any]], int]:
    """Finishes video by video; returns the first entries, and how many videos failed."""
    report = run.request.report
    taken, before = [], ""
    for entry in () if journal is None else journal.entries():
        taken.append(entry["name"])
        before = entry["page"]["page"] if "page" in entry else before
    earlier = () if report is None else earlier_pages(Path(report))
    # videos of a resumed run must not take the names of pages that are finished
    names = files.page_names(
        videos, taken, earlier, functools.partial(outputs.is_foreign, run.request)
    )
    progress = Progress("predict", len(videos), "video") if len(videos) > 1 else None
    shown, failed = [], 0
    # a page links to the one before and the next; `connect` later skips videos that failed
    following = [f"{names[video]}.html" for video in videos[1:]] + [""]
    for video, result, after in zip(videos, _with_start_line(results, progress), following):
        truth = {} if run.truth is None else {"truth": run.truth.get(video)}
        entry = {"video": named(video), "name": names[video]} | truth
        entry |= _finish(run, video, result, names[video], (before, after))
        before = entry["page"]["page"] if "page" in entry else before
        failed += "error" in entry
        if progress is not None:
            progress.add(1, "error" in entry, entry.get("error", ""))
        if journal is not None:
            journal.add(**entry)
        if len(shown) < SHOWN:
            shown.append(entry)
    files.show(shown, len(videos), run.request.top)
    return shown, failed


def _with_start_line(results: Iterable[Any], progress: Progress | None) -> Iterator[Any]:
    """The results, with a line on the terminal until the first one arrives."""
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
    run: Run,
    video: Path,
    result: Explanation | Timeline | Failure,
    name: str,
    ways: tuple[str, str],
) -> dict[str, Any]:
    """Writes the page and figures of a video; returns the fields of its journal line."""
    if isinstance(result, Failure):
        return {"error": str(result.error)}
    request = run.request
    if result.note:
        log(f"note: {result.video}: {result.note}")
    fields: dict[str, Any] = {
        "result": result.to_dict(request.top) if request.window is None else result.to_dict()
    }
    if request.report is not None:
        truth = None if run.truth is None else run.truth.get(video)
        beside = Beside(run.place(video), truth, run.notice, *ways)
        fields["page"] = write_page(
            Path(request.report), result, name, run.on_pages, beside
        ).to_dict()
        fields["ways"] = ways
    if request.figures is not None:
        Path(request.figures).mkdir(parents=True, exist_ok=True)
        # matplotlib is of an extra: imported where figures are wanted
        from vtd_jax.report.clip_figure import explanation_figure
        from vtd_jax.report.timeline_figure import timeline_figure

        for path in (Path(request.figures) / f"{name}.{ending}" for ending in ("png", "pdf")):
            if isinstance(result, Explanation):
                explanation_figure(path, result)
            else:
                timeline_figure(path, result)
    return fields


def _write(run: Run, journal: Journal) -> tuple[list[str], int]:
    """Writes the files of a finished run and removes its journal.

    Returns:
      The names of the files, and how many videos failed.
    """
    request, wanted = run.request, set(map(named, run.videos))

    def entries() -> Iterator[dict[str, Any]]:
        return (entry for entry in journal.entries() if entry["video"] in wanted)

    failed = [(entry["video"], entry["error"]) for entry in entries() if "error" in entry]
    written = []
    if request.json is not None:
        files.write_json(Path(request.json), entries(), failed, run.about)
        written.append(request.json)
    if request.csv is not None:
        files.write_csv(
            Path(request.csv),
            entries(),
            None if request.window else request.top,
            run.truth is not None,
        )
        written.append(request.csv)
    if request.report is not None:
        connect(Path(request.report), entries())
        pages = (PageEntry.from_dict(entry["page"]) for entry in entries() if "page" in entry)
        right = None if run.truth is None else right_ones(entries())
        index = write_index(
            Path(request.report), pages, failed, run.on_pages, notice=run.notice, right=right
        )
        written.append(str(index))
    if request.figures is not None:
        written.append(f"PNG and PDF in {request.figures}")
    # without a journal, the same command tries failed videos again
    journal.remove()
    return written, len(failed)


def _closing(
    run: Run, failed: int, shown: Sequence[Mapping[str, Any]], written: Sequence[str]
) -> str:
    count = len(run.videos)
    where = "no file was written (--json, --csv, --report and --figures write some)"
    if written:
        where = f"wrote {', '.join(map(utf8, written))}"
    if failed and count == 1 and shown:
        raise UserError(shown[0]["error"])
    if failed:
        raise UserError(
            f"{failed} of {count} videos could not be read (see above); the others: {where}"
        )
    return f"{counted(count, 'video')}: {where}"


def _results(request, model, videos, labels, words) -> Iterator[Explanation | Timeline | Failure]:
    """One result for each video, in order."""
    if words is not None:
        with Progress("encoding the vocabulary", noun="word") as progress:
            model.encode_vocabulary(words, progress.update)
    if request.window is None:
        stream = model.stream(
            videos,
            labels,
            frames=request.frames,
            vocabulary=words,
            runner_ups=4,
            **request.how,
        )
        yield from files.slow_told(videos, stream)
        return
    for video in videos:
        try:
            with Progress(utf8(named(video)), form=position) as progress:
                found = model.timeline(
                    video,
                    labels,
                    window=request.window,
                    stride=request.stride,
                    frames=request.frames,
                    vocabulary=words,
                    threshold=request.threshold,
                    on_progress=progress.update,
                )
            yield found
        except VideoError as error:
            yield Failure(named(video), error)
