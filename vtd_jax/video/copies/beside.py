"""The fingerprints of all lists of a record folder, noted beside the records."""

import json
from dataclasses import asdict
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.video.copies.data_copy import DataCopy, data_copies
from vtd_jax.video.copies.differences import differences
from vtd_jax.video.records import Records
from vtd_jax.video.stored_lists import list_names

FINGERPRINTS = "fingerprints.json"


def note_copies(folder: Path) -> dict[str, DataCopy]:
    """Computes which copy every list of a record folder is of, and notes it there.

    Args:
      folder: of the records, as `build_records` returns it.

    Returns:
      List -> its copy.

    Raises:
      UserError: as `data_copies` does.
    """
    lists = [Records(folder, name) for name in list_names(folder)]
    copies = {records.name: copy for records, copy in zip(lists, data_copies(lists))}
    text = json.dumps({name: asdict(copy) for name, copy in copies.items()}) + "\n"
    try:
        same = read_noted(folder) == copies
    except UserError:
        same = False
    if not same:
        write_text(folder / FINGERPRINTS, text)
    return copies


def read_noted(folder: Path) -> dict[str, DataCopy]:
    """What was noted when the records were built; empty for records of earlier versions.

    Raises:
      UserError: the file is damaged.
    """
    path = folder / FINGERPRINTS
    if not path.exists():
        return {}
    return read_json(
        path, dict[str, DataCopy], what="list of fingerprints",
        remedy="remove it: it is made again by the build that made these records",
    )  # fmt: skip


def changed_since(records: Records, copy: DataCopy) -> str:
    """A line if the records of a list are not those that were noted; "" if they are, or nothing was
    noted.
    """
    path = records.path / FINGERPRINTS
    try:
        noted = read_noted(records.path).get(records.name)
    except UserError as error:
        return str(error)
    if noted is None or not (differ := differences(noted, copy)):
        return ""
    return (
        f"{path}: the records of list {records.name} are not those that this says: "
        f"{', '.join(differ)}; the records themselves count"
    )
