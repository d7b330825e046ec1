"""The inputs of a build: the lists that its settings name, and their videos."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vtd_jax.errors import UserError, function, setting
from vtd_jax.fingerprints import fingerprint
from vtd_jax.printable import listed, printable, utf8
from vtd_jax.terminal import counted
from vtd_jax.texts import quoted_pair
from vtd_jax.video import decode
from vtd_jax.video.ingest import encode
from vtd_jax.video.ingest.config import BuildConfig
from vtd_jax.video.ingest.gather import gather_lists
from vtd_jax.video.lists.catalog import Problem, VideoList, file_key, is_utf8, spoken
from vtd_jax.video.lists.locate import VideoIndex, akin

# videos whose first frames show how large JPEGs will be, and how many of those frames
SAMPLED_VIDEOS, SAMPLED_FRAMES = 16, 4


@dataclass(frozen=True)
class Video:
    """One file to record: path, class (in `Inputs.class_names`), size, times, first mention.

    `modified` is when the content was (mtime, in ns), `changed` when the system changed anything of
    the file (ctime).
    """

    file: str
    label: int
    size: int
    modified: int
    where: str
    changed: int = -1


@dataclass(frozen=True)
class Placed:
    """A list whose files were looked for: the video of every entry, None where it is missing."""

    list: VideoList
    files: tuple[str | None, ...]


class Inputs:
    """The lists of a config and the videos that they name, each once, in the order of the records.

    Attributes:
      config, source, video_dir: where everything comes from.
      placed: the lists, with the file of every entry.
      videos: in record order: by a hash of the file's name, so that neither lists nor folders
        decide it.
      class_names: of all lists, in order of their appearance.
      problems: malformed, missing, doubled and contradictory entries, list by list.
    """

    def __init__(self, config: BuildConfig, manual_dir: Path | None = None):
        config.check()
        self.config = config
        self.source = Path(config.source or manual_dir or config.video_dir)
        self.video_dir = Path(config.video_dir or self.source)
        if not self.video_dir.is_dir():
            raise UserError(
                f"{self.video_dir}: there is no such folder of videos; check "
                f"{setting('video_dir' if config.video_dir else 'source')}"
            )
        self.problems: list[Problem] = []
        self.class_names: list[str] = []
        self._labels: dict[str, int] = {}
        found: dict[str, Video] = {}
        index, lists = VideoIndex(self.video_dir), gather_lists(config, self.source, self.problems)
        labels = [[self._label(name) for name in listed.class_names] for listed in lists]
        self.placed = [
            self._place(listed, labels[i], index, found) for i, listed in enumerate(lists)
        ]
        self.videos = sorted(found.values(), key=lambda video: (self.key(video), video.file))

    def key(self, video: Video) -> bytes:
        """What orders the records: a hash of the file's name and the seed."""
        return file_key(video.file.rpartition("/")[2], self.config.seed)

    def path(self, video: Video) -> Path:
        """The file of a video."""
        return self.video_dir / video.file

    def folder_labels(self, file: str) -> list[int]:
        """The classes that the folders of a file are named after."""
        parts = [spoken(part) for part in file.split("/")[:-1]]
        return [self._labels[part] for part in parts if part in self._labels]

    def _place(
        self, listed: VideoList, labels: list[int], index: VideoIndex, found: dict[str, Video]
    ) -> Placed:
        """Finds the file of every entry; new videos are added to `found`."""
        files: list[str | None] = []
        mine: dict[str, str] = {}
        for entry in listed.entries:
            where, label = listed.where(entry), labels[entry.label]
            shown = printable(entry.file)
            file, reason = self._find(index, entry.file, label, exact=listed.origin == "given")
            if file is None:
                self.problems.append(Problem("missing", where, shown, reason))
            elif index.is_outside(file) and not self.config.allow_outside:
                outside = f"{shown!r:.200} lies outside {self.video_dir}"
                reason = f"{outside}; {setting('allow_outside')} takes it"
                self.problems.append(Problem("outside", where, shown, reason))
                file = None
            elif file in mine:
                reason = f"the same file as {mine[file]}"
                self.problems.append(Problem("duplicate", where, entry.file, reason))
                file = None
            else:
                mine[file] = where
                self._add(found, file, label, where)
            files.append(file)
        return Placed(listed, tuple(files))

    def _find(
        self, index: VideoIndex, file: str, label: int, exact: bool
    ) -> tuple[str | None, str]:
        """The file that an entry means, or why there is none.

        A file of the same base name in another folder is taken, unless that folder is of another
        class or, in given lists, has nothing in common with the listed folders.
        """
        missing = f"{self.video_dir / printable(file)}: there is no such video file"
        try:
            found = index.find(file)
        except UserError as error:
            return None, str(error)
        if found is None:
            meant = [printable(other) for other in index.near(file)]
            named = listed([quoted_pair(file, other)[1] for other in meant], 3, " or ", "or")
            return None, f"{missing}; was {named} meant, which is there?" if meant else missing
        if not is_utf8(found):
            path = self.video_dir / printable(found)
            return None, f"{path}: the file's name is not UTF-8; rename it"
        elsewhere = found != file and not found.endswith(f"/{file}") and not self._same(file, found)
        other_class = label not in (self.folder_labels(found) or [label])
        if elsewhere and (other_class or (exact and not akin(file, found))):
            which = f"(the one of its name, {found}, lies in a folder of something else)"
            return None, f"{missing} {which}"
        return found, ""

    def _same(self, file: str, other: str) -> bool:
        """Whether two names are spellings of one path."""
        return os.path.abspath(self.video_dir / file) == os.path.abspath(self.video_dir / other)

    def _add(self, found: dict[str, Video], file: str, label: int, where: str) -> None:
        """Adds a video, or checks that it has the class that it had before."""
        if file not in found:
            stat = (self.video_dir / file).stat()
            found[file] = Video(
                file, label, stat.st_size, stat.st_mtime_ns, utf8(where), stat.st_ctime_ns
            )
        elif found[file].label != label:
            first = found[file]
            here, there = self.class_names[label], self.class_names[first.label]
            reason = f"class {here!r:.100} here, {there!r:.100} in {first.where}"
            self.problems.append(Problem("mislabelled", where, file, reason))

    def _label(self, name: str) -> int:
        """The number of a class name among those of all lists."""
        key = spoken(name)
        if key not in self._labels:
            self._labels[key] = len(self.class_names)
            self.class_names.append(name)
        return self._labels[key]

    def check(self) -> None:
        """Raises UserError with the first problem that stops this build, and their number."""
        fatal = [p for p in self.problems if p.kind != "missing" or self.config.on_error == "fail"]
        if fatal:
            first, more = fatal[0], f" ({len(fatal)} such entries in all)" if len(fatal) > 1 else ""
            what = f"see them all with {function('check_videos')}"
            if first.kind == "missing":
                what += f", or leave missing videos out with {setting('on_error', 'skip')}"
            raise UserError(
                f"{first.where}: {first.reason}{more}; fix the list or the videos; {what}"
            )
        if not self.videos:
            raise UserError(
                f"{self.video_dir}: none of the listed videos is there; is it the right folder?"
            )

    @property
    def fingerprint(self) -> str:
        """Changes whenever other records would result."""
        files = [[video.file, video.size] for video in self.videos]
        return fingerprint([self.config.stored(), self.config.on_error, files])

    def sampled(self, count: int = SAMPLED_VIDEOS) -> list[Video]:
        """Videos spread evenly over the records."""
        step = max(1, -(-len(self.videos) // count))
        return self.videos[::step]

    def estimate(self, storage: str | None = None, max_frames: int | None = None) -> list[float]:
        """Estimated record bytes of each video; exact for `video`, sampled for `jpeg`."""
        storage = storage or self.config.storage
        if storage == "video":
            return [float(video.size) for video in self.videos]
        most = self.config.max_frames if max_frames is None else max_frames
        sampled = {video: self._jpeg_bytes(video, most) for video in self.sampled()}
        jpegs, files = sum(sampled.values()), sum(v.size for v, size in sampled.items() if size)
        # without any readable video, JPEGs are taken to be as large as the files
        ratio = jpegs / files if files else 1.0
        return [ratio * video.size for video in self.videos]

    def _jpeg_bytes(self, video: Video, max_frames: int) -> float:
        """Frames by the header, times the JPEG of one; 0 for a bad file."""
        path = self.path(video)
        try:
            frames = decode.header(path)[0]
            image = decode.decode_frames(path, [max(0, min(frames, SAMPLED_FRAMES) - 1)])[0]
        except UserError:
            return 0.0
        jpeg = encode.jpeg(image, self.config.short_side)
        return float(min(frames, max_frames or frames) * len(jpeg))

    def shards(self) -> list[list[Video]]:
        """The videos cut into shards at equal steps of their hash.

        One video more or less changes one shard only, unless it changes the number of shards.
        """
        total = sum(self.estimate())
        count = min(len(self.videos), max(1, round(total / (self.config.shard_mb * 2**20))))
        numbers = [int.from_bytes(self.key(video)[:8]) * count >> 64 for video in self.videos]
        cuts = np.searchsorted(numbers, np.arange(count + 1)).tolist()
        parts = [self.videos[a:b] for a, b in pairwise(cuts)]
        return [part for part in parts if part]


def readable(size: float) -> str:
    """Bytes with a unit: 3.20 MB, 1.50 TB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{max(size, 0) / 1e3:.1f} kB"


def summary_lines(inputs: Inputs) -> Iterator[str]:
    """Log lines about a build: one on the videos, one on every origin of lists."""
    size = sum(video.size for video in inputs.videos)
    yield f"{counted(len(inputs.videos), 'video')}, {readable(size)}"
    lists = [placed.list for placed in inputs.placed]
    for origin in dict.fromkeys(each.origin for each in lists):
        names = [f"{each.name} ({len(each.entries)})" for each in lists if each.origin == origin]
        yield f"{origin} {'list' if len(names) == 1 else 'lists'}: {', '.join(names)}"
