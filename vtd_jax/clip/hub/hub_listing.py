"""What the hub says of a repository: read within limits of bytes and time, and checked."""

import dataclasses
import os
import time
import urllib.error
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from vtd_jax.clip.hub.download import Source
from vtd_jax.clip.hub.hub_cache import is_commit, is_hash
from vtd_jax.clip.hub.hub_errors import why
from vtd_jax.clip.hub.names import HubName, is_data_set, shown_name
from vtd_jax.console.consent import answer, ask_token
from vtd_jax.errors import UserError
from vtd_jax.installed.transport import (
    BROKEN,
    Broken,
    Watch,
    checked_endpoint,
    is_lasting,
    read,
    send,
    shown_url,
)
from vtd_jax.untrusted.json_text import Count, parse_json
from vtd_jax.untrusted.limits import SMALL_JSON_BYTES, WEIGHTS_BYTES, WEIGHTS_LISTED
from vtd_jax.untrusted.regular_files import read_bytes

ENDPOINT = "https://huggingface.co"
# seconds that a listing may take, without a byte and altogether
_SILENCE, _ALTOGETHER = 30.0, 60.0
_PAUSES = (1.0, 2.0)
_BLOCK = 2**20
_TOKEN_BYTES = 2**16


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the hub says of a repository at a revision.

    Attributes:
      commit: that the revision is.
      sizes: path -> bytes; None where the hub does not say.
      hashes: path -> hex digits, 64 of a SHA-256 or 40 of a git blob; "" where it does not say.
      card: what the head of the repository's README says, as the hub read it; {} for nothing.
    """

    commit: str
    sizes: dict[str, int | None]
    hashes: dict[str, str]
    card: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Large(TypedDict, total=False):
    sha256: str
    size: Count | None


class _File(TypedDict, total=False):
    rfilename: Annotated[str, msgspec.Meta(min_length=1)]
    size: Count | None
    blobId: str | None
    lfs: _Large | None


class _Answer(TypedDict, total=False):
    sha: str
    siblings: list[_File] | None
    # checked where it is used: nothing of it decides about weights
    cardData: Any


def endpoint() -> str:
    """The hub's address, `HF_ENDPOINT` where that is set.

    Raises:
      UserError: the variable is no address.
    """
    return checked_endpoint("HF_ENDPOINT", os.environ.get("HF_ENDPOINT") or ENDPOINT)


def listing_of(name: HubName) -> Listing:
    """Asks the hub.

    Raises:
      UserError: it cannot be reached or refuses, or answers what cannot be understood, more than
        any repository has, or another commit than the name's.
    """
    what = shown_name(name)
    content = _asked(name, what)
    where = f"{shown_url(endpoint())}/{name.repository}"
    try:
        answer = parse_json(content, "", _Answer)
        commit = answer.get("sha", "")
        if not is_commit(commit):
            raise UserError("it does not say which commit this is")
    except UserError as error:
        said = str(error).removeprefix(": ")
        raise UserError(
            f"{what}: {where} answered what cannot be understood ({said}); is it a hub?"
        ) from None
    if is_commit(name.revision) and commit != name.revision:
        raise UserError(f"{what}: {where} answered with another commit, {commit}: not taken")
    files = answer.get("siblings") or []
    if len(files) > WEIGHTS_LISTED:
        raise UserError(
            f"{what}: a listing of {len(files):,} files, expected at most {WEIGHTS_LISTED:,}"
        )
    sizes, hashes = {}, {}
    for file in files:
        large = file.get("lfs") or {}
        path = file.get("rfilename", "")
        size = file.get("size")
        sizes[path] = large.get("size") if size is None else size
        digest = large.get("sha256") or file.get("blobId") or ""
        hashes[path] = digest if is_hash(digest) else ""
    card = answer.get("cardData")
    return Listing(commit, sizes, hashes, card if isinstance(card, dict) else {})


def source_of(name: HubName, listing: Listing, file: str) -> Source:
    """Where a file of a listing is, and what it must be.

    Raises:
      UserError: the listing does not say its hash, so nobody could check it.
    """
    digest, size = listing.hashes[file], listing.sizes[file]
    if not digest or (size is None and len(digest) == 40):
        raise UserError(
            f"{shown_name(name)}: the listing of {shown_url(endpoint())} says no hash of {file}, "
            "so it could not be checked: not fetched"
        )
    quoted = urllib.parse.quote(file)
    return Source(
        f"{shown_name(name)}: {file}",
        f"{endpoint()}/{name.repository}/resolve/{listing.commit}/{quoted}",
        digest,
        WEIGHTS_BYTES if size is None else size,
        headers=_headers(),
        why=lambda _, error: why(name, endpoint(), error),
    )


def _asked(name: HubName, what: str) -> bytes:
    """The listing as it came.

    A person at the terminal who allows the download does not allow the token with it: the hub is
    asked without, and where this does not do, whether to send it is a question of its own.
    """
    headers = _headers()
    is_allowed = not headers or answer() is not None
    try:
        try:
            return _tried(name, what, headers if is_allowed else {})
        except urllib.error.HTTPError as error:
            if is_allowed or not _may_be_private(error):
                raise
        ask_token(what, f"{shown_url(endpoint())}/{name.repository}")
        return _tried(name, what, headers)
    except UserError:
        raise
    except BROKEN as error:
        raise UserError(f"{what}: {why(name, endpoint(), error)}") from None


def _may_be_private(error: urllib.error.HTTPError) -> bool:
    """Whether an account may be shown what everyone is not; too many requests are of everyone."""
    is_known = error.headers.get("X-Error-Code") == "RevisionNotFound"
    return error.code in (401, 403, 404, 429) and not is_known


def _tried(name: HubName, what: str, headers: Mapping[str, str]) -> bytes:
    """Asks again where the server fails."""
    revision = urllib.parse.quote(name.revision, safe="")
    kind = "" if is_data_set(name.repository) else "models/"
    url = f"{endpoint()}/api/{kind}{name.repository}/revision/{revision}?blobs=true"
    for pause in (*_PAUSES, None):
        try:
            return _read_listing(url, headers, what)
        except UserError:
            raise
        except BROKEN as error:
            # one that took all of its time is not asked again
            if pause is None or is_lasting(error) or isinstance(error, Broken):
                raise
            time.sleep(pause)
    raise AssertionError


def _read_listing(url: str, headers: Mapping[str, str], what: str) -> bytes:
    found = bytearray()
    with (
        Watch(_ALTOGETHER) as watch,
        send(url, headers, timeout=_SILENCE, watch=watch) as reply,
    ):
        while block := read(reply, _BLOCK, watch):
            found += block
            if len(found) > SMALL_JSON_BYTES:
                raise UserError(
                    f"{what}: {shown_url(url)} sends more than {SMALL_JSON_BYTES:,} bytes, far "
                    "more than a listing has: stopped"
                )
    return bytes(found)


def _headers() -> dict[str, str]:
    """The token that the hub's own programs would send.

    Raises:
      UserError: it has characters that no header can have.
    """
    token = _token()
    if not all("!" <= character <= "~" for character in token):
        raise UserError(
            "HF_TOKEN: has characters that no token has, expected letters and digits as in hf_…"
        )
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str:
    """As `huggingface_hub.get_token` finds it, but without a request.

    That one renews a token of a file which is about to end, and exchanges one for HF_OIDC_RESOURCE:
    over its own client, before consent, and it prints what the server says.
    """
    # a second for the import, and only at the hub
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    text = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not text and Path(constants.HF_TOKEN_PATH).is_file():
        text = read_bytes(constants.HF_TOKEN_PATH, "token", _TOKEN_BYTES).decode(errors="replace")
    if not text and not os.environ.get("HF_OIDC_RESOURCE"):
        text = get_token() or ""
    return text.strip()
