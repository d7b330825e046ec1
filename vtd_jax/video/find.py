"""From files, folders and globs to videos."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.video.locate import SUFFIXES


def find_videos(sources: Sequence[str], flag: str = "--video") -> list[Path]:
    """All videos that are meant, each once, in the order of the sources and within one by name.

    Args:
      sources: a file, whatever its name; a folder, of which all videos are taken however deep, by their endings; or a
        glob, `clips/*.mp4` or `clips/**/*.avi`, whose matches are taken likewise.
      flag: what messages call the option.

    Raises:
      UserError: nothing given, nothing there, or a folder or glob without videos.
    """
    if not sources:
        raise UserError(
            f"{flag}: none given, expected a video file, a folder of videos, or a glob such as 'clips/*.mp4'"
        )
    found: dict[Path, None] = {}
    for source in sources:
        found.update(dict.fromkeys(_videos(source, flag)))
    return list(found)


def _videos(source: str, flag: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, f"{flag}={source}")
    if path.exists():
        return [path]
    # after `exists`: a file may be called [1].mp4
    if not any(sign in source for sign in "*?["):
        raise UserError(f"{flag}={source}: no such file or folder")
    videos: dict[Path, None] = {}
    for match in sorted(map(Path, glob.glob(source, recursive=True))):
        if match.is_dir():
            videos.update(dict.fromkeys(_walk(match)))
        elif _is_video(match) or "**" not in source:
            videos[match] = None
    if not videos:
        raise UserError(f"{flag}={source}: no video matches")
    return list(videos)


def _in_folder(folder: Path, told: str) -> list[Path]:
    videos = _walk(folder)
    if not videos:
        raise UserError(f"{told}: no videos in this folder, expected files that end in {', '.join(sorted(SUFFIXES))}")
    return videos


def _walk(folder: Path) -> list[Path]:
    """The videos of a folder and those below, by path; hidden files are left out."""
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and _is_video(Path(name))
    )


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
