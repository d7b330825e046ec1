"""Addresses of stores and servers (`gs://…`): what gives them to fsspec, and errors in one line."""

import contextlib
import re
from collections.abc import Iterator

from vtd_jax.errors import UserError
from vtd_jax.files import remedy
from vtd_jax.installed import extras
from vtd_jax.printable import brief

# scheme -> what gives it to fsspec
_PACKAGES = {
    "gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "az": "adlfs", "abfs": "adlfs",
}  # fmt: skip
_NOT_FOUND = 404
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


def scheme_of(address: str) -> str:
    """The scheme of an address, `gs` of `gs://bucket/a.mp4`; "" for a path."""
    found = _ADDRESS.match(address)
    return found[1].lower() if found else ""


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Until the block ends, what a store's libraries raise becomes a `UserError`.

    Raises:
      UserError: names the address, and the package where one is missing.
    """
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(scheme_of(address), "the fsspec backend of that scheme")
        known = extras.missing(package) or f"{package}: pip install {package}"
        raise UserError(f"{brief(address)}: needs {known} ({brief(str(error))})") from None
    except FileNotFoundError as error:
        # of whatever a server answers, and of none at all, fsspec makes this error
        cause = error.__cause__
        if cause is not None and getattr(cause, "status", None) != _NOT_FOUND:
            raise UserError(_unreadable(address, cause)) from None
        raise UserError(f"{brief(address)}: no such file or folder") from None
    except OSError as error:
        place = error.filename or brief(address)
        raise UserError(f"{place}: {error.strerror or error}{remedy(error)}") from None
    # a backend raises errors of its own libraries
    except Exception as error:
        raise UserError(_unreadable(address, error)) from None


def _unreadable(address: str, error: BaseException) -> str:
    # the text of an error of HTTP has the whole address, and keys in it
    status = getattr(error, "status", None)
    said = str(error) if status is None else f"{status} {getattr(error, 'message', '')}"
    return f"{brief(address)}: cannot be read ({type(error).__name__}: {brief(said)})"
