"""The routes: what the page is promised in docs/app.md, over the whole application."""

import asyncio
import csv
import io
import json

import numpy as np
import pytest
from app.conftest import TOKEN, Client, events, small_predictor

from support.page_reader import Page
from support.small_model import LABELS, NONE, WORDS
from vtd_jax.app import guard
from vtd_jax.app.guard import Guard
from vtd_jax.app.routes import Routes
from vtd_jax.app.server import guarded
from vtd_jax.app.service import Service
from vtd_jax.predict.zero_shot import zero_shot
from vtd_jax.report.pages import read_entry

CLOSE = dict(rtol=1e-5, atol=2e-5)


def test_the_page_holds_all_it_needs(client):
    page = client("GET", f"/?token={TOKEN}", token=None)
    assert page.status == 200
    text = page.body.decode()
    assert "connect-src 'self'; media-src 'self' blob:" in text
    assert 'src="http' not in text
    assert page.headers["content-security-policy"].startswith("frame-ancestors 'none'")
    block = text.split('<script type="application/json" id=data>')[1]
    data = json.loads(block.split("</script>")[0])
    assert data["model"]["name"] == "small.safetensors"
    assert data["model"]["frames"] == 4
    assert data["beside"]["description"].endswith("zero-shot")
    assert data["limits"]["labels"] == 2000
    assert TOKEN not in text


def test_an_answer_is_what_the_predictor_explains(client, ids, clips, predictor):
    assert client.encoded(ids["b.mp4"])[0] == "done"
    for words in (None, list(WORDS)):
        asked = {"video": ids["b.mp4"], "labels": list(LABELS), "frames": 4, "serial": 7}
        told = client("POST", "/answer", asked | {"vocabulary": words, "shown": 3}).json
        expected = predictor.explain(clips / "b.mp4", LABELS, vocabulary=words)
        assert told["serial"] == 7
        assert told["beside"] is None
        found = told["model"]
        best = expected.order(3)
        assert (found["label"], found["order"]) == (expected.label, best.tolist())
        assert [[word for word, _ in one["words"]] for one in found["frames"]] == [
            list(names) for names in expected.words
        ]
        np.testing.assert_allclose(found["scores"], expected.scores, **CLOSE)
        np.testing.assert_allclose(found["confidence"], expected.confidence[:, best], **CLOSE)
        np.testing.assert_allclose(found["contribution"], expected.contribution[:, best], **CLOSE)
        assert found["vocabulary_is_labels"] is (words is None)


def test_a_tuned_model_has_its_clip_beside_it(client, ids, clips, predictor):
    event, data = client.encoded(ids["a.mp4"], beside=True)
    assert (event, data["name"], len(data["frames"])) == ("done", "a.mp4", 4)
    assert data["frames"][0]["picture"].startswith("data:image/jpeg;base64,")
    asked = {"video": ids["a.mp4"], "labels": list(LABELS), "frames": 4, "beside": True}
    told = client("POST", "/answer", asked).json
    for found, model in ((told["model"], predictor), (told["beside"], zero_shot(predictor))):
        expected = model.explain(clips / "a.mp4", LABELS, frames=4)
        np.testing.assert_allclose(found["scores"], expected.scores, **CLOSE)
    assert told["model"]["scores"] != told["beside"]["scores"]


def test_a_model_in_which_nothing_is_learnt_has_none_beside_it():
    assert zero_shot(small_predictor(**NONE)) is None


def test_no_answer_sends_elsewhere_with_the_token(client):
    answer = client("GET", f"/videos/?token={TOKEN}")
    assert (answer.status, answer.headers.get("location")) == (404, None)


def test_what_is_not_encoded_is_said_so(client, ids):
    asked = {"video": ids["b.mp4"], "labels": ["a"], "frames": 17, "serial": 3}
    answer = client("POST", "/answer", asked)
    assert answer.status == 409
    assert answer.json == {
        "error": "video: is not encoded yet, or had to go for others; encode it",
        "encode": True,
        "serial": 3,
    }


