"""The videos that a call is given: paths, folders, globs, addresses, arrays, iterators of them."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np

from vtd_jax.console.consent import given
from vtd_jax.errors import UserError
from vtd_jax.fields import check_path
from vtd_jax.video.lists.addresses import is_address
from vtd_jax.video.lists.find import find_videos
from vtd_jax.video.lists.remote import fetched, holds_one

Video = str | os.PathLike | np.ndarray
_EXPECTED = (
    "a path, uint8 frames [N, height, width, 3], or a list of these; or a folder, a glob or an "
    "iterator"
)


def as_videos(videos: Any, download: bool | None = None) -> tuple[Iterable[Video], bool]:
    """The videos of an argument that may be one or several; the flag is True for one.

    A folder stands for all videos in it, a text with `*`, `?` or `[` that is no file's name for the
    files that it matches. Addresses (`https://…`, `gs://…`) are copied first, see
    `lists.remote.fetched`; one that cannot be copied raises when it is read. What is not a list is
    taken as an iterator, whose videos are checked as they are drawn.

    Args:
      videos: one or several.
      download: whether videos at addresses may be copied, see `consent.given`.

    Raises:
      UserError: anything else, a folder or glob without videos, or no consent to copy.
    """
    if is_address(videos):
        with given(download):
            [copies] = fetched([videos])
        return copies, holds_one(videos, copies)
    if isinstance(videos, str | os.PathLike):
        text = check_path("video", videos, _EXPECTED)
        is_glob = any(sign in text for sign in "*?[") and not os.path.exists(text)
        if is_glob or os.path.isdir(text):
            return find_videos([text], "video"), False
        return [videos], True
    if isinstance(videos, np.ndarray) and videos.ndim == 4:
        return [videos], True
    # a set has no order, a mapping is no list of its keys, and a file one of its lines
    others = np.ndarray | bytes | bytearray | Set | Mapping | io.IOBase
    if isinstance(videos, others) or not isinstance(videos, Iterable) or _is_array(videos):
        raise UserError(f"video: {described(videos)}, expected {_EXPECTED}")
    if not isinstance(videos, Sequence):
        return (local(_checked(video), download) for video in videos), False
    addresses = [video for video in map(_checked, videos) if is_address(video)]
    # one question for all of them
    with given(download):
        copies = dict(zip(addresses, fetched(addresses, files_only=True)))
    return [copies[video][0] if is_address(video) else video for video in videos], False


def local(video: Video, download: bool | None = None) -> Video:
    """A video of this machine: of an address its copy, see `as_videos`."""
    if not is_address(video):
        return video
    # a generator may call this: the answer holds for this video only, not where it is drawn
    with given(download):
        [[copy]] = fetched([video], files_only=True)
    return copy


def described(value: Any) -> str:
    """What was given in the place of videos, for a message."""
    name = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)}"
    if _is_array(value):
        return f"an array {list(value.shape)} that is not NumPy's (np.asarray makes it one)"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _checked(video: Any) -> Video:
    if isinstance(video, str | os.PathLike):
        check_path("video", video, "the paths of files in the list")
    elif not isinstance(video, np.ndarray):
        raise UserError(
            f"video: {described(video)} in the list, expected paths or arrays of frames"
        )
    return video


def _is_array(videos: Any) -> bool:
    """Whether this is an array or table of another library, whose rows are no videos.

    A column of paths, as pandas has them, is none.
    """
    shape, dtype = getattr(videos, "shape", None), getattr(videos, "dtype", None)
    if not isinstance(shape, Sized):
        return False
    return len(shape) != 1 or getattr(dtype, "kind", "") not in ("O", "U", "T")
