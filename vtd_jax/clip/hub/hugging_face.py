"""Weights from repositories of the Hugging Face Hub, in its own cache; the cache is asked first.

The cache and the token are those of `huggingface_hub`. Its requests are not: they do not resume,
are made over one client of the process, which others use too, and take a server's word for the
names of files, for how long to wait and for what a log says (docs/weights.md).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtd_jax.clip.hub import verified
from vtd_jax.clip.hub.contents import INDEX, Chosen, choose, with_shards
from vtd_jax.clip.hub.download import download
from vtd_jax.clip.hub.hub_cache import (
    Place,
    Plan,
    check,
    check_own_hash,
    file_in,
    hub_cache,
    is_whole,
    link,
    lock_of,
    note_plan,
    note_revision,
    place_of,
    planned,
    remove_old_parts,
)
from vtd_jax.clip.hub.hub_errors import explained
from vtd_jax.clip.hub.hub_listing import Listing, endpoint, listing_of, source_of
from vtd_jax.clip.hub.names import HubName, shown_name
from vtd_jax.clip.hub.openai_files import waiting
from vtd_jax.clip.weights.files import FILES, shards_named
from vtd_jax.console.consent import (
    allow,
    announce,
    answer,
    check_named,
    check_possible,
    file_that_names,
    may_refresh,
)
from vtd_jax.errors import UserError, function, setting
from vtd_jax.files import make_folders
from vtd_jax.installed.transport import shown_url
from vtd_jax.terminal import log, warn

# open_clip's files first: model.safetensors of timm's repositories is an image tower alone
OPEN_CLIP_FIRST = tuple(sorted(FILES, key=lambda name: not name.startswith("open_clip_")))
_TRUE = ("1", "ON", "YES", "TRUE")
_warned: set[str] = set()


def is_offline() -> bool:
    """Whether the user forbids requests to the hub, by `HF_HUB_OFFLINE`."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def held(name: HubName, order: Sequence[str] = FILES) -> Path | None:
    """The file or folder that a name stands for, if the cache has it; no request is made.

    What other programs left there counts, though settings beside it may be missing.

    Raises:
      UserError: a file of it is damaged.
    """
    place = place_of(name)
    if place is None:
        return None
    order = _order(name, order)
    if plan := planned(place, name.file, order):
        return place.folder / plan.path if is_whole(place, plan) else None
    return _left(name, place, order)


def fetched(
    name: HubName, order: Sequence[str] = FILES, *, whole: bool = False, written: str = ""
) -> Path:
    """The file or folder that a name stands for, downloaded if the cache lacks it.

    Args:
      name: what to fetch.
      order: names of weights, the best first.
      whole: whether to ask the hub for the revision and settings that came since, too.
      written: the name as the user, or a file, wrote it.

    Raises:
      UserError: it may not be downloaded, is not there, or cannot be fetched.
    """
    what, order = shown_name(name), _order(name, order)
    found = held(name, order)
    is_known = found is not None and _is_planned(name, order)
    if found is not None:
        if (is_known and not whole) or is_offline() or file_that_names(written or what):
            return _taken(found, what, is_known)
        if not (may_refresh(what, address_of(name)) if whole else answer()):
            if whole:
                log(f"{what}: what is here, not asked again: {setting('download', True)} allows it")
            return _taken(found, what, is_known)
    if is_offline():
        raise UserError(
            f"{what}: not in {hub_cache()}, and HF_HUB_OFFLINE forbids to ask for it: unset that, "
            "or bring the model there on a machine that is online"
        )
    check_named(written or what)
    about = f"it (only the hub knows its size) from {address_of(name)} into {hub_cache()}"
    if found is None:
        check_possible(what, about)
    try:
        # beside the hub's own locks: hosts may share its cache
        with (
            waiting(lock_of(name.repository), what, "HF_HOME"),
            explained(what),
        ):
            # another process may have brought it
            if not whole and _is_planned(name, order) and (here := held(name, order)) is not None:
                return here
            if found is None:
                # its size is known after a request, which nobody allowed yet
                allow(what, about)
            return _download(name, order, what, is_new=found is None)
    except UserError as error:
        if found is None or whole:
            raise
        return _taken(found, what, is_known, f" ({error})")


def address_of(name: HubName) -> str:
    """Where a repository is, for messages."""
    return f"{shown_url(endpoint())}/{name.repository}"


