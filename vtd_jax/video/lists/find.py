"""From files, folders and globs to videos."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import likely
from vtd_jax.texts import quoted_pair
from vtd_jax.video.lists.addresses import is_address, missing
from vtd_jax.video.lists.remote import fetched
from vtd_jax.video.suffixes import SUFFIXES, is_video


def find_videos(sources: Sequence[str], flag: str = "sources") -> list[Path]:
    """All videos of the sources, each once, by source and then by name.

    Args:
      sources: a file, whatever its name; a folder, for all videos at any depth, by their
        endings; or a glob, `clips/*.mp4` or `clips/**/*.avi`, whose matches are taken
        likewise. Addresses (`https://…`, `gs://…`) are copied first, see `remote.fetched`.
      flag: what messages call `sources`, such as "--video".

    Returns:
      Paths; of an address that cannot be copied one without a file, see `addresses.missing`.

    Raises:
      UserError: nothing given, nothing there, or a folder or glob without videos; or there are
        only addresses, and none of them can be copied.
    """
    return [video for video, _ in find_by_source(sources, flag)]


def find_by_source(
    sources: Sequence[str], flag: str = "sources", *, may_be_empty: bool = False
) -> list[tuple[Path, str]]:
    """As `find_videos`, each video with the first source that has it; walks each folder once.

    Args:
      sources, flag: as for `find_videos`.
      may_be_empty: whether folders may have no videos; they must exist.
    """
    if not sources:
        raise UserError(
            f"{flag}: none given, expected a video file, a folder of videos, or a glob such as "
            "'clips/*.mp4'"
        )
    addresses = [source for source in sources if is_address(source)]
    copies = dict(zip(addresses, fetched(addresses)))
    found: dict[Path, tuple[Path, str]] = {}
    for source in sources:
        for video in copies[source] if source in copies else _videos(source, flag, may_be_empty):
            # one file by two spellings of its path is one video; the first spelling stays
            found.setdefault(Path(os.path.realpath(video.parent), video.name), (video, source))
    videos = list(found.values())
    lacking = [video for video, _ in videos if missing(video)]
    if lacking and len(lacking) == len(videos):
        more = f" (the first of {len(videos)} that cannot be copied)" if len(videos) > 1 else ""
        raise UserError(missing(lacking[0]) + more)
    return videos


def _videos(source: str, flag: str, may_be_empty: bool) -> list[Path]:
    if not source:
        # an unset shell variable would otherwise mean the current folder
        raise UserError(f"{flag}=: is empty, expected a file, a folder or a glob")
    path = Path(source)
    if os.path.isdir(path):
        return videos_in(path) if may_be_empty else _in_folder(path, f"{flag}={source}")
    if os.path.exists(path):
        return [path]
    # after `exists`: a file may be called [1].mp4
    if not any(sign in source for sign in "*?["):
        hint = ""
        if meant := likely(path):
            hint = f"; was {quoted_pair(str(path), str(meant))[1]} meant, which is there?"
        raise UserError(f"{flag}={source}: no such file or folder{hint}")
    videos: dict[Path, None] = {}
    for match in sorted(map(Path, glob.glob(source, recursive=True))):
        if match.is_dir():
            videos.update(dict.fromkeys(videos_in(match)))
        elif is_video(match) or "**" not in source:
            videos[match] = None
    if not videos:
        raise UserError(f"{flag}={source}: no video matches")
    return list(videos)


def _in_folder(folder: Path, where: str) -> list[Path]:
    videos = videos_in(folder)
    if not videos:
        raise UserError(
            f"{where}: no videos in this folder, expected files that end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return videos


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder and those below, by path; none for what is no folder.

    Hidden files are left out, and folders that cannot be read.
    """
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and is_video(name)
    )
