"""Videos at addresses in calls of a predictor: consent, failures and names, as those of files."""

import numpy as np
import pytest

import vtd_jax
from support.hub.server import Fault, serving
from support.small_model import LABELS
from vtd_jax.errors import UserError
from vtd_jax.predict.job import Failure


@pytest.fixture
def server(monkeypatch, tmp_path, clips):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
    with serving() as found:
        found.files |= {f"/red/{path.name}": path.read_bytes() for path in clips}
        found.files["/red/noise.mp4"] = b"no video at all" * 99
        yield found


CALLS = {
    "predict": lambda model, video, **how: model.predict(video, LABELS, **how),
    "explain": lambda model, video, **how: model.explain(video, LABELS, **how),
    "stream": lambda model, video, **how: list(model.stream([video], LABELS, **how)),
    "an iterator": lambda model, video, **how: list(model.predict(iter([video]), LABELS, **how)),
    "timeline": lambda model, video, **how: model.timeline(video, LABELS, window=1.0, **how),
    "encode_videos": lambda model, video, **how: list(model.encode_videos([video], **how)),
    "embed_video": lambda model, video, **how: model.embed_video(video, **how),
    "read_video": lambda model, video, **how: vtd_jax.read_video(video, 2, **how),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_does_what_its_refusal_says(server, learnt, call):
    address = f"{server.url}/red/9.mp4"
    with pytest.raises(UserError, match=r"9.mp4: not on this machine; `download=True` or VTD"):
        call(learnt, address)
    assert server.requests == []
    call(learnt, address, download=True)
    assert server.gets("9.mp4") == 1
    # a copy needs no consent
    call(learnt, address, download=False)


def test_consent_is_for_the_call_alone(server, learnt):
    drawn = learnt.predict(
        iter([f"{server.url}/red/9.mp4", f"{server.url}/red/25.mp4"]),
        LABELS,
        download=True,
        workers=0,
        deterministic=True,
    )
    assert next(drawn).label in LABELS
    assert server.gets("25.mp4") == 0
    with pytest.raises(UserError, match=r"50.mp4: not on this machine"):
        learnt.predict(f"{server.url}/red/50.mp4", LABELS)
    assert next(drawn).video.endswith("/red/25.mp4")


@pytest.mark.parametrize("many", [list, iter], ids=["list", "iterator"])
def test_an_address_that_fails_is_a_failure_of_its_video(server, learnt, clips, many):
    names = ("9.mp4", "none.mp4", "noise.mp4", "25.mp4")
    videos = [f"{server.url}/red/{name}" for name in names]
    videos[2:2] = ["htp://a.b/c.mp4", clips[0]]
    found = list(learnt.predict(many(videos), LABELS, on_error="return", download=True))
    assert [one.video for one in found] == list(map(str, videos))
    assert [isinstance(one, Failure) for one in found] == [0, 1, 1, 0, 1, 0]
    assert "the server does not have it" in str(found[1].error)
    assert "expected a path, or an address" in str(found[2].error)
    scores = learnt.predict(clips[1], LABELS).scores
    np.testing.assert_allclose(found[0].scores, scores, rtol=1e-5)
    with pytest.raises(UserError, match=r"none.mp4: the server does not have it"):
        list(learnt.predict(many(videos), LABELS, download=True))


def test_one_address_that_fails(server, learnt):
    dead = f"{server.url}/red/none.mp4"
    for call in (learnt.predict, learnt.timeline):
        failure = call(dead, LABELS, on_error="return", download=True)
        assert isinstance(failure, Failure)
        assert failure.to_dict()["video"] == dead
        with pytest.raises(UserError, match=r"none.mp4: the server does not have it"):
            call(dead, LABELS, download=True)


def test_a_damaged_copy_says_how_to_copy_it_again(server, learnt):
    address = f"{server.url}/red/noise.mp4"
    for call in (learnt.predict, learnt.timeline):
        message = str(call(address, LABELS, on_error="return", download=True).error)
        assert message.startswith(f"{address}: ")
        path, end = message.partition("; its copy is ")[2].split(": ")
        assert end == "remove it to copy the video again"
        with open(path, "rb") as copy:
            assert copy.read(8) == b"no video"
    with pytest.raises(UserError, match=r"its copy is .*remove it to copy the video again"):
        vtd_jax.read_video(address, 2)


def test_results_name_the_address(server, learnt):
    address = f"{server.url}/red/25.mp4?key=SECRET".replace("//", "//me:pa55@")
    name = learnt.predict(address, LABELS, download=True).video
    assert name.startswith(f"{server.url}/red/25.mp4#")
    other = learnt.predict(address.replace("SECRET", "OTHER"), LABELS, download=True).video
    assert other.startswith(f"{server.url}/red/25.mp4#")
    assert other != name
    shown = learnt.explain(address, LABELS)
    said = f"{shown} {shown.to_dict()} {shown._repr_html_()} {learnt.timeline(address, LABELS)}"
    assert name in said
    assert not any(secret in said for secret in ("SECRET", "pa55", "cache"))
    [encoded] = learnt.encode_videos([address])
    assert encoded.clip.name == vtd_jax.read_video(address, 2).name == name


def test_names_come_back_from_other_processes(server, learnt):
    videos = [f"{server.url}/red/{name}.mp4" for name in (9, "noise")]
    found = learnt.stream(videos, LABELS, processes=True, workers=1, download=True)
    assert [one.video for one in found] == videos


def test_a_server_that_fails_in_the_middle(server, learnt):
    server.faults.append(Fault("GET /red/9", "abort"))
    videos = [f"{server.url}/red/{name}.mp4" for name in (9, 25)]
    failed, found = learnt.predict(videos, LABELS, on_error="return", download=True)
    assert str(failed.error).startswith(f"{videos[0]}: only ")
    assert found.video == videos[1]
