"""The files of the documents' blocks, made once a session."""

import pytest

from support.pages.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """One for all processes of a session of tests."""
    # xdist gives each of its processes a folder below the session's
    own = tmp_path_factory.mktemp("programs")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    return World(shared / "pages", own / "bin")