def _taken(found: Path, what: str, is_known: bool, reason: str = "") -> Path:
    """What is here, with a warning if other programs left it."""
    if not is_known and what not in _warned:
        _warned.add(what)
        warn(
            f"{what}: taken as another program left it in {found.parent}{reason}; settings beside "
            f"it may be missing, or better weights: {function('refreshed')} {what} asks the hub"
        )
    return found


def _order(name: HubName, order: Sequence[str]) -> Sequence[str]:
    return OPEN_CLIP_FIRST if name.repository.startswith("timm/") and order is FILES else order


def _is_planned(name: HubName, order: Sequence[str]) -> bool:
    place = place_of(name)
    return place is not None and planned(place, name.file, order) is not None


def _left(name: HubName, place: Place, order: Sequence[str]) -> Path | None:
    """What other programs left of a name: its file, the first of its weights, or a run."""
    for file in (name.file,) if name.file else order:
        path = file_in(place, file)
        if path is None:
            continue
        parts = [path]
        if file.endswith(INDEX):
            parts += [path.with_name(shard) for shard in shards_named(path)]
        if all(part.is_file() for part in parts):
            for part in parts:
                check_own_hash(place, part)
            return path
    if name.file or file_in(place, "config.json") is None:
        return None
    return place.folder if (place.folder / "checkpoints").is_dir() else None


def _download(name: HubName, order: Sequence[str], what: str, is_new: bool) -> Path:
    listing = listing_of(name)
    place = Place(name.repository, listing.commit)
    chosen = choose(listing.sizes, name.file, what, order=order)
    plan = _plan(chosen.path, chosen.files, listing)
    if is_new:
        # what is interrupted now is not what another program left
        note_plan(place, name.file, order, plan)
    fetch_files(name, listing, plan, what)
    if chosen.path.endswith(INDEX):
        plan = _with_shards(place, chosen, listing, what)
        fetch_files(name, listing, plan, what)
    note_plan(place, name.file, order, plan)
    note_revision(name, listing.commit)
    remove_old_parts(place)
    return place.folder / plan.path


def _plan(path: str, files: Sequence[str], listing: Listing) -> Plan:
    return Plan(path, {file: listing.hashes[file] for file in files})


def _with_shards(place: Place, chosen: Chosen, listing: Listing, what: str) -> Plan:
    """With the parts that an index names, whatever their names."""
    shards = shards_named(place.folder / chosen.path)
    whole = with_shards(chosen, shards, listing.hashes, what)
    return _plan(whole.path, list(whole.files), listing)


def lacking_files(name: HubName, listing: Listing, plan: Plan) -> list[str]:
    """The files of a plan that the cache does not have.

    Raises:
      UserError: one that is there is damaged.
    """
    place = Place(name.repository, listing.commit)
    return [file for file, digest in plan.files.items() if not _has(place, file, digest)]


def fetch_files(name: HubName, listing: Listing, plan: Plan, what: str) -> None:
    """Downloads what the cache lacks of a plan, in its order, and links all of it.

    Raises:
      UserError: a file cannot be fetched, or there is no room.
    """
    place = Place(name.repository, listing.commit)
    sources = {file: source_of(name, listing, file) for file in plan.files}
    lacking = lacking_files(name, listing, plan)
    if lacking:
        sizes = [listing.sizes[file] for file in lacking]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        announce(what, total, address_of(name), hub_cache())
        make_folders(place.blobs)
        # rich, which only a download needs
        from vtd_jax.console.progress import Progress

        label = f"downloading {what}"
        with Progress(label, total or 0, form=lambda done: f"{done / 1e6:.1f} MB") as progress:
            for file in lacking:
                blob = place.blobs / plan.files[file]
                # two files may have the same content
                if not blob.is_file():
                    download(sources[file], blob, _Share(progress))
                    verified.note(blob, plan.files[file])
                link(place, file, plan.files[file])
    for file, digest in plan.files.items():
        if (place.blobs / digest).is_file():
            link(place, file, digest)


def _has(place: Place, file: str, digest: str) -> bool:
    """Whether the content is there, by its hash or as a copy in the snapshot.

    Raises:
      UserError: it is damaged.
    """
    blob, copy = place.blobs / digest, place.folder / file
    for path in (blob, copy):
        if path.is_file():
            check(path, digest, path)
            return True
    return False


class _Share:
    """The progress of one file as a share of all of them."""

    def __init__(self, whole: Any):
        self._whole, self._before = whole, whole.done

    def update(self, done: float, _total: float | None = None) -> None:
        """Counts the bytes of this file."""
        self._whole.update(self._before + done)
