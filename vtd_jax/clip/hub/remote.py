"""Weights at addresses that `etils.epath` takes (gs://, s3://), copied into our cache folder."""

import contextlib
import json
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vtd_jax.clip.hub.contents import INDEX, Chosen, checked, choose, with_shards
from vtd_jax.clip.hub.openai_files import waiting
from vtd_jax.clip.weights.files import shards_in
from vtd_jax.console.consent import allow, announce, answer, check_named, file_that_names
from vtd_jax.errors import UserError, setting
from vtd_jax.files import cache_folder, make_folders, replacing, write_text
from vtd_jax.fingerprints import fingerprint
from vtd_jax.installed.stores import explained
from vtd_jax.printable import brief
from vtd_jax.terminal import log, warn
from vtd_jax.untrusted.json_text import read_json
from vtd_jax.untrusted.limits import CHECKPOINT_FILES, SMALL_JSON_BYTES, WEIGHTS_LISTED

_BLOCK = 2**20
_NOTE_BYTES = 2**16

_noted: set[str] = set()


def held(address: str) -> Path | None:
    """The copy that was made last, without asking whether the original has changed."""
    try:
        kept = read_json(_note_of(_plain(address)), dict[str, str], most=_NOTE_BYTES)
        path = _copies() / kept["copy"] / kept["path"]
    except (UserError, OSError, KeyError):
        return None
    return path if path.exists() and path.resolve().is_relative_to(_copies().resolve()) else None


def fetched(address: str) -> Path:
    """The local copy of a file or folder, made if there is none or the original has changed.

    The settings and shards beside a file of weights come with it. Without a connection the copy
    that was made last is taken, with a warning; where nobody allowed downloads beforehand, it is
    taken without a request.

    Raises:
      UserError: it is not there, cannot be read, or may not be copied.
    """
    written, address = address, _plain(address)
    if address.startswith("hf://"):
        raise UserError(f"{brief(address)}: write hf:ORG/MODEL, with one colon and no slashes")
    copy = held(address)
    if copy is not None and (file_that_names(written) or not answer()):
        if address not in _noted:
            _noted.add(address)
            log(
                f"{brief(address)}: the copy made last, without asking whether it has changed; "
                f"{setting('download', True)} asks"
            )
        return copy
    check_named(written)
    allow(address, f"it (only the store knows its size) into {_copies()}")
    with explained(address):
        try:
            original, chosen, states = _look(address)
        except (FileNotFoundError, PermissionError, UserError):
            raise
        # any error of a backend's own libraries, or none of them here
        except Exception as error:
            if copy is None:
                raise
            warn(
                f"{brief(address)}: cannot be asked whether it has changed ({brief(str(error))}), "
                "so the copy made last is taken"
            )
            return copy
        version = fingerprint([chosen.path, sorted(states.items())])
        # by the folder: its address and that of the file in it share a copy
        folder = _copies() / fingerprint(os.fspath(original)) / version
        lacking = [name for name in chosen.files if not (folder / name).is_file()]
        if lacking:
            with waiting(folder, address):
                _copy(address, original, states, folder, lacking)
        _note((address, os.fspath(original / chosen.path)), folder, chosen.path)
    return folder / chosen.path


def _look(address: str) -> tuple[Any, Chosen, dict[str, tuple[int, int, str]]]:
    """The folder of the original, what of it is needed, and size, time and mark of each file."""
    from etils import epath

    try:
        path = epath.Path(address)
    except KeyError:
        scheme = address.partition("://")[0]
        raise UserError(
            f"{brief(address)}: etils.epath does not know {scheme}://, expected gs://, s3:// or az://"
        ) from None
    if path.is_dir():
        folder, file, names = path, "", _names(path)
    elif path.exists():
        folder, file, names = path.parent, path.name, [each.name for each in path.parent.iterdir()]
    else:
        raise FileNotFoundError
    if len(names) > WEIGHTS_LISTED:
        raise UserError(f"{address}: {len(names):,} files beside it, expected fewer")
    chosen = choose(dict.fromkeys(names), file, address)
    if chosen.path.endswith(INDEX):
        index = folder / chosen.path
        shards = shards_in(_read(index), os.fspath(index))
        chosen = with_shards(chosen, shards, frozenset(names), address)
    states = {name: _state(folder / name) for name in chosen.files}
    checked(chosen, {name: size for name, (size, *_) in states.items()}, address)
    return folder, chosen, states


