"""Videos at addresses (`https://…`), copied into our cache folder once the user agrees."""

import contextlib
import json
import re
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from vtd_jax.console.consent import Refused, amount, ask, check_possible, is_possible
from vtd_jax.errors import UserError
from vtd_jax.files import make_folders, remedy, replacing, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.installed.stores import explained, scheme_of
from vtd_jax.locks import locked
from vtd_jax.printable import listed
from vtd_jax.terminal import counted, log
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import REMOTE_BYTES, REMOTE_VIDEOS
from vtd_jax.video.lists import servers
from vtd_jax.video.lists.addresses import (
    SERVERS,
    STORES,
    Copy,
    copies_folder,
    is_known,
    place_of,
    public,
)
from vtd_jax.video.suffixes import is_video

_BLOCK = 2**20
# how a page begins that a server or store sends in the place of a video
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|script|\?xml)\b", re.IGNORECASE)


class _Video(NamedTuple):
    """A video at an address.

    Attributes:
      address: of the file.
      size: bytes; None if the server does not say.
      host: that sends it.
      why: it cannot be copied; "" where it can.
    """

    address: str
    size: int | None = None
    host: str = ""
    why: str = ""


def fetched(addresses: Sequence[str], *, files_only: bool = False) -> list[list[Copy]]:
    """Copies of the videos at addresses; of each address its videos, by name.

    A file that was copied before is taken as it is, without a request. Folders and globs of stores
    are listed again, or taken as they were listed last where no request is allowed. What is missing
    is copied after one question, which says how much it is. What cannot be copied has a `Copy` that
    says why, as a damaged file has an error when it is read.

    Args:
      addresses: each a file; in a store also a folder, for all videos at any depth, or a glob.
      files_only: whether folders and globs are errors, for which nothing is copied.

    Returns:
      Of each address a list of paths; of a file's address one.

    Raises:
      UserError: nothing may be copied, or there is no room.
    """
    found = [_found(address, files_only) for address in addresses]
    lacking = {
        video.address: video
        for videos in found
        for video in videos
        if not video.why and not place_of(video.address).is_file()
    }
    failed = _copy(list(lacking.values())) if lacking else {}
    return [
        [Copy.of(video.address, video.why or failed.get(video.address, "")) for video in videos]
        for videos in found
    ]


def holds_one(address: str, found: Sequence[Path]) -> bool:
    """Whether what was `fetched` is the one file at an address, and not of a folder or glob."""
    return list(found) == [place_of(address)]


def _found(address: str, files_only: bool) -> list[_Video]:
    """The videos of an address; itself with the reason where it has none."""
    try:
        videos = _listed(address)
        if files_only and [video.address for video in videos] != [address]:
            count = counted(len(videos), "video")
            raise UserError(f"{public(address)}: {count}, expected one file")
    except Refused:
        raise
    except UserError as error:
        return [_Video(address, why=str(error))]
    return videos


def _listed(address: str) -> list[_Video]:
    """The videos of an address."""
    if not is_known(address):
        known = ", ".join(f"{name}://" for name in SERVERS + STORES if name != "memory")
        raise UserError(f"{public(address)}: expected a path, or an address that begins {known}")
    if place_of(address).is_file():
        return [_Video(address)]
    note = _note_of(address)
    if note.is_file() and not is_possible():
        log(f"{public(address)}: the videos that were listed last, without asking again")
        return [_Video(name, host=urlsplit(name).netloc) for name in read_json(note, list[str])]
    check_possible(public(address), f"it into {copies_folder()}")
    if scheme_of(address) in SERVERS:
        return [_Video(address, *servers.look(address))]
    with explained(public(address)):
        videos = _of_store(address)
    if videos != [_Video(address, videos[0].size, videos[0].host)]:
        with contextlib.suppress(OSError):
            make_folders(note.parent)
            write_text(note, json.dumps([video.address for video in videos]))
    return videos


