"""OpenAI's files on this machine, or downloaded: ours, or those that its own package left."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vtd_jax.clip.hub import verified
from vtd_jax.clip.hub.download import Source, download, finish, size_of
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.console.consent import allow, amount, announce, check_possible
from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, cache_folder, home, make_folders
from vtd_jax.installed.transport import checked_endpoint, shown_url
from vtd_jax.locks import locked
from vtd_jax.terminal import warn

VARIABLE = "VTD_JAX_OPENAI_ENDPOINT"
ENDPOINT = "https://openaipublic.azureedge.net/clip/models"
# the largest has 1.3 GB
_MOST = 4 * 2**30


def held(name: str) -> Path | None:
    """OpenAI's file of this model on this machine, with the right hash; None for none.

    `~/.cache/clip`, where OpenAI's own package keeps its files, is accepted.
    """
    one = OPENAI[name]
    for path in (_ours(name), home(Path("~/.cache/clip", one.file), "HOME")):
        try:
            if not path.is_file():
                continue
            if verified.is_right(path, one.sha256):
                return path
        except OSError as error:
            warn(f"{path}: cannot be read ({error.strerror}), so it is not used for {name}")
            continue
        warn(f"{path}: is not OpenAI's {name}, whose SHA-256 is {one.sha256}, so it is not used")
    return None


def fetched(name: str) -> Path:
    """OpenAI's file of this model, downloaded if it is not on this machine.

    Raises:
      UserError: it may not be downloaded, or cannot be.
    """
    if (found := held(name)) is not None:
        return found
    one, target = OPENAI[name], _ours(name)
    source = Source(name, f"{endpoint()}/{one.sha256}/{one.file}", one.sha256, _MOST)
    # the table's size: to ask the server is a request, too
    shown = shown_url(source.url)
    about = f"about {amount(one.about_bytes)} from {shown} into {target}"
    check_possible(name, about)
    with waiting(target, name):
        # another process may have brought it
        if (found := held(name)) is not None:
            return found
        if not finish(source, target):
            allow(name, about)
            announce(name, size_of(source), shown, target)
            # rich, which only a download needs
            from vtd_jax.console.progress import Progress

            label = f"downloading {name}"
            with Progress(label, form=lambda done: f"{done / 1e6:.1f} MB") as progress:
                download(source, target, progress)
    verified.note(target, one.sha256)
    return target


def endpoint() -> str:
    """The address that OpenAI's files are below; a mirror's where the variable names one.

    Raises:
      UserError: the variable is no address.
    """
    return checked_endpoint(VARIABLE, os.environ.get(VARIABLE) or ENDPOINT)


@contextlib.contextmanager
def waiting(target: Path, what: str, variable: str = CACHE_VARIABLE) -> Iterator[None]:
    """Holds the lock of a download; a second process of this machine waits for the first.

    Args:
      target: beside which the lock is.
      what: the name of the weights.
      variable: that names the cache, for the message.

    Raises:
      UserError: its folder cannot be made or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            make_folders(target.parent)
            lock = target.with_name(f".{target.name}.lock")
            stack.enter_context(locked(lock, what, waits=True))
        except OSError as error:
            raise UserError(
                f"{what}: {error.filename or target.parent}: {error.strerror or error}; set "
                f"{variable} to a folder that can be written"
            ) from None
        yield


def _ours(name: str) -> Path:
    return cache_folder() / "weights" / "openai" / OPENAI[name].file
