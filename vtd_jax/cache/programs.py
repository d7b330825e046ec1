"""Compiled programs kept on disk, so that a command's second start does not compile again; for
commands, not on import.

JAX does it (its persistent compilation cache); here it is told where, and what is worth a file.
Whatever its own variables (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE`, …) or its
config say comes first.
"""

import importlib.util
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from vtd_jax.cache.folder import PRIVATE, VARIABLE, cache_folder, make_folders, why_not_ours
from vtd_jax.fingerprints import fingerprint
from vtd_jax.terminal import warn

# below the cache folder
FOLDER = "programs"
# bytes of one machine's programs; the ones not used for longest go
MAX_SIZE = 4 * 2**30
# seconds: what compiles faster is not worth reading a file
MIN_SECONDS = 0.2
# the lines of /proc/cpuinfo that say for what XLA's programs are made, on x86 and on ARM
_CPU = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "flags",
    "CPU implementer",
    "CPU part",
    "Features",
)


def programs_folder() -> Path:
    """Where this machine's programs are kept: XLA's for CPUs run on no other kind of CPU, and with
    one jaxlib only.
    """
    made_for = "\n".join([platform.system(), platform.machine(), *_cpu(), version("jaxlib")])
    return cache_folder() / FOLDER / fingerprint(made_for)


def keep_programs() -> Path | None:
    """Has this process, and those that it starts, read and keep compiled programs; call it before
    anything compiles.

    With several processes JAX reads in all and writes in the first. Compiled programs are native
    code: folders are made for this user alone, and nothing is read from one into which others can
    write.

    Returns:
      The folder; None where JAX was told itself what to do, or where the folder cannot be written
      or is not this user's alone, which is one warning and stops nothing.
    """
    if _decided():
        return None
    try:
        folder = programs_folder()
        # nothing is made where a link leads
        why = f"{folder.parent} is a link" if folder.parent.is_symlink() else ""
        if not why:
            make_folders(folder, PRIVATE)
        if why := why or why_not_ours(folder):
            warn(
                f"{folder}: compiled programs are code, and none is read from there ({why}), so "
                "every start compiles again; remove it, make it yours alone (chmod go-w), or set "
                f"{VARIABLE} to another folder"
            )
            return None
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home
        why = getattr(error, "strerror", None) or error
        warn(
            f"{cache_folder_told()}: compiled programs cannot be kept there ({why}), so every "
            f"start compiles again; set {VARIABLE} to a folder that can be written, or "
            "JAX_ENABLE_COMPILATION_CACHE=false"
        )
        return None
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": MIN_SECONDS,
    }
    # JAX needs it to delete what was not used for longest
    if importlib.util.find_spec("filelock") is not None:
        settings["jax_compilation_cache_max_size"] = MAX_SIZE
    for name, value in settings.items():
        _set(name, value)
    return folder


def cache_folder_told() -> str:
    """The cache folder for messages; as it is written where there is no home to put in."""
    try:
        return str(cache_folder())
    except RuntimeError:
        return os.environ.get(VARIABLE) or "~/.cache/vtd_jax"


def _decided() -> bool:
    """Whether JAX was told already where to keep programs, or not to."""
    if "jax" in sys.modules:
        config = sys.modules["jax"].config
        return (
            config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache
        )
    told = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower()
    return "JAX_COMPILATION_CACHE_DIR" in os.environ or told not in (
        "y",
        "yes",
        "t",
        "true",
        "on",
        "1",
    )


def _set(name: str, value: str | float) -> None:
    """One setting of JAX, which its variable overrules; JAX reads its variables when it is first
    imported.
    """
    if name.upper() in os.environ:
        return
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name, value)
    else:
        os.environ[name.upper()] = str(value)


def _cpu() -> list[str]:
    """What tells kinds of CPUs apart."""
    try:
        first = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        )
    except OSError:
        return [platform.processor()]
    return [line for line in first.splitlines() if line.split(":")[0].strip() in _CPU]