def _read(index: Any) -> bytes:
    """An index, which is read before anybody is asked: it says what there is to copy."""
    with index.open("rb") as file:
        content = file.read(SMALL_JSON_BYTES + 1)
    if len(content) > SMALL_JSON_BYTES:
        raise UserError(f"{index}: more than the {SMALL_JSON_BYTES:,} bytes that an index may have")
    return content


def _names(folder: Any) -> list[str]:
    """Names in a folder; of a run also those below."""
    top = [each.name for each in folder.iterdir()]
    if "checkpoints" not in top or "config.json" not in top:
        return top
    found, left = [], [(folder / name, name) for name in top]
    while left:
        path, name = left.pop()
        if path.is_dir():
            left += [(each, posixpath.join(name, each.name)) for each in path.iterdir()]
        else:
            found.append(name)
        if len(found) + len(left) > CHECKPOINT_FILES:
            raise UserError(f"{folder}: more than {CHECKPOINT_FILES:,} files: not a run")
    return found


def _state(path: Any) -> tuple[int, int, str]:
    """Bytes, time, and the mark that the store gives a version of a file, "" where it has none."""
    found = path.stat()
    mark = ""
    # epath's stat has neither ETag nor, for S3, the time
    with contextlib.suppress(ImportError, ValueError, NotImplementedError):
        import fsspec

        address = os.fspath(path)
        mark = str(fsspec.filesystem(address.partition("://")[0]).ukey(address))
    return int(found.length), int(found.mtime or 0), mark


def _copy(
    address: str,
    original: Any,
    states: dict[str, tuple[int, int, str]],
    folder: Path,
    names: list[str],
) -> None:
    """Copies files in this order, each whole or not at all."""
    # another process may have copied some
    names = [name for name in names if not (folder / name).is_file()]
    if not names:
        return
    # rich, which only a copy needs
    from vtd_jax.console.progress import Progress

    total = sum(states[name][0] for name in names)
    announce(address, total, address, folder)
    with Progress(f"copying {address}", total, form=lambda n: f"{n / 1e6:.1f} MB") as progress:
        for name in names:
            make_folders((folder / name).parent)
            with (
                replacing(folder / name) as temporary,
                (original / name).open("rb") as source,
                temporary.open("wb") as out,
            ):
                left = states[name][0]
                while block := source.read(_BLOCK):
                    left -= len(block)
                    if left < 0:
                        break
                    out.write(block)
                    progress.update(progress.done + len(block))
                if left:
                    raise UserError(f"{address}: {name} changed while it was copied: try again")


def _plain(address: str) -> str:
    """One spelling of an address, that of epath: without doubled and last slashes."""
    scheme, mark, path = address.partition("://")
    return scheme + mark + "/".join(part for part in path.split("/") if part not in ("", "."))


def _copies() -> Path:
    return cache_folder() / "weights" / "remote"


def _note_of(address: str) -> Path:
    return _copies() / "latest" / f"{fingerprint(address)}.json"


def _note(addresses: Iterable[str], folder: Path, path: str) -> None:
    """Notes which copy was made last; where nothing can be written it is looked for again."""
    note = json.dumps({"copy": os.fspath(folder.relative_to(_copies())), "path": path})
    with contextlib.suppress(OSError):
        for address in addresses:
            make_folders(_note_of(address).parent)
            write_text(_note_of(address), note)
