"""The hub's own cache: where its programs keep files, and what of it we know to be whole.

`models--ORG--MODEL/`, or `datasets--ORG--NAME/` of data, has `refs/REVISION` (a commit),
`snapshots/COMMIT/FILE` (links) and `blobs/HASH`, each of which may be a link into a store that all
repositories share.
"""

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vtd_jax.clip.hub import verified
from vtd_jax.clip.hub.names import HubName, is_data_set, is_inside
from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder, home, make_folders, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES
from vtd_jax.untrusted.regular_files import read_bytes

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PART = re.compile(r"\.([0-9a-f]{40}|[0-9a-f]{64})\.[0-9a-f]{8}\.part")
_REFERENCE_BYTES = 200
# seconds after which nobody continues a part
_OLD = 7 * 86400


class Plan(NamedTuple):
    """What we decided to fetch for a name, noted before the first file comes.

    Attributes:
      path: what the name stands for: a file, or "" for the folder of a run.
      files: path -> hash; a name is whole when it has all of them.
    """

    path: str
    files: Mapping[str, str]


class Place(NamedTuple):
    """A commit of a repository in the cache."""

    repository: str
    commit: str

    @property
    def folder(self) -> Path:
        """Its snapshot."""
        return Path(_folder(self.repository), "snapshots", self.commit)

    @property
    def blobs(self) -> Path:
        """Contents of all commits, each named by its hash."""
        return Path(_folder(self.repository), "blobs")


def hub_cache() -> Path:
    """The folder of the hub's cache, by the variables that `huggingface_hub` documents.

    They are read here, not where that was imported, so that a notebook may set them later.

    Raises:
      UserError: one of them names the folder of a user who is not there.
    """
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if text := os.environ.get(variable):
            return home(Path(os.path.expandvars(text)), variable)
    if text := os.environ.get("HF_HOME"):
        return home(Path(os.path.expandvars(text)), "HF_HOME") / "hub"
    above = os.environ.get("XDG_CACHE_HOME") or Path("~", ".cache")
    return home(Path(above, "huggingface", "hub"), "XDG_CACHE_HOME")


def lock_of(repository: str) -> Path:
    """What is locked while files of a repository are fetched."""
    return hub_cache() / ".locks" / _folder(repository).name / "vtd_jax"


def is_commit(text: str) -> bool:
    """Whether a revision is a whole commit."""
    return _COMMIT.fullmatch(text) is not None


def is_hash(text: str) -> bool:
    """Whether a text is a SHA-256, or the SHA-1 of a blob of git."""
    return _HASH.fullmatch(text) is not None


def place_of(name: HubName) -> Place | None:
    """The commit that the cache has for a revision; None for none."""
    if is_commit(name.revision):
        return Place(name.repository, name.revision)
    try:
        reference = _reference(name.repository, name.revision)
        text = read_bytes(reference, "reference", _REFERENCE_BYTES).decode().strip()
    except (OSError, ValueError):
        return None
    return Place(name.repository, text) if is_commit(text) else None


def file_in(place: Place, file: str) -> Path | None:
    """A file of the snapshot; None where it is not there, or its content is not."""
    path = place.folder / file
    return path if path.is_file() else None


def check_own_hash(place: Place, path: Path) -> None:
    """Refuses a file of the cache that has another hash than its own.

    The blob's name in the repository is the hash; that may be a link to a file of another name.

    Raises:
      UserError: says what to remove.
    """
    try:
        blob = Path(os.path.normpath(path.parent / os.readlink(path)))
    except OSError:
        # a copy, where there are no links
        return
    if blob.parent == place.blobs and is_hash(blob.name):
        check(path, blob.name, blob)


def check(path: Path, digest: str, blob: Path) -> None:
    """Refuses a file with another hash.

    Raises:
      UserError: says what to remove.
    """
    try:
        if verified.is_right(path, digest):
            return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    raise UserError(f"{path}: damaged, its hash is not {digest}: remove {blob}, and fetch it again")


def link(place: Place, file: str, digest: str) -> None:
    """Lets the snapshot have a file whose content is there."""
    path, blob = place.folder / file, place.blobs / digest
    make_folders(path.parent)
    to = os.path.relpath(blob, path.parent)
    with contextlib.suppress(OSError):
        if os.readlink(path) == to:
            return
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        os.symlink(to, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def note_revision(name: HubName, commit: str) -> None:
    """Notes which commit a branch or tag is, where the hub's own programs note it, too."""
    if name.revision != commit:
        reference = _reference(name.repository, name.revision)
        make_folders(reference.parent)
        write_text(reference, commit)


def note_plan(place: Place, file: str, order: Sequence[str], plan: Plan) -> None:
    """Notes what a name needs in all."""
    note = _note_of(place, file, order)
    make_folders(note.parent)
    write_text(note, json.dumps({"path": plan.path, "files": dict(plan.files)}))


def planned(place: Place, file: str, order: Sequence[str]) -> Plan | None:
    """What was noted; None for nothing, or for a note that is damaged."""
    try:
        kept = read_json(
            _note_of(place, file, order), dict[str, str | dict[str, str]], most=SMALL_JSON_BYTES
        )
        path, files = kept["path"], kept["files"]
    except (UserError, OSError, KeyError):
        return None
    if not isinstance(path, str) or not isinstance(files, dict):
        return None
    right = all(is_inside(each) and is_hash(digest) for each, digest in files.items())
    return Plan(path, files) if right and (not path or path in files) else None


def is_whole(place: Place, plan: Plan) -> bool:
    """Whether all files of a plan are there.

    Raises:
      UserError: one is damaged.
    """
    found = {file: file_in(place, file) for file in plan.files}
    if None in found.values():
        return False
    for file, path in found.items():
        if path is not None:
            check(path, plan.files[file], place.blobs / plan.files[file])
    return True


def remove_old_parts(place: Place) -> None:
    """Removes parts of downloads that nobody has continued for a week."""
    with contextlib.suppress(OSError), os.scandir(place.blobs) as entries:
        for entry in entries:
            is_ours = _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            if is_ours and time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD:
                os.unlink(entry.path)


def _folder(repository: str) -> Path:
    # that of a data set begins with the word already
    kind = [] if is_data_set(repository) else ["models"]
    return hub_cache() / "--".join([*kind, *repository.split("/")])


def _reference(repository: str, revision: str) -> Path:
    return Path(_folder(repository), "refs", revision)


def _note_of(place: Place, file: str, order: Sequence[str]) -> Path:
    whose = [str(hub_cache()), place.repository, place.commit, file, list(order)]
    return cache_folder() / "weights" / "hub" / f"{fingerprint(whose)}.json"
