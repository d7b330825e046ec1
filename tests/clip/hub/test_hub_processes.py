"""Several processes at the hub, and one that is interrupted."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from support.hub.server import Fault
from vtd_jax.clip.hub.resolve import held, resolve

NAME = "hf:org/tiny"

# what a process of its own runs
_CHILD = textwrap.dedent("""
    import resource, sys
    from vtd_jax.clip.hub.resolve import resolve
    from vtd_jax.terminal import print_lines
    print_lines()
    if (most := int(sys.argv[2])):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        print(resolve(sys.argv[1]).path)
    except KeyboardInterrupt as stopped:
        print("stopped:", stopped)
    except ValueError as error:
        print("error:", error)
""")


def _child(
    name: str, most: int = 0, log: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen:
    """A process that may write files of so many bytes, 0 for any number; it logs to a file."""
    root = Path(__file__).resolve().parents[3]
    own = dict(os.environ, PYTHONPATH=str(root)) | environment
    pipes = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
    return subprocess.Popen([sys.executable, "-c", _CHILD, name, str(most)], env=own, **pipes)


@pytest.mark.command
def test_several_processes_download_once(hub, weights, tmp_path):
    hub.add("org/tiny", {"model.safetensors": weights, "config.json": b"{}"})
    slow = Fault("GET /lfs", "slow", pause=2)
    hub.faults.append(slow)
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(log.open("w")) for log in logs]
        children = [_child(NAME, log=file.fileno()) for file in files]
    while sum("hf:org/tiny: waiting for process" in log.read_text() for log in logs) < 2:
        assert None in [child.poll() for child in children], "they ended without waiting"
        time.sleep(0.05)
    slow.pause = 0
    said = [child.communicate()[0] for child in children]
    assert len(set(said)) == 1
    assert said[0].strip().endswith("model.safetensors")
    assert hub.gets("/lfs/") == hub.gets("config.json") == 1


@pytest.mark.killed
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_keeps_the_part_which_is_continued(hub, weights, tmp_path, how):
    hub.add("org/tiny", {"model.safetensors": weights, "config.json": b"{}"})
    hub.faults.append(Fault("GET /lfs", "slow", pause=0.3))
    child = _child(NAME)
    # larger than the settings, which come before
    while not [path for path in tmp_path.rglob("blobs/.*.part") if path.stat().st_size > 2]:
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    child.send_signal(how)
    out, _ = child.communicate()
    if how == signal.SIGINT:
        assert out.startswith("stopped: ")
        assert "of hf:org/tiny: model.safetensors are kept; the same command resumes" in out
    whole = [path for path in tmp_path.rglob("blobs/*") if path.suffix != ".part"]
    assert [path.read_bytes() for path in whole] == [b"{}"]
    assert held(NAME) is None
    hub.faults.clear()
    assert resolve(NAME).path.read_bytes() == weights
    assert hub.gets("config.json") == 1
    assert [asked[:6] for _, path, asked in hub.requests if "/lfs" in path] == ["", "bytes="]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.command
def test_a_full_disk_is_one_line(hub, weights, tmp_path):
    hub.add("org/tiny", {"model.safetensors": weights, "config.json": b"{}"})
    out, _ = _child(NAME, most=1_000_000).communicate()
    assert out.startswith("error: ")
    assert "make room, and give the same command again" in out
    assert held(NAME) is None
    assert resolve(NAME).path.read_bytes() == weights
    assert hub.requests[-1][2] == "bytes=1000000-"


@pytest.mark.command
def test_a_proxy_that_is_not_there_is_named(hub, weights):
    hub.add("org/tiny", {"model.safetensors": weights})
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    out, _ = _child(NAME, **proxy).communicate()
    assert out.startswith("error: hf:org/tiny: ")
    assert "cannot be reached through the proxy of http_proxy" in out
    assert hub.requests == []
