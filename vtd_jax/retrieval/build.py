"""Makes an index, or adds videos to one; an interrupted call resumes at the last whole shard."""

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vtd_jax.console import consent
from vtd_jax.errors import UserError, setting
from vtd_jax.files import remove_tree
from vtd_jax.locks import locked_outputs
from vtd_jax.predict.batching.options import Encoding, How
from vtd_jax.predict.job import Failure
from vtd_jax.predict.predictor import Predictor
from vtd_jax.printable import utf8
from vtd_jax.retrieval.encoder import SETTINGS, check_encoder, check_source, encoder_fingerprint
from vtd_jax.retrieval.shard_files import (
    Damaged,
    as_float16,
    features_of,
    remove_others,
    row_of,
    rows_of,
)
from vtd_jax.retrieval.sources import Source, find_sources, is_gone, real_names
from vtd_jax.retrieval.store import FILE, Contents, check_room, read_contents, write_contents
from vtd_jax.retrieval.writer import Writer
from vtd_jax.terminal import counted, warn
from vtd_jax.untrusted.limits import MOST_FRAMES_OF_A_VIDEO
from vtd_jax.untrusted.regular_files import is_regular
from vtd_jax.video.lists.addresses import missing, named

# called with a video, and why it could not be read ("" if it was)
OnVideo = Callable[[str, str], None]


class _Known(NamedTuple):
    """A clip of the index: the number of its shard and its place there, and what says that its file
    changed.
    """

    clip: tuple[int, int]
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
      missing: names of videos of the index that are gone from the folders given; they stay unless
        `drop_missing` takes them out.
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
    if frames is not None and frames > MOST_FRAMES_OF_A_VIDEO:
        raise UserError(
            f"{setting('frames', frames)}: expected at most {MOST_FRAMES_OF_A_VIDEO:,} of a video"
        )
    may_be_empty = drop_missing and not restart and is_regular(folder / FILE)
    with consent.given(how.get("download")):
        sources = find_sources(given, flag, may_be_empty=may_be_empty)
    folders = [one for one in given if os.path.isdir(one)]
    Encoding.of(predictor.frames if frames is None else frames, None, how)
    check_place(folder)
    with locked_outputs([("index", folder, True)]):
        before = None if restart else read_contents(folder)
        if before is None:
            _discard(folder)
            before = _empty(predictor, source, settings, frames)
            write_contents(folder, before)
        check_frames(folder, before, frames)
        check_encoder(folder, before, predictor)
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
    if FILE in others:
        raise UserError(
            f"{folder / FILE}: no regular file, expected the manifest of an index; give a new or "
            "empty folder"
        )
    if others:
        raise UserError(
            f"{folder}: has other files, such as {others[0]}, and no {FILE}: not an index; give a "
            "new or empty folder"
        )


def _discard(folder: Path) -> None:
    """Removes the files of an index; the manifest last, which says whose they are."""
    if (folder / FILE).is_file():
        remove_others(folder, None)
    remove_tree(folder / FILE)


def _empty(
    predictor: Predictor, source: str, settings: Mapping[str, Any], frames: int | None
) -> Contents:
    kept = {name: settings[name] for name in SETTINGS if settings.get(name) is not None}
    return Contents(
        encoder=encoder_fingerprint(predictor.model),
        frames=predictor.frames if frames is None else frames,
        width=predictor.model.clip.config.embed_dim,
        model=utf8(source) or "a model in memory",
        weights=predictor.weights,
        preprocess=predictor.fit.describe(predictor.size),
        settings=kept,
    )


def check_before_loading(
    folder: Path, source: Any, settings: Mapping[str, Any], frames: int | None
) -> None:
    """Refuses what an existing index cannot be added to, before a model is loaded.

    Args:
      folder: of the index, which need not exist.
      source, settings: of the model, see `check_source`.
      frames: as for `build`.

    Raises:
      UserError: the folder has something else, or the index another model or number of frames.
    """
    check_place(folder)
    contents = read_contents(folder)
    if contents is not None:
        check_frames(folder, contents, frames)
        check_source(folder, contents, source, settings)


