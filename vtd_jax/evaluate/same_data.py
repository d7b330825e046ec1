"""Whether runs that are compared were evaluated on the same copy of the data."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vtd_jax.errors import UserError, setting
from vtd_jax.printable import listed
from vtd_jax.terminal import counted
from vtd_jax.video.copies.data_copy import DataCopy
from vtd_jax.video.copies.differences import (
    differences,
    notes,
    sampled_differences,
    sampled_in_common,
)


class SameData(NamedTuple):
    """What a comparison says of the data.

    Attributes:
      line: for the table.
      warning: about pixels that are not the same; "" for none.
    """

    line: str
    warning: str = ""


def check_data(
    runs: Mapping[str, Mapping[str, DataCopy]],
    splits: Iterable[str],
    *,
    common: bool = False,
    other: bool = False,
) -> SameData:
    """Checks that all runs were evaluated on one copy of the data, as far as is known.

    Args:
      runs: name of a run -> split -> its copy; without a split where it is not known.
      splits: that are compared.
      common: whether only videos that all runs have are compared: then only sampled videos that
        both runs have are held against each other.
      other: whether other copies are allowed.

    Raises:
      UserError: two runs are of other copies; says what differs.
    """
    splits, found, differ, told, shared = list(splits), [], [], [], 0
    for split in splits:
        known = {name: copies[split] for name, copies in runs.items() if split in copies}
        if len(known) < 2:
            continue
        (first, one), *others = known.items()
        prints = dict.fromkeys(copy.fingerprint for copy in known.values())
        found.append(f"{split} {' and '.join(prints)}")
        for name, two in others:
            what = (sampled_differences if common else differences)(one, two)
            differ += [f"{split} in {first} and {name}: {', '.join(what)}"] if what else []
            told += [f"{split} in {first} and {name}: {each}" for each in notes(one, two)]
        shared += min(len(sampled_in_common(one, two)) for _, two in others)
    if differ and not other:
        raise UserError(
            f"other copies of the data: {listed(differ, 2, '; ', '; ')}; a difference may be the "
            f"data's; compare with {setting('other_data')} all the same"
        )
    unknown = [name for name, copies in runs.items() if not set(splits) <= copies.keys()]
    warning = "; ".join(differ + told)
    alike = (
        f"the same frames in {counted(shared, 'sampled video')} that all have"
        if common
        else "the same copy"
    )
    if differ:
        return SameData(f"other copies, compared all the same: {warning}", warning)
    parts = [f"{alike}, fingerprints {', '.join(found)}", *told] if found else []
    if unknown:
        parts.append(
            f"the copy is not known of {listed(unknown, 4)} (evaluated by an earlier version, or "
            "without its table)"
        )
    return SameData("; ".join(parts), warning)
