"""What a folder or file of ours is, what it was made from, and whether it is whole: one JSON object
beside it.

It is for what is written as a whole. What grows line by line (the journal of `experiments.predict`,
`metrics.csv`) or carries its checksum inside (checkpoints, rows in the cache) notes that itself.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import vtd_jax
from vtd_jax.errors import UserError
from vtd_jax.files import write_text
from vtd_jax.untrusted.json_text import Count, convert, read_json

FORMAT = 1
# the key that tells a manifest from what earlier versions wrote under the same names
_KEY = "manifest"


@dataclass(frozen=True)
class Manifest:
    """What is noted; equal to what `read_manifest` reads back.

    Attributes:
      of: what it describes, e.g. "run of a table".
      made_from: all that the content depends on, by name: fingerprints, or values that JSON holds.
      whole: whether everything was written.
      files: bytes of the files that belong to it, by their paths below its folder.
      about: what else there is to say.
      version: of the vtd_jax that wrote it; "" for what one of before manifests noted.
    """

    of: str
    made_from: Mapping[str, Any]
    whole: bool = False
    files: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    version: str = vtd_jax.__version__

    def write(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        write_text(path, json.dumps({_KEY: FORMAT} | asdict(self), indent=2) + "\n")

    def differences(self, made_from: Mapping[str, Any]) -> list[str]:
        """Names of what differs in `made_from`; none where it is of just this."""
        here = json.loads(json.dumps(made_from))
        return [
            name
            for name in {**here, **self.made_from}
            if name not in here or name not in self.made_from or self.made_from[name] != here[name]
        ]

    def is_mine(self, made_from: Mapping[str, Any]) -> bool:
        """Whether it was made from just this."""
        return not self.differences(made_from)

    def is_whole(self, folder: Path) -> bool:
        """Whether everything was written, and its files are still there with their bytes."""
        return self.whole and all(
            (folder / name).is_file() and (folder / name).stat().st_size == size
            for name, size in self.files.items()
        )


class _Written(TypedDict):
    manifest: int
    of: str
    made_from: dict[str, Any]
    whole: bool
    files: dict[str, Count]
    about: dict[str, Any]
    version: str


class _Version(TypedDict):
    manifest: int
    version: NotRequired[str]


def read_manifest(
    path: Path,
    of: str,
    *,
    legacy: Callable[[dict[str, Any]], Manifest] | None = None,
    remedy: str = "",
) -> Manifest | None:
    """What a manifest says; None where there is no such file.

    Args:
      path: of the manifest.
      of: what it must describe.
      legacy: makes a manifest of the JSON object that earlier versions wrote under this name; None
        where there was none.
      remedy: what to do about one that cannot be read, for messages.

    Raises:
      UserError: it is damaged, describes something else, or a later version wrote it.
    """
    if not os.path.lexists(path):
        return None
    end = remedy and f"; {remedy}"
    content = read_json(path, dict[str, Any], what="manifest", remedy=remedy)
    if _KEY not in content:
        if legacy is None:
            raise UserError(f"{path}: {_KEY}: missing, expected {FORMAT}{end}")
        return legacy(content)
    told = convert(content, str(path), _Version, remedy=remedy)
    if told[_KEY] != FORMAT:
        raise UserError(
            f"{path}: {_KEY}: {told[_KEY]}, of vtd_jax {told.get('version', 'unknown')}; this is "
            f"{vtd_jax.__version__}, which knows {FORMAT}: update it"
        )
    fields = convert(content, str(path), _Written, remedy=remedy)
    if fields["of"] != of:
        raise UserError(f"{path}: of: {fields['of'][:100]!r}, expected {of!r}{end}")
    del fields[_KEY]
    return Manifest(**fields)
