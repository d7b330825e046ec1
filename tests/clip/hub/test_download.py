"""One file over HTTP, against a real server: resumed, checked, bounded, and errors in one line."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from support.hub.server import Fault, serving, sha256
from vtd_jax.clip.hub.download import Source, download, size_of
from vtd_jax.errors import UserError

DATA = bytes(range(256)) * 2000
PATH = "/models/file.pt"


class Counter:
    """The progress of a download."""

    done = 0
    total = None

    def update(self, done, total=None):
        """As `Progress.update`."""
        self.done, self.total = done, total


@pytest.fixture
def hub():
    with serving() as found:
        found.files[PATH] = DATA
        yield found


def _source(hub, most=10**9, path=PATH, timeout=5.0) -> Source:
    return Source("NAME", hub.url + path, sha256(DATA), most, timeout, (0.01, 0.01, 0.01))


def _fetch(hub, folder, **changes) -> Counter:
    counter = Counter()
    download(_source(hub, **changes), folder / "file.pt", counter)
    return counter


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_under_its_name(hub, tmp_path):
    assert size_of(_source(hub)) == len(DATA)
    counter = _fetch(hub, tmp_path)
    assert (tmp_path / "file.pt").read_bytes() == DATA
    assert (counter.done, counter.total) == (len(DATA), len(DATA))
    assert _left(tmp_path) == ["file.pt"]


def test_an_abort_in_the_middle_is_resumed_at_its_byte(hub, tmp_path):
    hub.faults.append(Fault("GET", "abort", times=1))
    _fetch(hub, tmp_path)
    assert (tmp_path / "file.pt").read_bytes() == DATA
    ranges = [asked for method, _, asked in hub.requests if method == "GET"]
    assert ranges == ["", f"bytes={len(DATA) // 2}-"]


def test_many_aborts_are_resumed_while_bytes_arrive_and_given_up_when_none_do(hub, tmp_path):
    hub.faults.append(Fault("GET", "abort", times=6, after=70_000))
    _fetch(hub, tmp_path)
    assert (tmp_path / "file.pt").read_bytes() == DATA
    (tmp_path / "file.pt").unlink()
    hub.faults.append(Fault("GET", "abort", after=100))
    with pytest.raises(UserError, match=r"ended at [\d,]+ of 512,000 bytes.* are kept"):
        _fetch(hub, tmp_path)
    assert _left(tmp_path) == [f".file.pt.{sha256(DATA)[:8]}.part"]
    # the next call takes up what is there
    hub.faults.clear()
    hub.requests.clear()
    _fetch(hub, tmp_path)
    assert hub.requests[0][2].startswith("bytes=")
    assert _left(tmp_path) == ["file.pt"]


def test_a_server_that_ignores_range_starts_again(hub, tmp_path):
    hub.faults += [Fault("GET", "abort", times=1), Fault("GET", "no_range")]
    _fetch(hub, tmp_path)
    assert (tmp_path / "file.pt").read_bytes() == DATA
    assert hub.gets(PATH) == 2


def test_a_whole_part_is_taken_without_a_request(hub, tmp_path):
    part = tmp_path / f".file.pt.{sha256(DATA)[:8]}.part"
    part.write_bytes(DATA)
    counter = _fetch(hub, tmp_path)
    assert (counter.done, counter.total) == (len(DATA), len(DATA))
    assert hub.requests == []
    assert (tmp_path / "file.pt").read_bytes() == DATA
    assert _left(tmp_path) == ["file.pt"]
    # a file of the hub that has the hash of a git blob
    blob = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    (tmp_path / f".small.json.{blob[:8]}.part").write_bytes(DATA)
    source = dataclasses.replace(_source(hub), digest=blob, most=len(DATA))
    download(source, tmp_path / "small.json", Counter())
    assert hub.requests == []
    assert _left(tmp_path) == ["file.pt", "small.json"]


def test_a_part_as_long_as_the_file_is_not_trusted(hub, tmp_path):
    part = tmp_path / f".file.pt.{sha256(DATA)[:8]}.part"
    for extra in (0, 5):
        part.write_bytes(b"\0" * (len(DATA) + extra))
        _fetch(hub, tmp_path)
        assert (tmp_path / "file.pt").read_bytes() == DATA


def test_wrong_bytes_are_removed_and_both_hashes_named(hub, tmp_path):
    hub.faults.append(Fault("GET", "wrong", times=1))
    with pytest.raises(UserError, match=f"expected {sha256(DATA)}.*it was removed"):
        _fetch(hub, tmp_path)
    assert _left(tmp_path) == []
    _fetch(hub, tmp_path)


def test_an_endless_body_ends(hub, tmp_path):
    hub.faults.append(Fault("GET", "endless"))
    with pytest.raises(UserError, match="sends more than the 3,000,000 bytes"):
        _fetch(hub, tmp_path, most=3_000_000)
    assert not (tmp_path / "file.pt").exists()


def test_a_larger_file_than_any_is_refused_before_its_body(hub, tmp_path):
    with pytest.raises(UserError, match="is 512,000 bytes, expected at most 1,000"):
        _fetch(hub, tmp_path, most=1000)


@pytest.mark.parametrize(
    "status, said",
    [(404, "does not have it"), (401, "refuses it .HTTP 401"), (403, "refuses it .HTTP 403")],
)
def test_a_refusal_is_one_line_at_once(hub, tmp_path, status, said):
    hub.faults.append(Fault(PATH, "status", status=status))
    with pytest.raises(UserError, match=said) as caught:
        _fetch(hub, tmp_path)
    assert hub.gets(PATH) == 1
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=said):
        size_of(_source(hub))


def test_a_failure_of_the_server_is_tried_again(hub, tmp_path):
    hub.faults.append(Fault("GET", "status", times=2, status=503))
    _fetch(hub, tmp_path)
    assert hub.gets(PATH) == 3


@pytest.mark.parametrize("kind", ["drip", "drip headers"])
def test_a_server_that_gives_next_to_nothing_is_given_up(hub, tmp_path, kind):
    hub.faults.append(Fault("GET", kind, pause=0.05))
    source = dataclasses.replace(_source(hub), pauses=(0.01,), patience=0.5)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"next to nothing arrived in 0.5 s"):
        download(source, tmp_path / "file.pt", Counter())
    assert time.monotonic() - start < 4
    # one that is only slow is not
    hub.faults[:] = [Fault("GET", "slow", pause=0.05)]
    started = threading.active_count()
    download(dataclasses.replace(source, patience=0.9), tmp_path / "other.pt", Counter())
    assert (tmp_path / "other.pt").read_bytes() == DATA
    assert threading.active_count() <= started


def test_a_size_that_fails_once_is_asked_again(hub):
    hub.faults.append(Fault("HEAD", "status", status=503, times=1))
    assert size_of(_source(hub)) == len(DATA)
    hub.faults.append(Fault("HEAD", "status", status=503))
    with pytest.raises(UserError, match=r"the server fails .HTTP 503 .*: try again later"):
        size_of(_source(hub))


def test_a_server_without_head_says_no_size(hub):
    hub.faults.append(Fault("HEAD", "status", status=405))
    assert size_of(_source(hub)) is None


@pytest.mark.parametrize(
    "to", ["http://example.com/f?key=s3cr", "file:///etc/passwd", "ftp://me:s3cr@x/y"]
)
def test_redirects_lead_to_https_only(hub, tmp_path, to):
    hub.faults.append(Fault("GET", "redirect", to=to))
    with pytest.raises(UserError, match=r"redirects to .*not https.*not followed") as caught:
        _fetch(hub, tmp_path)
    assert "s3cr" not in str(caught.value)


def test_a_server_here_may_redirect_to_another_one_here(hub, tmp_path):
    there = hub.url.replace("127.0.0.1", "localhost") + PATH
    hub.faults.append(Fault("/old", "redirect", to=there))
    _fetch(hub, tmp_path, path="/old")
    assert (tmp_path / "file.pt").read_bytes() == DATA


def test_a_silent_server_is_given_up(hub, tmp_path):
    hub.faults.append(Fault("GET", "slow", pause=0.5))
    with pytest.raises(UserError, match=r"cannot be reached .no answer in time"):
        _fetch(hub, tmp_path, timeout=0.1)


def test_no_server_and_a_wrong_proxy_are_told_apart(tmp_path, monkeypatch):
    with serving() as hub:
        source = _source(hub)
    with pytest.raises(UserError, match=r"cannot be reached .*is this machine online"):
        size_of(source)
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(UserError, match="through the proxy of http_proxy"):
        size_of(source)


# what a process of its own runs: a download to `argv[2]`, of which it may write so many bytes
_CHILD = textwrap.dedent("""
    import resource, sys
    from pathlib import Path
    from vtd_jax.clip.hub.download import Source, download
    url, target, digest, most = sys.argv[1:]
    if int(most):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
    class Counter:
        def update(self, done, total=None):
            print(done, flush=True)
    try:
        download(Source("NAME", url, digest, 10**9), Path(target), Counter())
    except KeyboardInterrupt as stopped:
        print("stopped:", stopped)
    except ValueError as error:
        print("error:", error)
