"""Sets up JAX's persistent compilation cache, so that a command's second start compiles nothing.

JAX's own variables (`JAX_COMPILATION_CACHE_DIR`, `JAX_ENABLE_COMPILATION_CACHE`, …) and its config
take precedence.
"""

import importlib.util
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from vtd_jax.cache.folder import why_not_ours
from vtd_jax.errors import UserError
from vtd_jax.files import CACHE_VARIABLE, PRIVATE, cache_folder, make_folders
from vtd_jax.fingerprints import fingerprint
from vtd_jax.terminal import warn

# below the cache folder
FOLDER = "programs"
# bytes of one machine's programs; the least recently used are deleted
MAX_SIZE = 4 * 2**30
# seconds: reading a file does not pay for a program that compiles faster
MIN_SECONDS = 0.2
# the lines of /proc/cpuinfo on which XLA's code depends, on x86 and on ARM
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
    """The folder for this machine: XLA's programs fit one kind of CPU and one jaxlib."""
    made_for = "\n".join([platform.system(), platform.machine(), *_cpu(), version("jaxlib")])
    return cache_folder() / FOLDER / fingerprint(made_for)


def keep_programs() -> Path | None:
    """Turns the cache on, for this process and those that it starts; call it before any compiling.

    With several processes JAX reads in all and writes in the first. Compiled programs are native
    code: the folder is private, and one into which others can write is not used.

    Returns:
      The folder; None where JAX's own settings decide, or where the folder cannot be used, which is
      a warning.
    """
    if _decided():
        return None
    try:
        folder = programs_folder()
        # a link could lead to a folder of others, where nothing may be made
        why = f"{folder.parent} is a link" if folder.parent.is_symlink() else ""
        if not why:
            make_folders(folder, PRIVATE)
        if why := why or why_not_ours(folder):
            warn(
                f"{folder}: is not used for compiled programs, which are code ({why}); every start "
                "compiles again; remove it, make it yours alone (chmod go-w), or set "
                f"{CACHE_VARIABLE} to another folder"
            )
            return None
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, UserError) as error:
        # UserError: there is no home directory
        why = getattr(error, "strerror", None) or error
        warn(
            f"{_folder_text()}: compiled programs cannot be kept there ({why}), so every "
            f"start compiles again; set {CACHE_VARIABLE} to a folder that can be written, or "
            "JAX_ENABLE_COMPILATION_CACHE=false"
        )
        return None
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": MIN_SECONDS,
    }
    # JAX needs it to delete the least recently used programs
    if importlib.util.find_spec("filelock") is not None:
        settings["jax_compilation_cache_max_size"] = MAX_SIZE
    for name, value in settings.items():
        _set(name, value)
    return folder


def _folder_text() -> str:
    """The cache folder for messages, unexpanded where there is no home directory."""
    try:
        return str(cache_folder())
    except UserError:
        return os.environ.get(CACHE_VARIABLE) or "~/.cache/vtd_jax"


def _decided() -> bool:
    """Whether JAX's own settings already turn its cache on or off."""
    if "jax" in sys.modules:
        config = sys.modules["jax"].config
        return (
            config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache
        )
    enabled = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower()
    # the words that JAX takes for true
    yes = ("y", "yes", "t", "true", "on", "1")
    return "JAX_COMPILATION_CACHE_DIR" in os.environ or enabled not in yes


def _set(name: str, value: str | float) -> None:
    """Sets one option of JAX, unless its variable is set; JAX reads variables when imported."""
    if name.upper() in os.environ:
        return
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name, value)
    else:
        os.environ[name.upper()] = str(value)


def _cpu() -> list[str]:
    """The lines that distinguish kinds of CPUs."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [platform.processor()]
    # the first core stands for all
    first = text.split("\n\n", 1)[0]
    return [line for line in first.splitlines() if line.split(":")[0].strip() in _CPU]
