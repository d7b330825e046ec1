"""Makes an index, or adds videos to one; an interrupted call resumes at the last whole shard."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from os.path import isdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vtd_jax.console import consent
from vtd_jax.errors import UserError, setting
from vtd_jax.files import remove_tree
from vtd_jax.locks import locked_outputs
from vtd_jax.predict.batching.options import Encoding, How
from vtd_jax.predict.job import Failure
from vtd_jax.predict.predictor import Predictor
from vtd_jax.printable import utf8
from vtd_jax.retrieval.encoder import SETTINGS, check_encoder, encoder_fingerprint
from vtd_jax.retrieval.sources import Source, find_sources
from vtd_jax.retrieval.store import (
    FILE,
    Contents,
    Row,
    as_float16,
    features_of,
    read_contents,
    rows_of,
    with_shard,
    write_contents,
)
from vtd_jax.terminal import warn
from vtd_jax.video.lists.addresses import missing, named

# files of shards, of any number
_OURS = re.compile(r"\d{5,}\.(safetensors|json)")

# called with a video, and why it could not be read ("" if it was)
OnVideo = Callable[[str, str], None]


class _Known(NamedTuple):
    """A clip of the index: its shard, its place there, and what says that its file changed."""

    shard: int
    place: int
    size: int
    mtime: int

    def is_of(self, source: Source) -> bool:
        return (self.size, self.mtime) == (source.size, source.mtime)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a call of `build` did.

    Attributes:
      added: videos that are new in the index.
      changed: videos that had changed, and were encoded again.
      unchanged: videos that were in the index.
      missing: names of videos of the index that are no longer in the folders given; they stay.
      failed: (video, why) of those that could not be read.
      clips: in the index now.
    """

    added: int
    changed: int
    unchanged: int
    missing: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    clips: int


def build(
    folder: Path,
    given: Sequence[str],
    predictor: Predictor,
    *,
    source: str,
    settings: Mapping[str, Any],
    frames: int | None,
    how: How,
    restart: bool,
    drop_missing: bool = False,
    flag: str = "videos",
    on_plan: Callable[[int], None] = lambda count: None,
    on_video: OnVideo = lambda video, error: None,
) -> Summary:
    """Makes an index or adds to one, see `Index.build`.

    Args:
      folder: for the index.
      given: files, folders, globs and addresses of videos.
      predictor: the model.
      source: its name or path, for the manifest.
      settings: with which it was loaded.
      frames: T; None for that of the index, or the model's default.
      how: the videos are read and encoded.
      restart: whether to discard an existing index.
      drop_missing: whether videos that are no longer in the folders given leave the index.
      flag: what messages call `given`.
      on_plan: called with the number of videos to encode, before the first.
      on_video: called after each of them.
    """
    with consent.given(how.get("download")):
        sources = find_sources(given, flag)
    folders = tuple(utf8(os.path.join(os.path.abspath(one), "")) for one in given if isdir(one))
    Encoding(predictor.frames if frames is None else frames, **how)
    check_place(folder)
    with locked_outputs([("index", folder, True)]):
        before = None if restart else read_contents(folder)
        if before is None:
            _discard(folder)
            before = _empty(predictor, source, settings, frames)
            write_contents(folder, before)
        _check_same(folder, before, predictor, frames)
        return _Builder(folder, before, predictor, how, on_video).run(
            sources, folders, drop_missing, on_plan
        )


def check_place(folder: Path) -> None:
    """Refuses a folder in which there is something else than an index.

    Raises:
      UserError: it has other files, or is a file.
    """
    if not os.path.lexists(folder) or (folder / FILE).is_file():
        return
    try:
        # hidden files are locks, and parts of files whose writer was killed
        others = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give a folder for the index") from None
    if others:
        raise UserError(
            f"{folder}: has other files, such as {others[0]}, and no {FILE}: not an index; give a "
            "new or empty folder"
        )


def _discard(folder: Path) -> None:
    """Removes the files of an index; the manifest last, which says whose they are."""
    for name in os.listdir(folder) if (folder / FILE).is_file() else ():
        if _OURS.fullmatch(name):
            remove_tree(folder / name)
    remove_tree(folder / FILE)


def _empty(
    predictor: Predictor, source: str, settings: Mapping[str, Any], frames: int | None
) -> Contents:
    kept = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
    return Contents(
        encoder=encoder_fingerprint(predictor),
        frames=predictor.frames if frames is None else frames,
        width=predictor.model.clip.config.embed_dim,
        model=utf8(source) or "a model in memory",
        weights=predictor.weights,
        preprocess=predictor.fit.describe(predictor.size),
        settings=kept,
    )


def _check_same(folder: Path, contents: Contents, predictor: Predictor, frames: int | None) -> None:
    """Refuses another model or another number of frames than those of an index."""
    if frames not in (None, contents.frames):
        raise UserError(
            f"{folder}: has {contents.frames} frames of each video, not {frames}; leave out "
            f"{setting('frames', frames)}, give another folder, or discard it with "
            f"{setting('restart')}"
        )
    check_encoder(folder, contents, predictor)


