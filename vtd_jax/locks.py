"""Lock files beside outputs, which name their owner and are freed when it ends."""

import contextlib
import errno
import getpass
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock

from vtd_jax.errors import UserError
from vtd_jax.outputs import beside_name
from vtd_jax.terminal import log
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.regular_files import read_bytes

# errors of file systems without locks: some network and object stores
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_OWNER_BYTES = 4096


@contextlib.contextmanager
def locked(path: Path, what: str, *, stays: bool = True, waits: bool = False) -> Iterator[None]:
    """Holds a lock for this process until the block ends; the system frees it if the process dies.

    Afterwards the file is emptied, or removed while the lock is still held, since filelock does not
    lock a removed file. On a file system without locks the existence of a file is the lock; that of
    a dead process of this host is taken over.

    Args:
      path: of the lock file, in an existing folder.
      what: name of the output in messages, such as "--workdir=runs/a".
      stays: whether to keep the file; not beside files for users.
      waits: whether to wait for another process, with a line that says which, instead of raising.

    Raises:
      UserError: another process holds the lock; says which, and on which host.
      OSError: the folder cannot be written.
    """
    path = Path(path)
    _refuse_other(path)
    try:
        lock = _acquired(path, what, waits)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        # SoftFileLock takes over the file of a dead process of this host
        soft = filelock.SoftFileLock(path.with_name(f"{path.name}.soft"), timeout=0)
        gone = f"; if it is gone, remove {soft.lock_file}"
        try:
            soft.acquire()
        except filelock.Timeout:
            if not waits:
                raise _held(path, what, gone) from None
            log(f"{what}: waiting for {_holder(path)}{gone}")
            soft.acquire(timeout=-1)
        try:
            yield
        finally:
            soft.release()
        return
    try:
        # on a full disk the lock works without a signature
        with contextlib.suppress(OSError):
            _sign(path, _signature())
        yield
    finally:
        with contextlib.suppress(OSError):
            _sign(path, b"") if stays else path.unlink()
        lock.release()


@contextlib.contextmanager
def locked_outputs(outputs: Iterable[tuple[str, Path, bool]]) -> Iterator[None]:
    """Locks the outputs of a command for this process, and creates their folders.

    The lock of a file is `.NAME.lock` beside it, of a folder `.vtd_jax.lock` in it. Afterwards lock
    files are removed, and folders that were created here if they are empty.

    Args:
      outputs: `(flag, path, whether it is a folder)`.

    Raises:
      UserError: another process writes one of them; says which.
      OSError: a folder cannot be created or written.
    """
    with contextlib.ExitStack() as stack:
        held = set()
        for flag, path, is_folder in outputs:
            folder = path if is_folder else path.parent
            for made in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
                # runs after its lock is removed
                stack.callback(_remove_empty, made)
            folder.mkdir(parents=True, exist_ok=True)
            name = (
                ".vtd_jax.lock" if is_folder else beside_name(Path(f".{path.name}"), ".lock").name
            )
            lock = Path(os.path.realpath(folder), name)
            if lock not in held:
                held.add(lock)
                stack.enter_context(locked(lock, f"{flag}={path}", stays=False))
        yield


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _acquired(path: Path, what: str, waits: bool) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path, timeout=0, mode=0o644)
    try:
        lock.acquire()
    except filelock.Timeout:
        if not waits:
            raise _held(path, what) from None
        log(f"{what}: waiting for {_holder(path)}")
        lock.acquire(timeout=-1)
    return lock


def _refuse_other(path: Path) -> None:
    # a lock is opened for writing: through a link another file would be emptied
    if path.is_symlink():
        raise UserError(f"{path}: a link in the place of a lock file; remove it")
    if path.is_dir():
        raise UserError(f"{path}: a folder in the place of a lock file; move it away")


def _sign(path: Path, content: bytes) -> None:
    """Writes the owner into the lock file."""
    number = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(number, "wb") as file:
        file.write(content)


def _signature() -> bytes:
    program = Path(sys.argv[0])
    # `python -m experiments.predict` runs the `__main__.py` of a folder
    name = program.parent.name if program.name == "__main__.py" else program.name
    command = " ".join([name, *sys.argv[1:]])[:200]
    return json.dumps(
        {"host": socket.gethostname(), "pid": os.getpid(), "user": _user(), "command": command}
    ).encode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _owner(path: Path) -> dict[str, object]:
    """The owner in a lock file; {} if it cannot be read."""
    try:
        return parse_json(read_bytes(path, "lock", _OWNER_BYTES), str(path), dict[str, str | int])
    except (OSError, UserError):
        return {}


def _holder(path: Path) -> str:
    owner = _owner(path)
    if "pid" not in owner:
        return "a process"
    return f"process {owner['pid']} on {owner['host']} ({owner.get('command', '')})"


def _held(path: Path, what: str, remedy: str = "") -> UserError:
    return UserError(
        f"{what}: {_holder(path)} is writing there; wait for it or stop it, or give another "
        f"path{remedy}"
    )
