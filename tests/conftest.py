"""Shared fixtures: eight simulated devices, runtime shape checks, and the folder of golden numbers."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# what is started in the background ignores Ctrl-C, and so would the commands that tests start and
# interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["JAX_PLATFORMS"] = "cpu"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
    )
# what one worker or command compiled, all others of this session find; the workers of xdist are
# given the folder
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vtd_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# and nobody's own text features are touched
os.environ["VTD_JAX_CACHE"] = os.path.join(os.environ["JAX_COMPILATION_CACHE_DIR"], "text")

from jaxtyping import install_import_hook

import support.typecheck  # noqa: F401

install_import_hook("vtd_jax", "support.typecheck.check")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VTD_JAX_SHARED", ROOT.parent / "shared"))


def pytest_collection_modifyitems(config, items):
    """Drops the tests that need ../shared where there is no such folder."""
    if not SHARED.is_dir():
        dropped = [item for item in items if item.get_closest_marker("shared")]
        items[:] = [item for item in items if not item.get_closest_marker("shared")]
        config.hook.pytest_deselected(items=dropped)


def pytest_terminal_summary(terminalreporter):
    """Says how many checks against golden numbers, real lists and real clips ran."""
    ran = [r for r in terminalreporter.stats.get("passed", []) if "shared" in r.keywords]
    where = "../shared found" if SHARED.is_dir() else "no ../shared: those checks were left out"
    terminalreporter.write_line(
        f"golden numbers, lists and real clips: {len(ran)} tests passed ({where})"
    )


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden/, splits/, videos/ and vocab/."""
    return SHARED
