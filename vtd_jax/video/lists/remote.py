"""Videos at addresses (`https://…`), copied into our cache folder once the user agrees."""

import contextlib
import json
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard
from urllib.parse import unquote, urlsplit

from vtd_jax.console.consent import amount, ask, check_possible, is_possible
from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder, make_folders, replacing, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.installed.stores import explained, scheme_of
from vtd_jax.printable import brief, listed
from vtd_jax.terminal import counted, log
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import REMOTE_BYTES, REMOTE_VIDEOS
from vtd_jax.video.suffixes import is_video

SERVERS = ("http", "https")
STORES = ("gs", "gcs", "s3", "az", "abfs", "memory")
_BLOCK = 2**20
# seconds without a byte after which a server counts as gone
_SILENCE = 60.0


class _Video(NamedTuple):
    """A video at an address.

    Attributes:
      address: of the file.
      size: bytes; None if the server does not say.
    """

    address: str
    size: int | None


def is_address(source: Any) -> TypeGuard[str]:
    """Whether this is an address of a server or store; a path of this machine is none."""
    return isinstance(source, str) and bool(scheme_of(source))


def fetched(addresses: Sequence[str], *, files_only: bool = False) -> list[list[Path]]:
    """Copies of the videos at addresses; of each address its videos, by name.

    A file that was copied before is taken as it is, without a request. Folders and globs of stores
    are listed again, or taken as they were listed last where no request is allowed. What is missing
    is copied after one question, which says how much it is.

    Args:
      addresses: each a file; in a store also a folder, for all videos at any depth, or a glob.
      files_only: whether to refuse folders and globs, before anything is copied.

    Returns:
      Of each address a list of paths; of a file's address the one that `fetched_file` returns.

    Raises:
      UserError: nothing is there, it cannot be read, or it may not be copied.
    """
    found = [_listed(address) for address in addresses]
    for address, videos in zip(addresses, found):
        if files_only and [video.address for video in videos] != [address]:
            count = counted(len(videos), "video")
            raise UserError(f"{_named(address)}: {count}, expected one file")
    lacking = {
        video.address: video
        for videos in found
        for video in videos
        if not _place(video.address).is_file()
    }
    if lacking:
        _copy(list(lacking.values()))
    return [[_place(video.address) for video in videos] for videos in found]


def holds_one(address: str, copies: Sequence[Path]) -> bool:
    """Whether what was `fetched` is the one file at an address, and not of a folder or glob."""
    return list(copies) == [_place(address)]


def fetched_file(address: str) -> Path:
    """The copy of the one file at an address, see `fetched`.

    Raises:
      UserError: also for a folder or a glob.
    """
    [[found]] = fetched([address], files_only=True)
    return found


def _listed(address: str) -> list[_Video]:
    """The videos of an address."""
    scheme = scheme_of(address)
    if scheme not in SERVERS + STORES or "::" in address:
        known = ", ".join(f"{name}://" for name in SERVERS + STORES if name != "memory")
        raise UserError(f"{_named(address)}: expected a path, or an address that begins {known}")
    if _place(address).is_file():
        return [_Video(address, None)]
    note = _note_of(address)
    if note.is_file() and not is_possible():
        log(f"{_named(address)}: the videos that were listed last, without asking again")
        return [_Video(name, None) for name in read_json(note, list[str])]
    check_possible(_public(address), f"it into {_copies()}")
    with explained(_public(address)):
        if scheme in SERVERS:
            return [_of_server(address)]
        videos = _of_store(address)
    if videos != [_Video(address, videos[0].size)]:
        with contextlib.suppress(OSError):
            make_folders(note.parent)
            write_text(note, json.dumps([video.address for video in videos]))
    return videos


def _of_server(address: str) -> _Video:
    if urlsplit(address).path.endswith(("/", "*")) or not urlsplit(address).path:
        raise UserError(f"{_named(address)}: expected the address of a file: servers list none")
    found = _system(address).info(address)
    return _Video(address, found.get("size"))


