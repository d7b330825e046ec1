"""A JSON object beside an output: its kind, what it was made from, and whether it is complete.

Outputs that grow line by line (the journal of `experiments.predict`, `metrics.csv`) or contain
their checksum (checkpoints, cached rows) have no manifest.
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
# a key that files of earlier versions with the same names do not have
_KEY = "manifest"


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    Attributes:
      of: kind of the output, e.g. "run of a table".
      made_from: everything that the output depends on, by name: fingerprints, or values for JSON.
      whole: whether the output is complete.
      files: sizes of its files in bytes, by relative path.
      about: other fields.
      version: of the vtd_jax that wrote it; "" before there were manifests.
    """

    of: str
    made_from: Mapping[str, Any]
    whole: bool = False
    files: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    version: str = vtd_jax.__version__

    def text(self) -> str:
        """As it is written; ASCII."""
        return json.dumps({_KEY: FORMAT} | asdict(self), indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Writes the manifest, whole or not at all."""
        write_text(path, self.text())

    def differences(self, made_from: Mapping[str, Any]) -> list[str]:
        """Names of what differs from `made_from`."""
        # as it is read: tuples become lists
        here = json.loads(json.dumps(made_from))
        return [
            name
            for name in {**here, **self.made_from}
            if name not in here or name not in self.made_from or self.made_from[name] != here[name]
        ]

    def is_mine(self, made_from: Mapping[str, Any]) -> bool:
        """Whether it was made from the same."""
        return not self.differences(made_from)

    def is_whole(self, folder: Path) -> bool:
        """Whether the output is complete, and its files still have their sizes."""
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
    """Reads a manifest; None if there is no such file.

    Args:
      path: of the manifest.
      of: expected kind.
      legacy: makes a manifest of the JSON object that earlier versions wrote to this path; None if
        they wrote none.
      remedy: what to do about an unreadable manifest, for messages.

    Raises:
      UserError: it is damaged, of another kind, or from a later version.
    """
    if not os.path.lexists(path):
        return None
    end = remedy and f"; {remedy}"
    content = read_json(path, dict[str, Any], what="manifest", remedy=remedy)
    if _KEY not in content:
        if legacy is None:
            raise UserError(f"{path}: {_KEY}: missing, expected {FORMAT}{end}")
        return legacy(content)
    head = convert(content, str(path), _Version, remedy=remedy)
    if head[_KEY] != FORMAT:
        raise UserError(
            f"{path}: {_KEY}: {head[_KEY]}, of vtd_jax {head.get('version', 'unknown')}; this is "
            f"{vtd_jax.__version__}, which knows {FORMAT}: update it"
        )
    fields = convert(content, str(path), _Written, remedy=remedy)
    if fields["of"] != of:
        raise UserError(f"{path}: of: {fields['of'][:100]!r}, expected {of!r}{end}")
    del fields[_KEY]
    return Manifest(**fields)
