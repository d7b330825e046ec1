"""Scores of every video on disk, so that any table can be computed again without a GPU."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vtd_jax.errors import UserError
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.files import replacing

SUFFIX = "_scores.npz"
# what NumPy and zipfile raise for files that are damaged, cut short or something else
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def save_scores(path: str | Path, results: Mapping[str, SplitResult]) -> Path:
    """Writes a `.npz` whole or not at all; plain arrays, nothing pickled.

    It has `SPLIT/scores` (float32 `[N, K]`), `SPLIT/labels` (int32 `[N]`), `SPLIT/class_names` (`[K]`) and, where they
    are known, `SPLIT/videos` (`[N]`, file names) and `SPLIT/tied` (bool `[N]`), videos in the records' order.
    """
    arrays = {}
    for split, result in results.items():
        arrays[f"{split}/scores"], arrays[f"{split}/labels"] = result.scores, result.labels
        arrays[f"{split}/class_names"] = np.asarray(result.class_names, np.str_)
        if result.videos:
            arrays[f"{split}/videos"] = np.asarray(result.videos, np.str_)
        if result.tied is not None:
            arrays[f"{split}/tied"] = result.tied
    with replacing(Path(path)) as part:
        np.savez_compressed(part, **arrays)
    return Path(path)


def read_scores(path: str | Path) -> dict[str, SplitResult]:
    """Reads what `save_scores` wrote: split -> result, in the order of writing; older files lack `videos` or `tied`.

    Raises:
      UserError: no such file, damaged, or another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected the scores that an evaluation leaves, NAME{SUFFIX}")
    try:
        # NumPy leaves a damaged file open that it opened itself
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with file:
                arrays = {key: file[key] for key in file.files}
        splits = list(dict.fromkeys(key.rpartition("/")[0] for key in arrays))
        if not splits:
            raise ValueError("no splits in it")
        return {split: _checked(split, arrays) for split in splits}
    except _DAMAGE as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{path}: not the scores of an evaluation, or damaged ({told}); evaluate again with experiments.evaluate"
        ) from None


def _checked(split: str, arrays: Mapping[str, np.ndarray]) -> SplitResult:
    """One split of a file; ValueError or KeyError where its arrays do not belong together."""
    scores, labels, names = (arrays[f"{split}/{key}"] for key in ("scores", "labels", "class_names"))
    videos, tied = arrays.get(f"{split}/videos"), arrays.get(f"{split}/tied")
    if scores.dtype.kind != "f" or scores.ndim != 2 or labels.dtype.kind not in "iu" or names.dtype.kind != "U":
        raise ValueError(f"{split}: scores {scores.dtype} {scores.shape}, labels {labels.dtype}, names {names.dtype}")
    count, classes = scores.shape
    if not count or labels.shape != (count,) or names.shape != (classes,):
        raise ValueError(f"{split}: scores {scores.shape}, labels {labels.shape}, class names {names.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{split}: labels {labels.min()} to {labels.max()} for {classes} classes")
    if videos is not None and (videos.shape != (count,) or videos.dtype.kind != "U"):
        raise ValueError(f"{split}: {count} videos, names {videos.dtype} {videos.shape}")
    if tied is not None and (tied.shape != (count,) or tied.dtype != bool):
        raise ValueError(f"{split}: {count} videos, ties {tied.dtype} {tied.shape}")
    return SplitResult(
        tuple(names.tolist()),
        scores.astype(np.float32),
        labels.astype(np.int32),
        () if videos is None else tuple(videos.tolist()),
        tied,
    )


def match(runs: Mapping[str, Mapping[str, SplitResult]], common: bool = False) -> list[dict[str, SplitResult]]:
    """The runs' results on the same videos, in the first run's order.

    Args:
      runs: what messages call a run -> its results.
      common: keep the splits and videos that all runs have, instead of refusing runs that differ.

    Returns:
      One mapping a run, in the order of `runs`; the same splits, rows and labels in all.

    Raises:
      UserError: naming the first split and video in which two runs differ, or nothing is common.
    """
    (first, reference), *others = runs.items()
    splits = list(reference)
    for name, results in others:
        lacking = [split for split in (*splits, *results) if (split in results) != (split in splits)]
        if lacking and not common:
            holder, without = (first, name) if lacking[0] in splits else (name, first)
            raise UserError(f"split {lacking[0]}: in {holder}, not in {without}; compare what both have with --common")
        splits = [split for split in splits if split in results]
    if not splits:
        raise UserError(f"{first} and {others[0][0]}: no split in common; they have {', '.join(reference)} and others")
    matched = {split: _match_split(split, {name: runs[name][split] for name in runs}, common) for split in splits}
    return [{split: matched[split][place] for split in splits} for place in range(len(runs))]


def _match_split(split: str, runs: Mapping[str, SplitResult], common: bool) -> list[SplitResult]:
    (first, reference), *others = runs.items()
    kept = list(reference.videos)
    for name, result in others:
        if len(result.class_names) != len(reference.class_names):
            counts = f"{len(reference.class_names)} classes in {first}, {len(result.class_names)} in {name}"
            raise UserError(f"split {split}: {counts}; only accuracies among the same classes can be compared")
        if not (result.videos and reference.videos):
            _check_nameless(split, first, name, reference, result, common)
            continue
        held, known = set(result.videos), set(reference.videos)
        if held != known and not common:
            video = next((each for each in reference.videos if each not in held), None)
            holder, without = (first, name) if video else (name, first)
            video = video or next(each for each in result.videos if each not in known)
            raise UserError(f"split {split}: {video} is in {holder}, not in {without}; --common compares the others")
        kept = [video for video in kept if video in held]
    if reference.videos and not kept:
        raise UserError(f"split {split}: no video in common")
    named = all(result.videos for result in runs.values())
    rows = [_rows(result, kept) if named else result for result in runs.values()]
    for name, result in list(zip(runs, rows))[1:]:
        if (wrong := np.flatnonzero(result.labels != rows[0].labels)).size:
            video, one, two = wrong[0], rows[0], result
            labels = [each.class_names[each.labels[video]] for each in (one, two)]
            what = one.videos[video] if one.videos else f"video {video}"
            raise UserError(f"split {split}: {what} is {labels[0]!r} in {first} and {labels[1]!r} in {name}")
    return rows


def _check_nameless(
    split: str, first: str, name: str, reference: SplitResult, result: SplitResult, common: bool
) -> None:
    """Older scores do not name their videos: they can only be matched by place."""
    nameless = name if reference.videos else first
    if common or result.count != reference.count:
        counts = f"{reference.count} videos in {first}, {result.count} in {name}"
        raise UserError(f"split {split}: {counts}, and {nameless} does not name them; evaluate it again")


def _rows(result: SplitResult, videos: Sequence[str]) -> SplitResult:
    """The rows of some videos, in that order."""
    if result.videos == tuple(videos):
        return result
    places = {video: place for place, video in enumerate(result.videos)}
    order = np.asarray([places[video] for video in videos], np.int64)
    tied = None if result.tied is None else result.tied[order]
    return replace(result, scores=result.scores[order], labels=result.labels[order], videos=tuple(videos), tied=tied)