def _of_store(address: str) -> list[_Video]:
    """A file, or the videos of a folder or glob."""
    system, scheme = _system(address), scheme_of(address)
    path = system._strip_protocol(address)
    if any(sign in path for sign in "*?["):
        found = system.glob(path, detail=True)
    else:
        one = system.info(path)
        if one["type"] != "directory":
            return [_Video(address, one.get("size"))]
        found = system.find(path, detail=True)
    videos = [
        _Video(f"{scheme}://{name.lstrip('/')}", about.get("size"))
        for name, about in sorted(found.items())
        if about["type"] != "directory" and is_video(name)
    ]
    if not videos:
        raise UserError(f"{_named(address)}: no videos there")
    if len(videos) > REMOTE_VIDEOS:
        raise UserError(
            f"{_named(address)}: {len(videos):,} videos, expected at most {REMOTE_VIDEOS:,}; copy "
            "them with the store's own tools, and give the folder"
        )
    return videos


def _system(address: str) -> Any:
    """The file system of an address, without what fsspec keeps of listings."""
    import fsspec

    scheme, options = scheme_of(address), {}
    if scheme in SERVERS:
        import aiohttp

        # by default aiohttp ends a copy after five minutes
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
        options = {"client_kwargs": {"timeout": timeout}, "block_size": 0}
    return fsspec.filesystem(scheme, use_listings_cache=False, **options)


def _copy(videos: Sequence[_Video]) -> None:
    """Copies videos, each whole or not at all, after one question about all of them."""
    # rich, which only a copy needs
    from vtd_jax.console.progress import Progress

    sizes = [video.size for video in videos]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    first = _public(videos[0].address)
    what = first if len(videos) == 1 else f"{counted(len(videos), 'video')} ({first}, …)"
    hosts = dict.fromkeys(urlsplit(_public(video.address)).netloc for video in videos)
    ask(what, total, listed(list(hosts)), _copies())
    form = "{:.1f} MB".format
    with Progress("copying videos", (total or 0) / 1e6, form=form) as progress:
        for video in videos:
            place = _place(video.address)
            with explained(_public(video.address)):
                make_folders(place.parent)
                with replacing(place) as temporary, temporary.open("wb") as out:
                    for block in _blocks(video):
                        out.write(block)
                        progress.update(progress.done + len(block) / 1e6)


def _blocks(video: _Video) -> Iterable[bytes]:
    """The content; not more than was said, and not less."""
    most, read = REMOTE_BYTES if video.size is None else video.size, 0
    with _system(video.address).open(video.address, "rb", cache_type="none") as source:
        while block := source.read(_BLOCK):
            read += len(block)
            if read > most:
                raise UserError(
                    f"{_named(video.address)}: more than the {amount(most)} that were expected; "
                    "copy it yourself, and give the file"
                )
            yield block
    if read < (video.size or 0):
        raise UserError(f"{_named(video.address)}: only {amount(read)} of {amount(most)} came")


def _place(address: str) -> Path:
    """Where the copy of a file is: in a folder with the name of its own, for labels by folder."""
    # in a store, ? and # are characters of names
    path = address.partition("://")[2]
    if scheme_of(address) in SERVERS:
        path = unquote(urlsplit(address).path)
    folder, name = posixpath.split(path)
    around = _safe(posixpath.basename(folder) or "videos")
    return _copies() / fingerprint(address) / around / _safe(name or "video")


def _safe(name: str) -> str:
    """A part of an address as the name of a file here."""
    # file systems count bytes
    name = re.sub(r"[^\w.,+=() -]", "_", name).encode()[-150:].decode(errors="ignore")
    return name if name.strip(". ") else "_"


def _public(address: str) -> str:
    """An address as messages say it: without a password, and without keys in its query."""
    parts = urlsplit(address)
    if parts.scheme.lower() not in SERVERS:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _named(address: str) -> str:
    return brief(_public(address))


def _copies() -> Path:
    return cache_folder() / "videos"


def _note_of(address: str) -> Path:
    return _copies() / "listed" / f"{fingerprint(address)}.json"