def check_frames(folder: Path, contents: Contents, frames: int | None) -> None:
    """Refuses another number of frames than that of an index.

    Raises:
      UserError: says both, and what to do.
    """
    if frames not in (None, contents.frames):
        raise UserError(
            f"{folder}: has {contents.frames} frames of each video, not {frames}; leave out "
            f"{setting('frames', frames)}, give another folder, or discard it with "
            f"{setting('restart')}"
        )


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
        self._folder, self._writer = folder, Writer(folder, contents)
        self._predictor, self._how, self._on_video = predictor, how, on_video

    def run(
        self,
        sources: Sequence[Source],
        folders: Sequence[str],
        drop_missing: bool,
        on_plan: Callable[[int], None],
    ) -> Summary:
        """Encodes what is new or changed; what is gone from `folders` is missing."""
        known = self._known()
        # what was indexed by another spelling of its path is known, too
        spelled = {real: name for name, real in real_names(known).items()}
        reals = real_names(source.name for source in sources)
        names = [
            source.name if source.name in known else spelled.get(reals[source.name], source.name)
            for source in sources
        ]
        missing = self._missing(known.keys() - names, folders)
        for name in missing if drop_missing else ():
            self._writer.drop(*known[name].clip)
        todo = [
            (source, known.get(name))
            for source, name in zip(sources, names)
            if name not in known or not known[name].is_of(source)
        ]
        check_room(self._folder, self._writer.contents, len(todo))
        on_plan(len(todo))
        failed = self._encode(todo)
        bad = {video for video, _ in failed}
        done = [before for source, before in todo if named(source.video) not in bad]
        changed = sum(before is not None for before in done)
        return Summary(
            added=len(done) - changed,
            changed=changed,
            unchanged=len(sources) - len(todo),
            missing=tuple(missing),
            failed=tuple(failed),
            clips=len(self._writer.contents),
        )

    def _known(self) -> dict[str, _Known]:
        """Every clip by its name; damaged shards are dropped, with a warning."""
        known: dict[str, _Known] = {}
        contents = self._writer.contents
        for place, shard in enumerate(contents.shards):
            if not (kept := shard.kept):
                continue
            try:
                features_of(self._folder, contents, place, check=True)
                rows = rows_of(self._folder, contents, place)
            except Damaged as error:
                warn(
                    f"{str(error).partition('; ')[0]}; {counted(len(kept), 'video')} of it leave "
                    "the index, and those of the folders given are encoded again"
                )
                for clip in kept:
                    self._writer.drop(shard.number, clip)
                continue
            for clip in kept:
                row = rows[clip]
                name = os.path.join(contents.roots[row.root], row.path)
                if name in known:
                    # an interruption may leave one twice
                    self._writer.drop(*known[name].clip)
                known[name] = _Known((shard.number, clip), row.size, row.mtime)
        return known

    def _missing(self, unseen: Collection[str], folders: Sequence[str]) -> list[str]:
        """The clips below `folders` whose files are gone."""
        roots = tuple(utf8(os.path.join(os.path.realpath(one), "")) for one in folders)
        reals = real_names(unseen)
        return sorted(name for name in unseen if reals[name].startswith(roots) and is_gone(name))

    def _encode(self, todo: Sequence[tuple[Source, _Known | None]]) -> list[tuple[str, str]]:
        """Encodes videos and writes shards; returns those that could not be read."""
        failed = []
        writer, leaving = self._writer, defaultdict[int, set[int]](set)
        for _, before in todo:
            if before is not None:
                leaving[before.clip[0]].add(before.clip[1])
        writer.leaving = leaving
        videos = (source.video for source, _ in todo)
        encoded = self._predictor.encode_videos(videos, frames=writer.contents.frames, **self._how)
        try:
            for (source, before), one in zip(todo, encoded):
                # what changed is no longer what the index says, whether it can be read or not
                if before is not None and not missing(source.video):
                    writer.drop(*before.clip)
                if isinstance(one, Failure):
                    failed.append((named(source.video), str(one.error)))
                else:
                    features = as_float16(one.features, named(source.video))
                    writer.add(features, row_of(source, one.clip, writer.root(source.root)))
                self._on_video(
                    named(source.video), failed[-1][1] if isinstance(one, Failure) else ""
                )
            # all that should leave has left
            writer.leaving = {}
            writer.compact()
        except UserError:
            writer.write()
            raise
        except KeyboardInterrupt:
            writer.write()
            count = len(writer.contents)
            raise KeyboardInterrupt(
                f"{count} videos are in {self._folder}; the same command resumes"
            ) from None
        finally:
            getattr(encoded, "close", lambda: None)()
        writer.write()
        return failed
