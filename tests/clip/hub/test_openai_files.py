"""OpenAI's files: from a mirror on loopback, from `~/.cache/clip`, once for several processes."""

import base64
import os
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.hub.server import Fault, serving, sha256
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.clip.hub.resolve import held, resolve
from vtd_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
DATA = bytes(range(256)) * 4000
DIGEST = sha256(DATA)
PATH = f"/clip/models/{DIGEST}/ViT-B-32.pt"


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A mirror with a small file in the place of ViT-B/32's, and empty caches."""
    monkeypatch.setitem(OPENAI, "ViT-B/32", OPENAI["ViT-B/32"]._replace(sha256=DIGEST))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
    # ViT-B/32 must not be found beside the tests
    monkeypatch.chdir(tmp_path)
    with serving() as hub:
        hub.files[PATH] = DATA
        monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", f"{hub.url}/clip/models/")
        yield hub


def test_consent_says_size_address_and_place(mirror, tmp_path):
    with pytest.raises(UserError) as caught:
        resolve("ViT-B/32")
    place = tmp_path / "cache" / "weights" / "openai" / "ViT-B-32.pt"
    assert str(caught.value) == (
        "ViT-B/32: not on this machine; `download=True` or VTD_JAX_DOWNLOAD=1 downloads about "
        f"353.1 MB from {mirror.url}{PATH} into {place}"
    )
    assert mirror.requests == []
    assert resolve("ViT-B/32", download=True).path == place
    assert place.read_bytes() == DATA
    mirror.requests.clear()
    assert resolve("openai:ViT-B/32").path == held("ViT-B/32") == place
    assert mirror.requests == []


def test_a_variable_that_is_neither_yes_nor_no(mirror, monkeypatch):
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "maybe")
    monkeypatch.setenv("HF_ENDPOINT", mirror.url)
    for name in ("ViT-B/32", "hf:org/tiny", "open_clip:ViT-B-16/openai", "gs://b/m"):
        with pytest.raises(UserError, match="VTD_JAX_DOWNLOAD='maybe': expected 1 or 0"):
            resolve(name)
    assert mirror.requests == []


