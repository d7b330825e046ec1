"""One line about everything that goes wrong at the hub."""

import contextlib
import os
import urllib.error
from collections.abc import Iterator

from vtd_jax.clip.hub.names import HubName
from vtd_jax.errors import UserError
from vtd_jax.files import remedy
from vtd_jax.installed import transport
from vtd_jax.printable import brief

_TOKEN = "set HF_TOKEN to a token of an account that may read it (huggingface.co/settings/tokens)"


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns errors of files into a line; nothing half-written has its final name.

    Raises:
      UserError: says what is wrong and what to do.
    """
    try:
        yield
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{what}: {place}{error.strerror or error}{remedy(error)}") from None


def why(name: HubName, endpoint: str, error: BaseException) -> str:
    """What went wrong with a request about a repository.

    Args:
      name: the name's parts.
      endpoint: address of the hub.
      error: one of `transport.BROKEN`.
    """
    where = f"{transport.shown_url(endpoint)}/{name.repository}"
    if not isinstance(error, urllib.error.HTTPError):
        hint = "" if os.environ.get("HF_ENDPOINT") else " HF_ENDPOINT can name a mirror"
        return f"{transport.why(where, error)}{hint}"
    code = error.headers.get("X-Error-Code", "") if error.headers else ""
    if code == "GatedRepo":
        return f"gated: accept its terms at {where}, then {_TOKEN}"
    if code == "RevisionNotFound":
        return f"{where} has no revision {brief(name.revision)}"
    if code == "EntryNotFound":
        return f"{where} lists a file that it does not have: try again later"
    if error.code == 401 or code == "RepoNotFound":
        return (
            f"no repository at {where}, or a private one: check the name, or {_TOKEN}; `hf auth "
            "whoami` renews one that has ended"
        )
    if error.code == 403:
        return f"{where} refuses it (HTTP {error.code}): {_TOKEN}"
    if error.code == 429:
        return f"{where} has had too many requests from here (HTTP 429): wait, or {_TOKEN}"
    return f"{where} fails with HTTP {error.code}: try again later"