def _of_store(address: str) -> list[_Video]:
    """A file, or the videos of a folder or glob."""
    system, scheme = _system(address), scheme_of(address)
    path, host = system._strip_protocol(address), urlsplit(address).netloc
    if any(sign in path for sign in "*?["):
        found = system.glob(path, detail=True)
    else:
        one = system.info(path)
        if one["type"] != "directory":
            return [_Video(address, one.get("size"), host)]
        found = system.find(path, detail=True)
    videos = [
        _Video(f"{scheme}://{name.lstrip('/')}", about.get("size"), host)
        for name, about in sorted(found.items())
        if about["type"] != "directory" and is_video(name)
    ]
    if not videos:
        raise UserError(f"{public(address)}: no videos there")
    if len(videos) > REMOTE_VIDEOS:
        raise UserError(
            f"{public(address)}: {len(videos):,} videos, expected at most {REMOTE_VIDEOS:,}; copy "
            "them with the store's own tools, and give the folder"
        )
    return videos


def _system(address: str) -> Any:
    """The file system of a store, without what fsspec keeps of listings."""
    import fsspec

    return fsspec.filesystem(scheme_of(address), use_listings_cache=False)


def _copy(videos: Sequence[_Video]) -> dict[str, str]:
    """Copies videos, each whole or not at all, after one question about all of them.

    Returns:
      Why a video could not be copied, by its address.

    Raises:
      UserError: nothing may be copied, or this machine cannot keep it.
    """
    # rich, which only a copy needs
    from vtd_jax.console.progress import Progress

    sizes = [video.size for video in videos]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    first = public(videos[0].address)
    what = first if len(videos) == 1 else f"{counted(len(videos), 'video')} ({first}, …)"
    hosts = dict.fromkeys(video.host for video in videos)
    ask(what, total, listed(list(hosts)), copies_folder())
    form, failed = "{:.1f} MB".format, {}
    with Progress("copying videos", (total or 0) / 1e6, form=form) as progress:

        def count(size: int) -> None:
            progress.update(progress.done + size / 1e6)

        for video in videos:
            place = place_of(video.address)
            try:
                make_folders(place.parent)
                lock = place.with_name(".copying.lock")
                # another process that copies it is awaited; what one left that died is removed
                with locked(lock, public(video.address), stays=False, waits=True):
                    for part in place.parent.glob(".*.part*"):
                        part.unlink(missing_ok=True)
                    if not place.is_file():
                        _write(video, place, count)
            except UserError as error:
                failed[video.address] = str(error)
            except OSError as error:
                where = error.filename or place
                raise UserError(f"{where}: {error.strerror or error}{remedy(error)}") from None
    return failed


def _write(video: _Video, place: Path, count: Callable[[int], None]) -> None:
    """Copies one video; `count` is called with the bytes of every block."""
    most = REMOTE_BYTES if video.size is None else video.size
    done, address = 0, video.address
    source = servers.blocks if scheme_of(address) in SERVERS else _blocks
    with (
        replacing(place) as temporary,
        contextlib.closing(source(address, video.host)) as blocks,
        temporary.open("w+b") as out,
    ):
        for block in blocks:
            done += len(block)
            if done > most:
                raise UserError(
                    f"{public(address)}: more than the {amount(most)} that were expected; copy it "
                    "yourself, and give the file"
                )
            out.write(block)
            count(len(block))
        if done < (video.size or 0):
            raise UserError(f"{public(address)}: only {amount(done)} of {amount(most)} came")
        out.seek(0)
        if not done or _MARKUP.match(out.read(512)):
            found = "a page in the place of a video; is a login needed?" if done else "empty"
            raise UserError(f"{public(address)}: {found}")


def _blocks(address: str, host: str) -> Generator[bytes, None, None]:
    """The content of a file of a store."""
    with (
        explained(public(address)),
        _system(address).open(address, "rb", cache_type="none") as source,
    ):
        while block := source.read(_BLOCK):
            yield block


def _note_of(address: str) -> Path:
    return copies_folder() / "listed" / f"{fingerprint(address)}.json"
