"""What no route sees: requests without the token, of other sites and names, too large, too slow."""

import asyncio
import json

import pytest
from app.conftest import TOKEN, Client
from app.test_connections import connected, serving

from vtd_jax.app import guard
from vtd_jax.app.guard import Guard
from vtd_jax.errors import UserError


async def _echo(scope, receive, send):
    """Answers with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def client_of(**settings) -> Client:
    return Client(Guard(_echo, TOKEN, **settings))


@pytest.fixture
def client() -> Client:
    return client_of()


@pytest.mark.parametrize(
    "token, query, status",
    [
        (TOKEN, "", 200),
        (None, f"?token={TOKEN}", 200),
        (None, f"?name=a&token={TOKEN}", 200),
        (None, "", 403),
        ("", "", 403),
        (TOKEN[:-1], "", 403),
        (TOKEN + "x", "", 403),
        (TOKEN.upper(), "", 403),
        # a wrong one in the header is not made up for by the address
        ("wrong", f"?token={TOKEN}", 403),
        (None, f"?token={TOKEN}&token={TOKEN}", 403),
        (None, "?token=%ff%fe", 403),
        (None, "?" + "a=1&" * 50, 400),
        (None, "?a=" + "a" * 9000, 414),
    ],
)
def test_every_request_has_the_token(client, token, query, status):
    assert client("GET", f"/videos{query}", token=token).status == status


def test_a_token_is_in_no_cookie(client):
    answer = client("GET", f"/?token={TOKEN}", token=None)
    assert "set-cookie" not in answer.headers
    found = client("GET", "/videos", token=None, headers={"cookie": f"token={TOKEN}"})
    assert found.status == 403


@pytest.mark.parametrize(
    "host, status",
    [
        (b"127.0.0.1:8000", 200),
        (b"localhost:9000", 200),
        (b"[::1]:8000", 200),
        (b"LOCALHOST", 200),
        (None, 421),
        (b"", 421),
        (b"evil.example", 421),
        (b"evil.example:8000", 421),
        (b"127.0.0.1.evil.example", 421),
        (b"localhost.evil.example:8000", 421),
        (b"evil.example@127.0.0.1:8000", 421),
        (b"127.0.0.1:8000/evil", 421),
        (b"127.0.0.1:port", 421),
        (b"192.168.0.2:8000", 421),
        (b"\xff", 421),
    ],
)
def test_other_names_are_refused(client, host, status):
    assert client("GET", "/videos", host=host).status == status


def test_a_server_that_others_reach_is_named_by_numbers_and_given_names():
    client = client_of(local=False, hosts=["Demo.Example"])
    assert client("GET", "/videos", host=b"192.168.0.2:8000").status == 200
    assert client("GET", "/videos", host=b"demo.example").status == 200
    assert client("GET", "/videos", host=b"other.example").status == 421


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        # another server of this machine
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_other_sites_are_refused_although_they_know_the_token(client, headers, status):
    assert client("POST", "/answer", headers=headers).status == status
    assert client("GET", "/video/1", headers=headers).status == status


def test_a_link_of_another_site_opens_the_page_and_nothing_else(client):
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client("GET", "/", headers=link).status == 200
    assert client("POST", "/", headers=link).status == 403
    assert client("GET", "/", headers=link | {"sec-fetch-mode": "cors"}).status == 403


@pytest.mark.parametrize("ancestors", [(), ("https://a.example",)])
def test_every_answer_has_the_headers_of_safety(ancestors):
    client = client_of(ancestors=ancestors)
    for address, token in (("/videos", TOKEN), ("/videos", None), ("/", None)):
        headers = client("GET", address, token=token).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'; sandbox")


def test_no_frame_holds_the_page_but_those_of_given_sites():
    alone = client_of()("GET", "/").headers
    assert alone["x-frame-options"] == "DENY"
    assert alone["content-security-policy"].startswith("frame-ancestors 'none'; base-uri 'none'")
    sites = ["https://huggingface.co", "https://*.Example.com:8443", "http://localhost:3000"]
    client = client_of(ancestors=sites)
    framed = client("GET", "/").headers
    assert "x-frame-options" not in framed
    assert framed["content-security-policy"].startswith(
        "frame-ancestors https://huggingface.co https://*.example.com:8443 http://localhost:3000; "
    )
    # the frame opens the page, and the page in it asks as ever
    frame = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client("GET", "/", headers=frame).status == 200
    assert client("GET", "/video/1", headers=frame).status == 403


@pytest.mark.parametrize(
    "site",
    [
        "huggingface.co",
        "http://huggingface.co",
        "https://huggingface.co/",
        "https://huggingface.co/spaces",
        "https://a.example; script-src *",
        "https://a.example https://b.example",
        "https://a.example\r\nx: y",
        "https://*",
        "https://*.*.example",
        "https://user@a.example",
        "*",
        "'self'",
        "",
    ],
)
def test_what_is_no_site_is_refused(site):
    with pytest.raises(UserError, match=r"frame_ancestors`=.*expected a site as https://demo"):
        client_of(ancestors=[site])


@pytest.mark.parametrize(
    "name", ["https://demo.example", "demo.example/x", "", "a b", "demo.example:port", "*.example"]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(UserError, match=r"name`=.*expected a name as demo\.example"):
        client_of(hosts=[name])


@pytest.mark.parametrize(
    "host, origin, status",
    [
        # a proxy with TLS that passes Host on, with or without its port
        (b"demo.example", "https://demo.example", 200),
        (b"demo.example:443", "https://demo.example", 200),
        # and one that puts its own in its place
        (b"127.0.0.1:7860", "https://demo.example", 200),
        (b"10.0.0.7:7860", "https://other.example:8443", 200),
        (b"demo.example", "https://evil.example", 403),
        (b"demo.example", "https://demo.example:8443", 403),
        (b"demo.example", "https://other.example", 403),
        (b"demo.example", "https://sub.demo.example", 403),
        (b"127.0.0.1:7860", "https://evil.example", 403),
        (b"demo.example", "null", 403),
        (b"demo.example", "https://[", 403),
        (b"evil.example", "https://demo.example", 421),
    ],
)
def test_a_proxy_with_tls_is_known_by_its_name(host, origin, status):
    client = client_of(local=False, hosts=["Demo.Example", "other.example:8443"])
    headers = {"origin": origin, "sec-fetch-site": "same-origin"}
    assert client("POST", "/answer", host=host, headers=headers).status == status


@pytest.mark.parametrize("header", ["x-forwarded-host", "forwarded", "x-original-host"])
def test_what_a_client_says_of_a_proxy_is_not_believed(client, header):
    value = {"forwarded": "host=localhost"}.get(header, "localhost")
    assert client("GET", "/videos", host=b"evil.example", headers={header: value}).status == 421
    told = {"origin": "https://evil.example", header: "evil.example"}
    assert client("POST", "/answer", headers=told).status == 403


def test_everybody_may_ask_a_public_server_but_other_sites():
    client = Client(Guard(_echo, None, local=False, hosts=["demo.example"]))
    for token in (None, "", "any"):
        assert client("GET", "/", token=token, host=b"demo.example").status == 200
        assert client("POST", "/answer", token=token, host=b"demo.example").status == 200
    assert client("GET", "/", token=None, host=b"evil.example").status == 421
    other = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert client("POST", "/answer", token=None, host=b"demo.example", headers=other).status == 403


def test_only_addresses_of_their_own_tell_clients_apart():
    found = [
        client_of(**settings).app.tells_clients_apart
        for settings in (
            {},
            {"local": False},
            {"local": False, "hosts": ["demo.example"]},
        )
    ]
    assert found == [False, True, False]


def test_a_refusal_is_one_line_of_text_or_json(client):
    opened = client("GET", "/", token=None)
    assert opened.headers["content-type"].startswith("text/plain")
    assert opened.body.decode().count("\n") == 1
    asked = client("GET", "/videos", token=None)
    assert asked.json["error"].startswith("token: ")


def test_bodies_are_bounded(monkeypatch, client):
    monkeypatch.setattr(guard, "APP_JSON_BYTES", 10)
    monkeypatch.setattr(guard, "APP_UPLOAD_BYTES", 20)
    # more is never coming
    monkeypatch.setattr(guard, "_DRAIN_SECONDS", 0.01)
    assert client("POST", "/answer", b"x" * 10).body == b"10"
    assert client("POST", "/answer", b"x" * 11).status == 413
    assert client("POST", "/answer", parts=[b"x" * 6, b"x" * 6]).status == 413
    assert client("POST", "/upload", b"x" * 20).body == b"20"
    assert client("POST", "/upload", b"x" * 21).status == 413
    # it says so before it comes
    for length, status in (("21", 413), ("-1", 400), ("9" * 30, 400), ("1e3", 400)):
        answer = client("POST", "/upload", headers={"content-length": length})
        assert answer.status == status, length


def test_who_sends_too_much_sees_the_answer(monkeypatch):
    monkeypatch.setattr(guard, "APP_JSON_BYTES", 1000)
    with serving(Guard(_echo, TOKEN)) as port:
        # more than what the system keeps on the way; a rest that never comes is not waited for
        for size, length in ((2**23, 2**23), (100, 2**30)):
            own = connected(port)
            head = f"POST /answer HTTP/1.1\r\nHost: localhost\r\nX-VTD-Token: {TOKEN}\r\n"
            own.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + b"x" * size)
            found = b""
            while part := own.recv(1000):
                found += part
            assert b"413" in found
            assert b"the body is larger than 1,000 bytes" in found
            own.close()


def test_slow_bodies_end(monkeypatch):
    client = client_of(patience=0.05)
    assert client("POST", "/upload", parts=[b"x", None]).status == 408
    monkeypatch.setattr(guard, "APP_SLOWEST_BYTES", 1000)
    clock = iter(range(0, 10_000, 1))
    monkeypatch.setattr(guard.time, "monotonic", lambda: next(clock) * 0.1)
    # every part is in time, but all of them take too long
    assert client("POST", "/upload", parts=[b"x"] * 50).status == 408
    assert client("POST", "/upload", parts=[b"x" * 1000] * 50).status == 200


def test_the_end_of_a_connection_may_take_its_time():
    async def waits(scope, receive, send):
        await receive()
        message = await receive()
        assert message["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"waited"})

    async def run():
        app, sent = Guard(waits, TOKEN, patience=0.01), []

        async def receive():
            if not sent:
                sent.append("request")
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"x-vtd-token", TOKEN.encode())]
        scope = {"type": "http", "path": "/e", "method": "GET", "headers": headers}
        await app(scope, receive, send)
        return sent[-1]["body"]

    assert asyncio.run(run()) == b"waited"


def test_websockets_are_closed_before_they_are_accepted(client):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(client.app({"type": "websocket", "path": "/", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_no_message_has_the_token(client):
    for answer in (client("GET", "/", token="wrong"), client("GET", "/x", host=b"evil")):
        assert TOKEN not in answer.body.decode() + json.dumps(answer.headers)


def test_a_body_has_one_size(client):
    both = {"content-length": "2", "transfer-encoding": "chunked"}
    answer = client("POST", "/answer", b"{}", headers=both)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