class _Builder:
    """One call of `build`, with the lock of the folder held."""

    def __init__(
        self,
        folder: Path,
        contents: Contents,
        predictor: Predictor,
        how: How,
        on_video: OnVideo,
    ):
        self._folder, self._contents, self._predictor = folder, contents, predictor
        self._how, self._on_video = how, on_video
        self._clips: list[tuple[np.ndarray, Row]] = []
        # clips to be dropped with the next manifest, by shard
        self._dropped: dict[int, list[int]] = {}

    def run(
        self,
        sources: Sequence[Source],
        folders: tuple[str, ...],
        drop_missing: bool,
        on_plan: Callable[[int], None],
    ) -> Summary:
        """Encodes what is new or changed; what is gone from `folders` is missing."""
        known = self._known()
        present = {source.name for source in sources}
        missing = [name for name in known if name not in present and name.startswith(folders)]
        for name in missing if drop_missing else ():
            self._drop(known[name])
        todo = [
            source
            for source in sources
            if source.name not in known or not known[source.name].is_of(source)
        ]
        on_plan(len(todo))
        failed = self._encode(todo, known)
        bad = {video for video, _ in failed}
        done = [source.name for source in todo if named(source.video) not in bad]
        changed = sum(name in known for name in done)
        return Summary(
            added=len(done) - changed,
            changed=changed,
            unchanged=len(sources) - len(todo),
            missing=tuple(missing),
            failed=tuple(failed),
            clips=len(self._contents),
        )

    def _known(self) -> dict[str, _Known]:
        """Every clip by its name; damaged shards are dropped, with a warning."""
        known, roots = {}, self._contents.roots
        for number, shard in enumerate(self._contents.shards):
            if not (kept := shard.kept):
                continue
            try:
                features_of(self._folder, self._contents, number, check=True)
                rows = rows_of(self._folder, self._contents, number)
            except UserError as error:
                warn(f"{str(error).partition('; ')[0]}; its videos are encoded again")
                self._dropped[number] = kept
                continue
            for place in kept:
                row = rows[place]
                name = os.path.join(roots[row.root], row.path)
                known[name] = _Known(number, place, row.size, row.mtime)
        return known

    def _encode(self, todo: Sequence[Source], known: Mapping[str, _Known]) -> list[tuple[str, str]]:
        """Encodes videos and writes shards; returns those that could not be read."""
        failed = []
        videos = (source.video for source in todo)
        encoded = self._predictor.encode_videos(videos, frames=self._contents.frames, **self._how)
        try:
            for source, one in zip(todo, encoded):
                # what changed is no longer what the index says, whether it can be read or not
                if source.name in known and not missing(source.video):
                    self._drop(known[source.name])
                if isinstance(one, Failure):
                    failed.append((named(source.video), str(one.error)))
                else:
                    self._add(source, one)
                self._on_video(
                    named(source.video), failed[-1][1] if isinstance(one, Failure) else ""
                )
                if len(self._clips) == self._contents.clips_a_shard:
                    self._write()
        except UserError:
            self._write()
            raise
        except KeyboardInterrupt:
            self._write()
            count = len(self._contents)
            raise KeyboardInterrupt(
                f"{count} videos are in {self._folder}; the same command resumes"
            ) from None
        finally:
            getattr(encoded, "close", lambda: None)()
        self._write()
        return failed

    def _add(self, source: Source, encoded: Any) -> None:
        clip = encoded.clip
        row = Row(
            root=self._root(source.root),
            path=source.path,
            size=source.size,
            mtime=source.mtime,
            total=int(clip.total),
            duration=float(clip.duration),
            indices=np.asarray(clip.indices).tolist(),
            seconds=[max(0.0, float(second)) for second in clip.seconds],
            note=utf8(clip.note),
        )
        self._clips.append((as_float16(encoded.features, named(source.video)), row))

    def _root(self, root: str) -> int:
        if root not in self._contents.roots:
            roots = (*self._contents.roots, root)
            self._contents = dataclasses.replace(self._contents, roots=roots)
        return self._contents.roots.index(root)

    def _drop(self, known: _Known) -> None:
        self._dropped.setdefault(known.shard, []).append(known.place)

    def _write(self) -> None:
        """Writes what is encoded as a shard, and the manifest with what is dropped."""
        contents, shards = self._contents, list(self._contents.shards)
        if not self._clips and not self._dropped:
            return
        for number, places in self._dropped.items():
            dropped = sorted({*shards[number].dropped, *places})
            shards[number] = dataclasses.replace(shards[number], dropped=dropped)
        contents = dataclasses.replace(contents, shards=tuple(shards))
        if self._clips:
            features, rows = zip(*self._clips)
            contents = with_shard(self._folder, contents, np.stack(features), rows)
        write_contents(self._folder, contents)
        self._contents, self._clips, self._dropped = contents, [], {}
