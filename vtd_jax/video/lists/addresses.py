"""Addresses of videos (`https://…`, `gs://…`): what they are called, and where their copies are."""

import os
import posixpath
import re
from pathlib import Path, PosixPath
from typing import Any, TypeGuard
from urllib.parse import unquote, urlsplit

from vtd_jax.files import cache_folder
from vtd_jax.fingerprints import fingerprint
from vtd_jax.installed.stores import scheme_of
from vtd_jax.installed.transport import shown_url

SERVERS = ("http", "https")
STORES = ("gs", "gcs", "s3", "az", "abfs", "memory")


class Copy(PosixPath):
    """The path of the copy of a video at an address.

    Attributes:
      address: what results and messages call it; "" for paths made of this one.
      why: there is no copy, in a line; "" where there is one.
    """

    address = ""
    why = ""

    @classmethod
    def of(cls, address: str, why: str = "") -> "Copy":
        """The copy of the file at an address, where it is or would be."""
        copy = cls(place_of(address))
        copy.address, copy.why = _name(address), why
        return copy

    def __reduce__(self):
        # paths are pickled by their parts alone
        return _copy_again, (os.fspath(self), self.address, self.why)


def _copy_again(path: str, address: str, why: str) -> Copy:
    copy = Copy(path)
    copy.address, copy.why = address, why
    return copy


def is_address(source: Any) -> TypeGuard[str]:
    """Whether this is an address of a server or store; a path of this machine is none."""
    return isinstance(source, str) and bool(scheme_of(source))


def named(video: str | os.PathLike) -> str:
    """What results and messages call a video: its path, or its address without passwords and keys.

    Two addresses whose queries differ have two names.
    """
    address = video.address if isinstance(video, Copy) else ""
    return address or (_name(video) if is_address(video) else os.fspath(video))


def missing(video: Any) -> str:
    """Why there is no copy of a video at an address; "" for all other videos."""
    return video.why if isinstance(video, Copy) else ""


def is_known(address: str) -> bool:
    """Whether an address is one of a server or store that videos are copied from."""
    scheme = scheme_of(address)
    try:
        # raises where a host in brackets does not end
        host = urlsplit(address).netloc
    except ValueError:
        return False
    return "::" not in address and (scheme in STORES or (scheme in SERVERS and bool(host)))


def place_of(address: str) -> Path:
    """Where the copy of a file is: in a folder with the name of its own, for labels by folder."""
    # in a store, ? and # are characters of names
    path = address.partition("://")[2]
    if scheme_of(address) in SERVERS:
        path = unquote(path.partition("?")[0].partition("#")[0].partition("/")[2])
    folder, name = posixpath.split(path)
    around = _safe(posixpath.basename(folder) or "videos")
    return copies_folder() / fingerprint(address) / around / _safe(name or "video")


def _safe(name: str) -> str:
    """A part of an address as the name of a file here."""
    # file systems count bytes
    name = re.sub(r"[^\w.,+=() -]", "_", name).encode()[-150:].decode(errors="ignore")
    return name if name.strip(". ") else "_"


def public(address: str) -> str:
    """An address as messages say it: without a password, and without keys in its query."""
    return address if scheme_of(address) in STORES else shown_url(address)


def _name(address: str) -> str:
    """An address as results say it: a query, which may be a key, becomes a fingerprint."""
    query = address.partition("#")[0].partition("?")[2]
    mark = f"#{fingerprint(query)[:8]}" if query and public(address) != address else ""
    return public(address) + mark


def copies_folder() -> Path:
    """The folder of all copies."""
    return cache_folder() / "videos"
