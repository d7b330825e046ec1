"""From the name of weights to a file or folder on this machine."""

import os
from pathlib import Path
from typing import NamedTuple

from vtd_jax.clip.hub import hugging_face, openai_files, remote
from vtd_jax.clip.hub.names import (
    OF_HUB,
    OF_OPEN_CLIP,
    check_open_clip,
    hub_name,
    is_address,
    is_name,
    openai_name,
)
from vtd_jax.clip.hub.open_clip import Row, row_of
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.clip.weights.open_clip_config import CONFIG
from vtd_jax.console.consent import given
from vtd_jax.terminal import log

_OF_OPEN_CLIP = tuple(
    name for name in hugging_face.OPEN_CLIP_FIRST if name.startswith("open_clip_")
)


class Found(NamedTuple):
    """Weights on this machine.

    Attributes:
      path: file or folder.
      activation, head_width: that go with the name, where no file beside the weights says them;
        else None.
    """

    path: Path
    activation: str | None = None
    head_width: int | None = None


def resolve(source: str | os.PathLike, download: bool | None = None) -> Found:
    """The file or folder that a source stands for; downloads what is not on this machine.

    - `ViT-B/16`, or any other of OpenAI's nine, and `openai:ViT-B/16`: OpenAI's own file. A local
      file or folder of that name comes first, with a note; `./ViT-B/16` is always a path.
    - `hf:ORG/MODEL[@REVISION][/FILE]`: a repository of the Hugging Face Hub. What its cache holds
      is taken without a request.
    - `open_clip:MODEL/TAG`: weights by the name that open_clip gives them.
    - `gs://…`, `s3://…`: copied into the cache folder; copied again when the original changes.
    - everything else, and every `Path`: a local path, as it is.

    Args:
      source: a name or a path.
      download: True allows a download, False forbids it; None asks `$VTD_JAX_DOWNLOAD`, then the
        terminal if there is one.

    Raises:
      UserError: an unknown name; or what is not here may not be downloaded, or cannot be.
    """
    with given(download):
        if not is_name(source):
            _note_local(source)
            return Found(Path(source))
        text = os.fspath(source)
        if is_address(text):
            return Found(remote.fetched(text))
        if text.startswith(OF_HUB):
            return Found(hugging_face.fetched(hub_name(text), written=text))
        if text.startswith(OF_OPEN_CLIP):
            return _of_row(hugging_face.fetched(*_repository(text), written=text), _row(text))
        return Found(openai_files.fetched(openai_name(text)))


def held(source: str | os.PathLike) -> Path | None:
    """The file or folder that a source stands for if it is on this machine, without any request.

    Raises:
      UserError: an unknown name, or a damaged file.
    """
    if not is_name(source):
        path = Path(source)
        return path if path.exists() else None
    text = os.fspath(source)
    if is_address(text):
        return remote.held(text)
    if text.startswith(OF_HUB):
        return hugging_face.held(hub_name(text))
    if text.startswith(OF_OPEN_CLIP):
        return hugging_face.held(*_repository(text))
    return openai_files.held(openai_name(text))


def refreshed(source: str, download: bool | None = None) -> Found:
    """As `resolve`, but a branch of the hub is looked up again.

    Raises:
      UserError: as `resolve`.
    """
    with given(download):
        if source.startswith(OF_HUB):
            return Found(hugging_face.fetched(hub_name(source), whole=True, written=source))
        if source.startswith(OF_OPEN_CLIP):
            found = hugging_face.fetched(*_repository(source), whole=True, written=source)
            return _of_row(found, _row(source))
    return resolve(source, download)


def _row(source: str) -> Row:
    check_open_clip(source)
    row = row_of(source.removeprefix(OF_OPEN_CLIP))
    assert row is not None
    return row


def _repository(source: str):
    """Repository and files of a name of open_clip; not Hugging Face's, which may be another's."""
    return hub_name(f"{OF_HUB}{_row(source).repository}"), _OF_OPEN_CLIP


def _of_row(path: Path, row: Row) -> Found:
    if path.with_name(CONFIG).is_file():
        return Found(path)
    return Found(path, row.activation, row.head_width)


_noted: set[str] = set()


def _note_local(source: str | os.PathLike) -> None:
    """Says once that a local path hides one of OpenAI's names."""
    if isinstance(source, str) and source in OPENAI and source not in _noted:
        _noted.add(source)
        log(
            f"note: {source}: the local file or folder of this name is taken; OpenAI's weights are "
            f"openai:{source}"
        )