""")


def _child(hub, target, most=0) -> subprocess.Popen:
    call = [sys.executable, "-c", _CHILD, hub.url + PATH, str(target), sha256(DATA), str(most)]
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(
        call,
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(root)),
    )


@pytest.mark.command
def test_a_full_disk_is_one_line_and_the_part_is_resumed(hub, tmp_path):
    said = _child(hub, tmp_path / "file.pt", most=100_000).communicate()[0].splitlines()[-1]
    assert said.startswith("error: ")
    assert "make room" in said
    assert not (tmp_path / "file.pt").exists()
    hub.requests.clear()
    _fetch(hub, tmp_path)
    assert hub.requests[0][2] == "bytes=100000-"


@pytest.mark.killed
def test_ctrl_c_keeps_the_part(hub, tmp_path):
    hub.faults.append(Fault("GET", "slow", pause=0.1))
    child = _child(hub, tmp_path / "file.pt")
    for line in child.stdout:
        if int(line) > 0:
            break
    child.send_signal(signal.SIGINT)
    said = child.communicate()[0].splitlines()[-1]
    assert said.startswith("stopped: ")
    assert "are kept; the same command resumes" in said
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    hub.faults.clear()
    start = time.monotonic()
    _fetch(hub, tmp_path)
    assert time.monotonic() - start < 30
    assert hub.requests[-1][2] != ""
