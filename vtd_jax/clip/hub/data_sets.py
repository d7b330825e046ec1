"""Data sets of the Hugging Face Hub: their files in its own cache, which is asked first."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vtd_jax.clip.hub.hub_cache import (
    Place,
    Plan,
    hub_cache,
    is_whole,
    lock_of,
    note_plan,
    note_revision,
    place_of,
    planned,
    remove_old_parts,
)
from vtd_jax.clip.hub.hub_errors import explained
from vtd_jax.clip.hub.hub_listing import Listing, listing_of
from vtd_jax.clip.hub.hugging_face import (
    address_of,
    fetch_files,
    is_offline,
    lacking_files,
)
from vtd_jax.clip.hub.names import HubName, data_set_name, is_inside, shown_name
from vtd_jax.clip.hub.openai_files import waiting
from vtd_jax.console.consent import allow, amount, check_possible, given
from vtd_jax.errors import UserError
from vtd_jax.files import cache_folder, make_folders, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.printable import brief
from vtd_jax.terminal import log
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import (
    DATA_SET_BYTES,
    DATA_SET_CLASSES,
    SMALL_JSON_BYTES,
    TEXT_CHARACTERS,
)

# files of a listing with their sizes -> those that are wanted
Choose = Callable[[Mapping[str, int | None]], Sequence[str]]
_LONGEST_LICENCE = 200


class DataSet(NamedTuple):
    """The files of a data set that are wanted.

    Attributes:
      what: its name, for messages.
      folder: of the commit in the hub's cache; `files` lie below it.
      files: paths in the repository.
      classes: names of classes by column, as the data set's card says them.
      mark: changes with the repository, the commit and the files.
    """

    what: str
    folder: Path
    files: tuple[str, ...]
    classes: dict[str, list[str]]
    mark: str


def noted(source: str, wanted: Sequence[str] = ()) -> DataSet | None:
    """What a name was found to be last; its files may be gone. None where it was never fetched.

    Args:
      source: `hf:ORG/DATASET[@REVISION][/FOLDER]`.
      wanted: what the choice of files depends on.

    Raises:
      UserError: a name of another form.
    """
    name = data_set_name(source)
    place = place_of(name)
    plan = place and planned(place, name.file, _order(wanted))
    return _data_set(name, place, plan) if place and plan else None


def fetched(
    source: str, choose: Choose, wanted: Sequence[str] = (), download: bool | None = None
) -> DataSet:
    """The files of a data set, downloaded where the cache lacks them.

    Args:
      source: `hf:ORG/DATASET[@REVISION][/FOLDER]`.
      choose: picks files of the listing.
      wanted: what the choice depends on; another one is chosen again.
      download: as for `vtd_jax.load`.

    Raises:
      UserError: it may not be downloaded, is not there, too large, or cannot be fetched; or what
        `choose` raises.
    """
    with given(download):
        name = data_set_name(source)
        what = shown_name(name)
        if (found := _held(name, wanted)) is not None:
            return found
        if is_offline():
            raise UserError(
                f"{what}: not in {hub_cache()}, and HF_HUB_OFFLINE forbids to ask for it: unset "
                "that, or bring the data set there on a machine that is online"
            )
        about = f"it (only the hub knows its size) from {address_of(name)} into {hub_cache()}"
        check_possible(what, about)
        with waiting(lock_of(name.repository), what, "HF_HOME"), explained(what):
            # another process may have brought it
            if (found := _held(name, wanted)) is not None:
                return found
            allow(what, about)
            return _download(name, choose, wanted, what)


def _order(wanted: Sequence[str]) -> Sequence[str]:
    return ("data set", *wanted)


def _held(name: HubName, wanted: Sequence[str]) -> DataSet | None:
    """What the cache has of a name, if that is whole."""
    place = place_of(name)
    plan = place and planned(place, name.file, _order(wanted))
    return _data_set(name, place, plan) if place and plan and is_whole(place, plan) else None


def _data_set(name: HubName, place: Place, plan: Plan) -> DataSet:
    mark = fingerprint([place.repository, place.commit, dict(plan.files)])
    return DataSet(shown_name(name), place.folder, tuple(plan.files), _classes(place), mark)


def _download(name: HubName, choose: Choose, wanted: Sequence[str], what: str) -> DataSet:
    listing = listing_of(name)
    place = Place(name.repository, listing.commit)
    there = {file: size for file, size in listing.sizes.items() if is_inside(file)}
    plan = Plan("", {file: listing.hashes[file] for file in choose(there)})
    total = sum(there[file] or 0 for file in plan.files)
    if total > DATA_SET_BYTES:
        raise UserError(f"{what}: {total:,} bytes, expected at most {DATA_SET_BYTES:,}")
    _note_card(place, listing.card)
    if lacking := lacking_files(name, listing, plan):
        log(f"{what}: {_licence(listing)}")
        sizes = [there[file] for file in lacking]
        size = None if None in sizes else sum(size or 0 for size in sizes)
        # now that the size is known: the first question was about the request
        allow(what, f"{amount(size)} from {address_of(name)} into {hub_cache()}")
    note_plan(place, name.file, _order(wanted), plan)
    fetch_files(name, listing, plan, what)
    note_revision(name, listing.commit)
    remove_old_parts(place)
    return _data_set(name, place, plan)


def _licence(listing: Listing) -> str:
    """What the card says of the licence, and whose matter that is."""
    found = listing.card.get("license")
    if found == "other":
        found = listing.card.get("license_name") or found
    names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    text = ", ".join(name for name in names if isinstance(name, str))[:_LONGEST_LICENCE]
    if not text:
        return (
            "its card names no licence: whether you may use the videos is for you to find out "
            "from those who made them"
        )
    return (
        f"its card names the licence {brief(text)}: whether that is right, and allows what you "
        "do, is for you to check"
    )


def _note_of(place: Place) -> Path:
    whose = [str(hub_cache()), place.repository, place.commit, "card"]
    return cache_folder() / "weights" / "hub" / f"{fingerprint(whose)}.json"


def _note_card(place: Place, card: dict[str, Any]) -> None:
    """Notes the class names of a card, which come with the listing alone."""
    note = _note_of(place)
    make_folders(note.parent)
    write_text(note, json.dumps(_named(card.get("dataset_info"))))


def _classes(place: Place) -> dict[str, list[str]]:
    """Class names by column, as noted; {} for none, or for a note that is damaged."""
    try:
        return read_json(_note_of(place), dict[str, list[str]], most=SMALL_JSON_BYTES)
    except UserError:
        return {}


def _named(about: Any) -> dict[str, list[str]]:
    """The class names of a card's `dataset_info`; what has another form says nothing."""
    found: dict[str, list[str]] = {}
    for one in about if isinstance(about, list) else [about]:
        features = one.get("features") if isinstance(one, dict) else None
        for feature in features if isinstance(features, list) else []:
            kind = feature.get("dtype") if isinstance(feature, dict) else None
            label = kind.get("class_label") if isinstance(kind, dict) else None
            names = _in_order(label.get("names") if isinstance(label, dict) else None)
            if names and isinstance(feature.get("name"), str):
                found.setdefault(feature["name"], names)
    return found


def _in_order(names: Any) -> list[str]:
    """Class names, given as a list, or by their numbers."""
    if isinstance(names, dict):
        # a number that is left out leaves the names unknown
        names = [names.get(str(place)) for place in range(min(len(names), DATA_SET_CLASSES))]
    if not isinstance(names, list) or len(names) > DATA_SET_CLASSES:
        return []
    right = all(isinstance(name, str) and len(name) <= TEXT_CHARACTERS for name in names)
    return names if right else []