@pytest.mark.parametrize(
    "change, status, said",
    [
        ({"labels": []}, 422, "labels: an empty list"),
        ({"labels": ["a", "A"]}, 422, "reads 'a' and 'A' as the same"),
        ({"labels": ["a"] * 2001}, 422, "labels: expected at most 2,000 entries"),
        ({"labels": ["x" * 4097]}, 422, "at most 4,096 characters"),
        ({"labels": ["word " * 200]}, 422, "word"),
        ({"labels": "a,b"}, 422, "labels: expected array, got str"),
        ({"labels": ["\ud800"]}, 422, "not"),
        ({"vocabulary": ["b", " "]}, 422, "vocabulary: ' ' at place 1"),
        ({"frames": 0}, 422, "frames: expected int >= 1"),
        ({"frames": 65}, 422, "frames: expected int <= 64"),
        ({"temperature": 0}, 422, "temperature: expected float >= 1e-06"),
        ({"temperature": 1e-300}, 422, "temperature: expected float >= 1e-06"),
        ({"video": "../a"}, 422, "video: expected str matching"),
        ({"video": "0" * 32}, 404, "choose or drop it again"),
        ({"shown": 10**9}, 422, "shown: "),
        ({"window": 5e-324}, 422, "window: expected float >= 0.001"),
        ({"other": 1}, 422, "unknown field other"),
    ],
)
def test_bad_requests_are_one_line(client, ids, change, status, said):
    client.encoded(ids["b.mp4"])
    asked = {"video": ids["b.mp4"], "labels": ["a"], "frames": 4, "serial": 9} | change
    answer = client("POST", "/answer", asked)
    assert answer.status == status, answer.body
    assert said in answer.json["error"]
    assert "\n" not in answer.json["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 10_000, b'{"serial": "x"}'])
def test_what_is_no_json_is_refused(client, body):
    for path in ("/answer", "/encode", "/words", "/report", "/python"):
        answer = client("POST", path, body)
        assert answer.status == 422
        assert answer.json["error"].startswith("request")


def test_names_and_labels_are_text_everywhere(client, clips, tmp_path):
    nasty = '<script>alert(1)</script>"&.mp4'
    content = (clips / "a.mp4").read_bytes()
    answer = client("POST", "/upload?name=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%26.mp4", content)
    assert answer.json["name"] == 'script>"&.mp4'
    client.encoded(answer.json["id"])
    asked = {"video": answer.json["id"], "labels": [nasty, "b"], "frames": 4}
    page = client("POST", "/report", asked)
    assert page.headers["content-disposition"].startswith("attachment; ")
    assert b"<script>alert" not in page.body
    assert b"=cmd" not in client("POST", "/csv", asked | {"labels": ["=cmd()", "b"]}).body.replace(
        b"'=cmd", b""
    )


def test_an_upload_is_a_video_as_those_of_the_folder(client, clips, predictor):
    answer = client.uploaded(clips / "b.mp4")
    assert answer.status == 201
    video = answer.json["id"]
    assert client.uploaded(clips / "b.mp4").json["id"] == video
    event, data = client.encoded(video)
    assert (event, data["name"]) == ("done", "b.mp4")
    found = client("POST", "/answer", {"video": video, "labels": list(LABELS), "frames": 4}).json
    expected = predictor.explain(clips / "b.mp4", LABELS)
    np.testing.assert_allclose(found["model"]["scores"], expected.scores, **CLOSE)


def test_uploads_that_are_no_videos_are_refused(client):
    assert client("POST", "/upload?name=x.html", b"x").status == 422
    assert client("POST", "/upload?name=x.mp4", b"").status == 422
    video = client("POST", "/upload?name=x.mp4", b"no video at all").json["id"]
    event, data = client.encoded(video)
    assert event == "failed"
    assert data["error"].startswith("x.mp4: ")
    assert "/tmp" not in data["error"]


def test_a_video_is_sent_in_parts(client, ids, clips):
    content = (clips / "b.mp4").read_bytes()
    whole = client("GET", f"/video/{ids['b.mp4']}")
    assert whole.body == content
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    part = client("GET", f"/video/{ids['b.mp4']}", headers={"range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])
    late = client("GET", f"/video/{ids['b.mp4']}", headers={"range": f"bytes={len(content)}-"})
    assert late.status == 416
    assert client("GET", "/video/..%2F..%2Fetc%2Fpasswd").status == 404
    assert client("GET", f"/video/{'0' * 32}").status == 404


def test_the_folder_is_searched(client):
    assert [one["name"] for one in client("GET", "/videos?search=deep").json["videos"]] == [
        "deep/c.avi"
    ]
    assert client("GET", "/videos?search=" + "x" * 100).json == {"videos": [], "more": 0}


def test_downloads_are_those_of_the_predictor(client, ids, clips, predictor, tmp_path):
    client.encoded(ids["b.mp4"])
    asked = {"video": ids["b.mp4"], "labels": list(LABELS), "frames": 4}
    expected = predictor.explain(clips / "b.mp4", LABELS)
    page = client("POST", "/report", asked)
    (tmp_path / "b.html").write_bytes(page.body)
    entry = read_entry(tmp_path / "b.html")
    assert (entry.label, entry.score) == (expected.label, pytest.approx(expected.score, abs=1e-4))
    assert "b.mp4" in Page(page.body.decode()).text
    assert 'filename="b.html"' in page.headers["content-disposition"]
    told = client("POST", "/json", asked).json
    assert told["videos"][0]["label"] == expected.label
    assert told["about"]["Model"] == "small"
    rows = list(csv.DictReader(io.StringIO(client("POST", "/csv?by=frame", asked).body.decode())))
    assert [row["word"] for row in rows] == [names[0] for names in expected.words]
    assert client("POST", "/csv?by=word", asked).status == 422


@pytest.mark.slow
def test_a_timeline_follows_its_labels(client, ids, clips, predictor):
    asked = {"video": ids["deep/c.avi"], "frames": 4, "window": 0.8}
    event, data = client.encoded(asked["video"], window=0.8)
    assert event == "done"
    assert data["count"] == 10
    assert 1 <= len(data["frames"]) <= 10
    for labels in (list(LABELS), list(WORDS)):
        found = client("POST", "/timeline", asked | {"labels": labels}).json["model"]
        expected = predictor.timeline(clips / "deep" / "c.avi", labels, window=0.8).to_dict()
        assert [one["word"] for one in found["windows"]] == [
            one["word"] for one in expected["windows"]
        ]
        assert found["label"] == expected["label"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert len(found["segments"]) == len(expected["segments"])
    rows = client("POST", "/csv?by=window", asked | {"labels": list(LABELS)}).body.decode()
    assert len(rows.splitlines()) == 1 + len(found["windows"])
    page = client("POST", "/report", asked | {"labels": list(LABELS)})
    assert "segment" in Page(page.body.decode()).text
    wrong = client("POST", "/timeline", asked | {"labels": ["a"], "stride": 5.0})
    assert wrong.status == 422
    assert "stride" in wrong.json["error"]


def test_words_are_encoded_ahead(client, service, ids):
    words = [f"ahead {n}" for n in range(20)]
    assert client("POST", "/words", {"words": words}).json == {"encoded": 20}
    assert len(service._models[0].texts.known(words)) == 20
    for wrong in (["x"] * 1001, []):
        assert client("POST", "/words", {"words": wrong}).status == 422


def test_slow_and_large_bodies_are_refused_in_one_line(service, monkeypatch):
    async def app(**settings) -> Guard:
        return guarded(Routes(service), TOKEN, **settings)

    client = Client(asyncio.run(app(patience=0.05)))
    for path in ("/answer", "/encode", "/upload?name=a.mp4"):
        answer = client("POST", path, parts=[b"{", None])
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.json == {"error": "the body comes too slowly; send it again"}
    monkeypatch.setattr(guard, "APP_JSON_BYTES", 10)
    answer = client("POST", "/answer", parts=[b"x" * 6, b"x" * 6])
    assert (answer.status, answer.json) == (413, {"error": "the body is larger than 10 bytes"})
    assert service.videos._uploading == service.videos._coming == 0


def test_jobs_are_known_by_their_ids(client, ids):
    for method, path in (("DELETE", "/encode/x"), ("GET", "/encode/x/events")):
        assert client(method, path).status == 404
    job = client("POST", "/encode", {"video": ids["a.mp4"], "frames": 5}).json["job"]
    last = events(client("GET", f"/encode/{job}/events"))[-1]
    assert last[0] == "done"
    # late comers hear the end
    assert events(client("GET", f"/encode/{job}/events")) == [last]
    assert client("DELETE", f"/encode/{job}").status == 204


def test_a_fault_of_ours_is_one_line(client, service, monkeypatch, capsys):
    monkeypatch.setattr(service.videos, "list", lambda search: 1 / 0)
    answer = client("GET", "/videos")
    assert answer.status == 500
    assert answer.json == {"error": "the server failed; its terminal says more"}
    assert "/videos: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.slow
def test_twenty_clients_get_their_own_answers(client, ids, clips, predictor):
    names = list(ids)
    for name in names:
        client.encoded(ids[name])
    expected = {}
    for number in range(20):
        labels = [*LABELS[: 1 + number % 4], f"client {number}"]
        name = names[number % len(names)]
        expected[number] = name, labels, predictor.explain(clips / name, labels, frames=4)

    async def one(number: int):
        name, labels, _ = expected[number]
        found = []
        for turn in range(3):
            serial = 100 * number + turn
            asked = {"video": ids[name], "labels": labels, "frames": 4, "serial": serial}
            found.append((serial, (await client.ask("POST", "/answer", asked)).json))
        return found

    async def all_of_them():
        return await asyncio.gather(*map(one, expected))

    for number, found in enumerate(asyncio.run(all_of_them())):
        _, _, theirs = expected[number]
        for serial, told in found:
            assert told["serial"] == serial
            assert told["model"]["label"] == theirs.label
            np.testing.assert_allclose(told["model"]["scores"], theirs.scores, **CLOSE)


def test_what_is_asked_by_a_page_that_is_gone_is_not_encoded(service, ids, client):
    client.encoded(ids["a.mp4"])

    async def gone():
        return True

    from vtd_jax.app.requests import Asked
    from vtd_jax.errors import UserError

    asked = Asked(ids["a.mp4"], ["of a page that is gone"], 4)
    with pytest.raises(UserError, match="is gone"):
        asyncio.run(service.results(asked, gone))
    with pytest.raises(UserError, match="is gone"):
        asyncio.run(service.words(asked.labels, gone))
    assert not service._models[0].texts.known(asked.labels)


def test_a_service_without_a_folder_takes_uploads(predictor, clips):
    with Service(predictor) as service:

        async def app() -> Guard:
            return guarded(Routes(service), TOKEN)

        client = Client(asyncio.run(app()))
        assert client("GET", "/videos").json == {"videos": [], "more": 0}
        assert client.uploaded(clips / "a.mp4").status == 201
