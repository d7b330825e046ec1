"""Checks every video of a build without building: missing, unreadable, duplicate, mislabelled."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path

from vtd_jax.console.progress import Progress
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.outputs import check_output, check_suffix, csv_text
from vtd_jax.terminal import counted
from vtd_jax.video import decode
from vtd_jax.video.codec.wholeness import NoFrames
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.inputs import Inputs, Video
from vtd_jax.video.ingest.run import cores
from vtd_jax.video.ingest.sources import file_digest
from vtd_jax.video.lists.catalog import Problem
from vtd_jax.video.workers import describe_exit, process_map

COLUMNS = ("kind", "where", "file", "reason")


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
      videos: how many different files were decoded to their end.
      lists: entries of every list, by name.
      errors: what a build with `on_error="fail"` would stop at.
      warnings: what it would store as it is, and is most likely a mistake: the same content twice,
        a video in the folder of another class, a whole file whose header says more than it holds.
      frames, seconds, bytes: of all whole videos.
    """

    videos: int
    lists: dict[str, int]
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    frames: int
    seconds: float
    bytes: int

    def kinds(self) -> list[tuple[str, str, int, Problem]]:
        """`(level, kind, how many, the first one)` of every kind of problem, errors first."""
        found: dict[tuple[str, str], list[Problem]] = {}
        for level, problem in self.leveled():
            found.setdefault((level, problem.kind), []).append(problem)
        return [(*key, len(problems), problems[0]) for key, problems in found.items()]

    def leveled(self) -> list[tuple[str, Problem]]:
        """`("error" or "warning", problem)`."""
        return [("error", p) for p in self.errors] + [("warning", p) for p in self.warnings]

    @staticmethod
    def check_path(path: Path, flag: str = "report") -> None:
        """Raises UserError if a report cannot be written there; call it before the work.

        Args:
          path: of the report.
          flag: what messages call it, such as "--report".
        """
        check_suffix(Path(path.name.lower()), ".json", ".csv", where=f"{flag}={path}")
        check_output(flag, str(path))
        path.parent.mkdir(parents=True, exist_ok=True)

    def save(self, path: Path) -> None:
        """Writes everything as JSON, or the problems as CSV where the path ends in .csv."""
        self.check_path(path)
        if path.suffix.lower() == ".csv":
            rows = ((level, *astuple(problem)) for level, problem in self.leveled())
            write_text(path, csv_text([("level", *COLUMNS), *rows]))
            return
        content = asdict(self)
        del content["errors"], content["warnings"]
        content["problems"] = [{"level": level, **asdict(each)} for level, each in self.leveled()]
        write_text(path, json.dumps(content, indent=1) + "\n")


def check_videos(config: BuildConfig) -> Checked:
    """Decodes every listed video to its end, in processes of their own; writes nothing.

    A file that crashes its decoder costs its process and is reported like the others.

    Raises:
      UserError: for inputs that cannot be read at all.
    """
    inputs = Inputs(config)
    workers = min(cores(config.workers), max(1, len(inputs.videos)))
    progress = Progress("check", len(inputs.videos), "video")
    bad: dict[str, Problem] = {}
    whole: dict[str, tuple[int, float, str, str]] = {}
    for outcome in process_map(
        partial(look, str(inputs.video_dir)), inputs.videos, workers, idle=progress.show
    ):
        video = outcome.item
        if outcome.error or outcome.exit_code is not None:
            reason = str(outcome.error)
            if outcome.error is None:
                reason = f"the process that decoded it died ({describe_exit(outcome.exit_code)})"
            kind = "no frames" if isinstance(outcome.error, NoFrames) else "unreadable"
            bad[video.file] = Problem(kind, video.where, video.file, reason)
        else:
            whole[video.file] = outcome.result
        progress.add(1, video.file in bad)
    found = [bad[video.file] for video in inputs.videos if video.file in bad]
    warnings = [*_same_content(inputs.videos, whole), *_other_folders(inputs), *_odd(inputs, whole)]
    return Checked(
        videos=len(inputs.videos),
        lists={placed.list.name: len(placed.list.entries) for placed in inputs.placed},
        errors=tuple(_in_order(inputs, [*inputs.problems, *found])),
        warnings=tuple(_in_order(inputs, warnings)),
        frames=sum(found[0] for found in whole.values()),
        seconds=sum(found[1] for found in whole.values()),
        bytes=sum(video.size for video in inputs.videos if video.file in whole),
    )


def look(folder: str, video: Video, log: object = None) -> tuple[int, float, str, str]:
    """Frames, seconds, content hash and note of one video; raises VideoError for a bad one."""
    path = Path(folder) / video.file
    info = decode.probe(path, str(path))
    return info.frames, info.duration, file_digest(path), info.note


def _in_order(inputs: Inputs, problems: Sequence[Problem]) -> list[Problem]:
    """List by list, line by line."""
    sources = {placed.list.source: place for place, placed in enumerate(inputs.placed)}

    def key(problem: Problem) -> tuple[int, int, str]:
        source, _, line = problem.where.rpartition(":")
        known = source in sources and line.isdigit()
        return (sources[source] if known else len(sources), int(line) if known else 0, problem.file)

    return sorted(problems, key=key)


def _same_content(
    videos: Sequence[Video], whole: dict[str, tuple[int, float, str, str]]
) -> list[Problem]:
    """Files with the same bytes as another: they count twice, or are in training and evaluation."""
    first: dict[str, Video] = {}
    problems = []
    for video in sorted(videos, key=lambda video: video.file):
        if video.file not in whole:
            continue
        other = first.setdefault(whole[video.file][2], video)
        if other is not video:
            reason = f"the same bytes as {other.file} ({other.where})"
            problems.append(Problem("duplicate", video.where, video.file, reason))
    return problems


def _other_folders(inputs: Inputs) -> list[Problem]:
    """Videos that lie in a folder named after another class than theirs."""
    problems = []
    for video in inputs.videos:
        named = inputs.folder_labels(video.file)
        if named and video.label not in named:
            listed, folder = inputs.class_names[video.label], inputs.class_names[named[-1]]
            reason = f"listed as {listed!r}, in a folder of {folder!r}"
            problems.append(Problem("mislabelled", video.where, video.file, reason))
    return problems


def _odd(inputs: Inputs, whole: dict[str, tuple[int, float, str, str]]) -> list[Problem]:
    """Whole videos with a note."""
    noted = [(video, whole[video.file][3]) for video in inputs.videos if video.file in whole]
    return [Problem("header", video.where, video.file, note) for video, note in noted if note]


def require_good(checked: Checked) -> None:
    """Raises UserError if there are errors, with their number by kind."""
    if checked.errors:
        kinds = dict.fromkeys(problem.kind for problem in checked.errors)
        counts = [f"{sum(p.kind == kind for p in checked.errors)} {kind}" for kind in kinds]
        raise UserError(f"{describe(checked)}: {', '.join(counts)}; no records were written")


def describe(checked: Checked) -> str:
    """How much was checked, in a few words."""
    lists = ", ".join(f"{name} {count}" for name, count in checked.lists.items())
    warnings = f", {counted(len(checked.warnings), 'warning')}" if checked.warnings else ""
    videos, of = counted(checked.videos, "video"), counted(len(checked.lists), "list")
    return f"checked {videos} of {of} ({lists}){warnings}"
