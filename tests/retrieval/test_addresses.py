"""Videos at addresses in an index: consent, names, and those that cannot be copied."""

import pytest

from support.hub.server import Fault, serving
from vtd_jax.errors import UserError
from vtd_jax.retrieval import Index
from vtd_jax.video.lists.addresses import copies_folder


@pytest.fixture
def server(monkeypatch, tmp_path, made):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VTD_JAX_DOWNLOAD", raising=False)
    with serving() as found:
        found.files |= {f"/{name}.mp4": (made / f"{name}.mp4").read_bytes() for name in (1, 2)}
        yield found


@pytest.mark.slow
def test_one_consent_for_the_videos_of_an_index(server, tmp_path, plain):
    addresses = [f"{server.url}/1.mp4", f"{server.url}/2.mp4?key=SECRET"]
    with pytest.raises(UserError, match=r"1.mp4: not on this machine; `download=True`"):
        Index.build(tmp_path / "index", addresses, plain)
    index = Index.build(tmp_path / "index", addresses, plain, download=True)
    names = [one.clip.name for one in index]
    assert names[0] == addresses[0]
    assert names[1].startswith(f"{server.url}/2.mp4#")
    again = Index.build(tmp_path / "index", addresses, plain)
    assert (again.summary.unchanged, len(again)) == (2, 2)
    Index.build(tmp_path / "other", addresses[0], plain, how={"download": True})


def test_an_example_at_an_address(server, tmp_path, plain, made):
    index = Index.build(tmp_path / "index", [made / "1.mp4", made / "2.mp4"], plain)
    with pytest.raises(UserError, match=r"2.mp4: not on this machine; `download=True`"):
        index.similar(f"{server.url}/2.mp4")
    [hit] = index.similar(f"{server.url}/2.mp4", top=1, download=True)
    assert hit.video == str(made / "2.mp4")


def test_an_address_that_fails_is_counted_and_leaves_the_others(server, tmp_path, plain):
    addresses = [f"{server.url}/none.mp4", f"{server.url}/1.mp4"]
    index = Index.build(tmp_path / "index", addresses, plain, download=True)
    assert len(index) == 1
    [(video, why)] = index.summary.failed
    assert (video, why.partition(": ")[2][:24]) == (addresses[0], "the server does not have")


def test_what_was_indexed_stays_where_a_server_is_gone(server, tmp_path, plain):
    addresses = [f"{server.url}/1.mp4", f"{server.url}/2.mp4"]
    Index.build(tmp_path / "index", addresses, plain, download=True)
    for copy in copies_folder().rglob("1.mp4"):
        copy.unlink()
    server.faults.append(Fault("1.mp4", "status", status=503))
    index = Index.build(tmp_path / "index", addresses, plain, download=True)
    assert [video for video, _ in index.summary.failed] == addresses[:1]
    assert [one.clip.name for one in index] == addresses
