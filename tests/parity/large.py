"""Models of which one at a time fits beside the other tests."""

from typing import Any

import pytest


def large(name: str) -> Any:
    """A parameter of a test that runs in the process of the other large ones, with loadgroup."""
    return pytest.param(name, marks=pytest.mark.xdist_group("large"))
