"""Scores of every video on disk: any table can be computed again without a GPU."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vtd_jax.errors import UserError, function, setting
from vtd_jax.evaluate.metrics import SplitResult
from vtd_jax.files import replacing
from vtd_jax.fingerprints import fingerprint_all
from vtd_jax.finite import finite_rows
from vtd_jax.untrusted.arrays import read_npz
from vtd_jax.untrusted.limits import SCORE_SPLITS, SCORE_VIDEOS

SUFFIX = "_scores.npz"
# arrays of a split in a file; the first three are required
_PARTS = ("scores", "labels", "class_names", "videos", "tied")


def save_scores(path: str | Path, results: Mapping[str, SplitResult]) -> Path:
    """Writes a `.npz` of plain arrays, whole or not at all.

    It has `SPLIT/scores` (float32 `[N, K]`), `SPLIT/labels` (int32 `[N]`), `SPLIT/class_names`
    (`[K]`) and, if known, `SPLIT/videos` (`[N]`, file names) and `SPLIT/tied` (bool `[N]`), in the
    order of the records.
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
    """Reads a file of `save_scores`: split -> result, in its order; older files lack `videos` or
    `tied`.

    Raises:
      UserError: the file is missing, damaged, of another kind, or has scores that are NaN or
        infinite.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file, expected the scores of an evaluation, NAME{SUFFIX}")
    try:
        arrays = read_npz(path, "file of scores")
        splits = dict.fromkeys(key.rpartition("/")[0] for key in arrays)
        if not splits:
            raise UserError(f"{path}: no splits in it")
        if len(splits) > SCORE_SPLITS:
            raise UserError(
                f"{path}: {len(splits):,} splits in it, expected at most {SCORE_SPLITS}"
            )
        videos = sum(
            array.shape[0]
            for key, array in arrays.items()
            if key.endswith("/scores") and array.ndim
        )
        if videos > SCORE_VIDEOS:
            raise UserError(
                f"{path}: {videos:,} videos in its splits, expected at most {SCORE_VIDEOS:,}"
            )
        return {split: _checked(f"{path}: {split}", split, arrays) for split in splits}
    except UserError as error:
        raise UserError(f"{error}; evaluate again with {function('evaluate')}") from None


def check_finite(results: Mapping[str, SplitResult], what: str = "") -> None:
    """Refuses scores that are NaN or infinite: their accuracy would mean nothing.

    Args:
      results: split -> result.
      what: start of the message, such as a file.

    Raises:
      UserError: a score is not finite; says in which split, and of how many videos.
    """
    for split, result in results.items():
        if lost := int((~finite_rows(result.scores)).sum()):
            raise UserError(
                f"{what}split {split}: scores of {lost} of {result.count} videos are NaN or "
                f"infinite: no table; evaluate with {setting('clip.dtype', 'float32')}, "
                f"or another checkpoint, as {setting('checkpoint', 'best')}"
            )


def digest(results: Mapping[str, SplitResult]) -> str:
    """The fingerprint of all that `save_scores` writes; of the arrays, not of the file."""

    def parts() -> Iterator[bytes | str]:
        for split, result in results.items():
            for text in (split, *result.class_names, "", *result.videos):
                yield f"{text}\0"
            yield np.ascontiguousarray(result.scores, np.float32).tobytes()
            yield np.ascontiguousarray(result.labels, np.int32).tobytes()
            yield b"" if result.tied is None else np.ascontiguousarray(result.tied, bool).tobytes()

    return fingerprint_all(parts())


def _checked(where: str, split: str, arrays: Mapping[str, np.ndarray]) -> SplitResult:
    """One split of a file; refuses arrays that do not fit each other."""
    parts = {
        key.rpartition("/")[2]: array
        for key, array in arrays.items()
        if key.rpartition("/")[0] == split
    }
    if lacking := [key for key in _PARTS[:3] if key not in parts]:
        raise UserError(f"{where}: no {', '.join(lacking)}")
    if surplus := sorted(parts.keys() - set(_PARTS)):
        raise UserError(f"{where}: unknown {', '.join(surplus)}")
    scores, labels, names = (parts[key] for key in _PARTS[:3])
    videos, tied = parts.get("videos"), parts.get("tied")
    kinds = scores.dtype.kind == "f" and labels.dtype.kind in "iu" and names.dtype.kind == "U"
    if not kinds or scores.ndim != 2:
        raise UserError(
            f"{where}: scores {scores.dtype} {scores.shape}, labels {labels.dtype}, names "
            f"{names.dtype}"
        )
    count, classes = scores.shape
    if not count or not classes or labels.shape != (count,) or names.shape != (classes,):
        raise UserError(
            f"{where}: scores {scores.shape}, labels {labels.shape}, class names {names.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{where}: labels {labels.min()} to {labels.max()} for {classes} classes")
    if videos is not None and (videos.shape != (count,) or videos.dtype.kind != "U"):
        raise UserError(f"{where}: {count} videos, names {videos.dtype} {videos.shape}")
    if tied is not None and (tied.shape != (count,) or tied.dtype != bool):
        raise UserError(f"{where}: {count} videos, ties {tied.dtype} {tied.shape}")
    for what, values in (("class", names), ("video", () if videos is None else videos)):
        if len(set(values)) < len(values):
            raise UserError(f"{where}: a {what} is named twice")
    # a float64 beyond the range of float32 becomes infinite, and is refused below
    with np.errstate(over="ignore"):
        scores = scores.astype(np.float32)
    if lost := int((~finite_rows(scores)).sum()):
        raise UserError(f"{where}: scores of {lost} of {count} videos are NaN or infinite")
    return SplitResult(
        tuple(names.tolist()),
        scores,
        labels.astype(np.int32),
        () if videos is None else tuple(videos.tolist()),
        tied,
    )


def match(
    runs: Mapping[str, Mapping[str, SplitResult]], common: bool = False
) -> list[dict[str, SplitResult]]:
    """The runs' results on the same videos, in the first run's order.

    Args:
      runs: name of a run in messages -> its results.
      common: keep the splits and videos that all runs have; else runs that differ are refused.

    Returns:
      One mapping a run, in the order of `runs`; the same splits, rows and labels in all.

    Raises:
      UserError: two runs differ (names the first split and video), or have nothing in common.
    """
    (first, reference), *others = runs.items()
    splits = list(reference)
    for name, results in others:
        lacking = [
            split for split in (*splits, *results) if (split in results) != (split in splits)
        ]
        if lacking and not common:
            holder, without = (first, name) if lacking[0] in splits else (name, first)
            raise UserError(
                f"split {lacking[0]}: in {holder}, not in {without}; compare what both have with "
                f"{setting('common')}"
            )
        splits = [split for split in splits if split in results]
    if not splits:
        raise UserError(
            f"{first} and {others[0][0]}: no split in common; they have {', '.join(reference)} "
            "and others"
        )
    matched = {
        split: _match_split(split, {name: runs[name][split] for name in runs}, common)
        for split in splits
    }
    return [{split: matched[split][place] for split in splits} for place in range(len(runs))]


def _match_split(split: str, runs: Mapping[str, SplitResult], common: bool) -> list[SplitResult]:
    (first, reference), *others = runs.items()
    kept = list(reference.videos)
    for name, result in others:
        if len(result.class_names) != len(reference.class_names):
            raise UserError(
                f"split {split}: {len(reference.class_names)} classes in {first}, "
                f"{len(result.class_names)} in {name}; only accuracies among the same classes can "
                "be compared"
            )
        if not (result.videos and reference.videos):
            _check_nameless(split, first, name, reference, result, common)
            continue
        held, known = set(result.videos), set(reference.videos)
        if held != known and not common:
            video = next((each for each in reference.videos if each not in held), None)
            holder, without = (first, name) if video else (name, first)
            video = video or next(each for each in result.videos if each not in known)
            raise UserError(
                f"split {split}: {video} is in {holder}, not in {without}; "
                f"{setting('common')} compares the others"
            )
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
            raise UserError(
                f"split {split}: {what} is {labels[0]!r} in {first} and {labels[1]!r} in {name}"
            )
    return rows


def _check_nameless(
    split: str, first: str, name: str, reference: SplitResult, result: SplitResult, common: bool
) -> None:
    """Checks older scores without names of videos: they can only be matched by position."""
    nameless = name if reference.videos else first
    if common or result.count != reference.count:
        counts = f"{reference.count} videos in {first}, {result.count} in {name}"
        raise UserError(
            f"split {split}: {counts}, and {nameless} does not name them; evaluate it again"
        )


def _rows(result: SplitResult, videos: Sequence[str]) -> SplitResult:
    """The rows of these videos, in their order."""
    if result.videos == tuple(videos):
        return result
    places = {video: place for place, video in enumerate(result.videos)}
    order = np.asarray([places[video] for video in videos], np.int64)
    tied = None if result.tied is None else result.tied[order]
    scores, labels = result.scores[order], result.labels[order]
    return replace(result, scores=scores, labels=labels, videos=tuple(videos), tied=tied)