@pytest.mark.parametrize("variable", ["VTD_JAX_OPENAI_ENDPOINT", "HF_ENDPOINT"])
@pytest.mark.parametrize(
    "text",
    ["file:///etc", "http://", "host", "http://h:x", "http://h/?a=1", "http://[", "http://h h"],
)
def test_an_address_that_is_none(mirror, monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(UserError, match=f"{variable}='.*': expected an address"):
        resolve("ViT-B/32" if "OPENAI" in variable else "hf:org/tiny", download=True)


def test_a_server_without_head_has_an_unknown_size(mirror, capfd):
    mirror.faults.append(Fault("HEAD", "status", status=405))
    resolve("ViT-B/32", download=True)
    assert "downloading an unknown size from" in capfd.readouterr().err


def test_a_password_in_an_address_is_sent_and_never_shown(mirror, monkeypatch, capfd):
    own = mirror.url.replace("http://", "http://me:s3cr%40t@")
    monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", f"{own}/clip/models")
    with pytest.raises(UserError) as caught:
        resolve("ViT-B/32")
    said = str(caught.value)
    mirror.faults.append(Fault("HEAD", "status", status=403))
    with pytest.raises(UserError, match="refuses it") as caught:
        resolve("ViT-B/32", download=True)
    said += str(caught.value)
    mirror.faults.clear()
    mirror.token = "Basic " + base64.b64encode(b"me:s3cr@t").decode()
    resolve("ViT-B/32", download=True)
    monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", "ftp://me:s3cr%40t@host")
    with pytest.raises(UserError) as caught:
        resolve("RN50", download=True)
    said += str(caught.value) + "".join(capfd.readouterr())
    assert "s3cr" not in said
    assert mirror.url in said


def test_a_home_that_nobody_knows(mirror, monkeypatch):
    for variable, name in (("HF_HOME", "hf:org/m"), ("VTD_JAX_CACHE", "ViT-B/32")):
        monkeypatch.setenv(variable, "~nobody-of-this-name/x")
        with pytest.raises(
            UserError, match=f"{variable}: the folder of ~nobody-of-this-name is not"
        ):
            resolve(name, download=True)


def test_openais_own_cache_is_taken_and_hashed_once(mirror, tmp_path):
    own = tmp_path / ".cache" / "clip" / "ViT-B-32.pt"
    own.parent.mkdir(parents=True)
    own.write_bytes(DATA)
    assert resolve("ViT-B/32").path == own
    (note,) = (tmp_path / "cache" / "weights" / "verified").iterdir()
    # the note is of this size, time and hash: with another time it is read again
    kept = own.stat()
    own.write_bytes(b"\0" * len(DATA))
    os.utime(own, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert resolve("ViT-B/32").path == own, "not read again"
    os.utime(own, ns=(1, 1))
    assert held("ViT-B/32") is None
    # nor is a note believed that others could have written
    os.utime(own, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    note.chmod(0o666)
    assert held("ViT-B/32") is None
    assert mirror.requests == []


def test_another_file_of_that_name_is_not_taken(mirror, tmp_path, capfd):
    own = tmp_path / ".cache" / "clip" / "ViT-B-32.pt"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"another model")
    path = resolve("ViT-B/32", download=True).path
    assert path.read_bytes() == DATA
    assert f"warning: {own}: is not OpenAI's ViT-B/32" in capfd.readouterr().err
    assert own.read_bytes() == b"another model"


def test_a_download_that_died_before_its_last_step_is_taken(mirror, tmp_path):
    place = tmp_path / "cache" / "weights" / "openai" / "ViT-B-32.pt"
    place.parent.mkdir(parents=True)
    part = place.with_name(f".{place.name}.{DIGEST[:8]}.part")
    part.write_bytes(DATA)
    assert resolve("ViT-B/32", download=True).path == place
    assert place.read_bytes() == DATA
    assert not part.exists()
    assert mirror.requests == []
    # one with other bytes is not
    place.unlink()
    part.write_bytes(DATA[::-1])
    assert resolve("ViT-B/32", download=True).path.read_bytes() == DATA
    assert mirror.gets(PATH) > 0


def test_no_room_is_found_before_the_download(mirror):
    mirror.files[PATH] = Huge()
    with pytest.raises(UserError, match=r"do not fit into .*: make room, or set VTD_JAX_CACHE"):
        resolve("ViT-B/32", download=True)


class Huge(bytes):
    """Bytes whose length is beyond every disk."""

    def __len__(self):
        return 10**17

    def __getitem__(self, _):
        return self


# what a process of its own runs: the table has the small file, too
_CHILD = textwrap.dedent("""
    import sys
    from vtd_jax.clip.hub.openai import OPENAI
    from vtd_jax.clip.hub.resolve import resolve
    from vtd_jax.terminal import print_lines
    print_lines()
    OPENAI["ViT-B/32"] = OPENAI["ViT-B/32"]._replace(sha256=sys.argv[1])
    try:
        print(resolve("ViT-B/32").path)
    except ValueError as error:
        print("error:", error)
""")


def _child(**options) -> subprocess.Popen:
    own = dict(os.environ, PYTHONPATH=str(ROOT))
    own |= options.pop("env", {})
    return subprocess.Popen([sys.executable, "-c", _CHILD, DIGEST], env=own, **options)


@pytest.mark.command
def test_several_processes_download_once(mirror, tmp_path):
    mirror.faults.append(Fault("GET", "slow", pause=0.1))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [_child(env={"VTD_JAX_DOWNLOAD": "1"}, **pipes) for _ in range(3)]
    said = [child.communicate() for child in children]
    assert len({out for out, _ in said}) == 1
    assert said[0][0].strip().endswith("ViT-B-32.pt")
    assert mirror.gets(PATH) == 1
    waited = [err for _, err in said if "ViT-B/32: waiting for process" in err]
    assert len(waited) == 2


@pytest.mark.command
@pytest.mark.parametrize("typed, fetched", [("y\n", True), ("\n", False), ("n\n", False)])
def test_a_terminal_is_asked(mirror, typed, fetched):
    ours, theirs = pty.openpty()
    child = _child(stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    asked = b""
    while b"[y/N]" not in asked:
        asked += os.read(ours, 1000)
    # not its size either
    assert mirror.requests == []
    os.write(ours, typed.encode())
    said = child.communicate()[0]
    os.close(ours)
    text = " ".join(asked.decode().split())
    assert "ViT-B/32 is not on this machine. Download about 353.1 MB from http://127.0.0.1" in text
    assert said.startswith("error: ViT-B/32: not downloaded") != fetched
    assert mirror.gets(PATH) == fetched
