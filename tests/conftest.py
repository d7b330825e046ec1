"""Tiers of tests, runtime shape checks, compiled programs kept, the folder of golden numbers.

`pytest` runs on one device, `pytest --mesh` on eight simulated ones, where only the tests marked
`mesh` run. Both have XLA leave out optimizations that cost more than they save in tests; with
`--optimize` it compiles as for users. tests/README.md lists which run where.
"""

import atexit
import gc
import os
import shutil
import signal
import tempfile
import time
from importlib import metadata
from pathlib import Path

# what is started in the background ignores Ctrl-C, and so would the commands that tests start and
# interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["JAX_PLATFORMS"] = "cpu"
# workers and commands of one session share what was compiled; xdist's workers inherit the folder
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vtd_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# the user's own text features stay untouched, and those of another session unseen
if "PYTEST_XDIST_WORKER" not in os.environ:
    own = tempfile.mkdtemp(prefix="vtd_jax_texts_")
    os.environ["VTD_JAX_CACHE"] = os.path.join(own, "text")
    atexit.register(shutil.rmtree, own, ignore_errors=True)

import pytest
from jaxtyping import install_import_hook

import support.typecheck  # noqa: F401
from support import warm

# thousands of tests and JAX's modules are millions of objects that live to the end: as often as
# Python looks through them by itself, that is a tenth of the time
gc.set_threshold(100_000, 50, 100)

# shapes and types of arguments; a fifth of the time, and the fast tier has checked them
TYPED = "VTD_JAX_TESTS_UNTYPED" not in os.environ
if TYPED:
    install_import_hook("vtd_jax", "support.typecheck.check")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VTD_JAX_SHARED", ROOT.parent / "shared"))

# of a fast test; and its share of the tier, because seconds alone would fail on a slow machine and
# beside other work. Fewer tests than WHOLE are a part of the tier, of which a share says nothing.
FAST_SECONDS, FAST_SHARE, WHOLE = 5.0, 0.04, 1000
TIERS = {"slow", "command", "hosts", "killed", "mesh"}
# XLA then compiles in a fifth of the time, and results differ by rounding only. Numbers from
# several devices have such tight tolerances that they keep LLVM's optimization.
QUICK = [warm.UNOPTIMIZED]
# JAX 0.12 ends the process at a flag that it does not know
if metadata.version("jaxlib").startswith("0.10."):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")


def pytest_addoption(parser):
    """Adds `--fast`, `--mesh` and `--optimize`."""
    parser.addoption("--fast", action="store_true", help="the fast tier; fails what takes longer")
    parser.addoption("--mesh", action="store_true", help="tests of eight devices, and only these")
    parser.addoption("--optimize", action="store_true", help="compile as for users, which is slow")


def pytest_configure(config):
    """Sets XLA's flags before JAX reads them: the devices, and how much to optimize."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if not config.getoption("optimize"):
        flags += [flag for flag in QUICK if flag not in flags]
    os.environ["XLA_FLAGS"] = " ".join(flags)
    os.environ["XLA_FLAGS"] = warm.xla_flags(8 if config.getoption("mesh") else 1)


def pytest_collection_modifyitems(config, items):
    """Drops tests of other tiers and devices, and those that need a missing ../shared."""
    mesh = config.getoption("mesh")
    kept, dropped = [], []
    for item in items:
        runs = bool(item.get_closest_marker("mesh")) == mesh
        runs &= SHARED.is_dir() or not item.get_closest_marker("shared")
        runs &= not config.getoption("fast") or _is_fast(item)
        (kept if runs else dropped).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Notes how long a test takes."""
    start, cpu = time.monotonic(), time.process_time()
    try:
        return (yield)
    finally:
        # neither other work on the machine nor a second thread makes a test slow
        spent = min(time.monotonic() - start, time.process_time() - cpu)
        item.user_properties.append(("seconds", spent))


def pytest_sessionfinish(session):
    """Fails the fast tier for tests that take too long.

    Not with other versions or instructions, which compile for longer.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    # a worker of xdist has no reporter
    if reporter is None or not session.config.getoption("fast") or not TYPED:
        return
    passed = reporter.stats.get("passed", [])
    spent = {report.nodeid: dict(report.user_properties)["seconds"] for report in passed}
    limit = max(FAST_SECONDS, FAST_SHARE * sum(spent.values()))
    for name, seconds in spent.items() if len(spent) >= WHOLE else ():
        if seconds > limit:
            took = f"{name} took {seconds:.1f} s, more than {limit:.1f}"
            reporter.write_line(f"{took}: mark it `slow`, or make it smaller", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_fast(item) -> bool:
    return TIERS.isdisjoint(mark.name for mark in item.iter_markers())


def pytest_terminal_summary(terminalreporter):
    """Says how many checks against golden numbers, real lists and real clips ran."""
    ran = [r for r in terminalreporter.stats.get("passed", []) if "shared" in r.keywords]
    where = "../shared found" if SHARED.is_dir() else "no ../shared: those checks were left out"
    terminalreporter.write_line(
        f"golden numbers, lists and real clips: {len(ran)} tests passed ({where})"
    )


@pytest.fixture(autouse=True)
def _lines_are_printed():
    """What the library logs is printed, as in commands; console/test_logged_lines.py tests it."""
    from vtd_jax.terminal import printed

    with printed():
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden/, splits/, videos/ and vocab/."""
    return SHARED
