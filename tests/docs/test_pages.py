"""Documents: their links lead somewhere, and what they name of the code is there."""

import re
import tomllib
from pathlib import Path

import pytest

import vtd_jax

ROOT = Path(__file__).resolve().parents[2]
_BUILT = ROOT / "docs" / "_build"
_PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "data/**/*.md", "vtd_jax/**/*.md")
    for page in ROOT.glob(pattern)
    if not page.is_relative_to(_BUILT)
]
# read as faked, or as talk; CONTRIBUTING.md asks for standard terms
_UNCLEAR = r"\bmade[ -]up\b|\btold\b|\bgo(?:es)? on\b|\balike\b|\bnobody\b|\btogether\b|too high"


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_are_named_are_there(page):
    # the change log speaks of what was, too
    if page.name == "CHANGELOG.md":
        return
    text = page.read_text()
    for name in re.findall(r"\b((?:vtd_jax|experiments)(?:\.[a-z_]+)+)", text):
        parts = name.split(".")
        # a module, a package, or a name in one of them
        places = ("/".join(parts[:end]) for end in range(len(parts), 1, -1))
        found = any(
            (ROOT / f"{p}.py").exists() or (ROOT / p / "__init__.py").exists() for p in places
        )
        assert found or (len(parts) == 2 and parts[1] in vtd_jax.__all__), name
    for path in re.findall(r"\b((?:vtd_jax|experiments|tests)/[a-z_0-9/]+\.py)\b", text):
        assert (ROOT / path).exists(), path


def test_extras_that_are_installed_are_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for page in [*_PAGES, ROOT / "Makefile"]:
        for names in re.findall(r"(?:'\.|vtd[-_]jax)\[([\w,-]+)\]'", page.read_text()):
            assert set(names.split(",")) <= set(project["optional-dependencies"]), (page, names)


def test_the_citation_names_this_version():
    assert f"\nversion: {vtd_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_words_that_no_stranger_understood_are_not_used(page):
    if page.name != "CHANGELOG.md":
        found = re.search(_UNCLEAR, page.read_text(), re.IGNORECASE)
        assert found is None, found[0]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_of_the_site_opens_with_what_its_reader_can_do():
    pages = [page for page in _PAGES if page.is_relative_to(ROOT / "docs")]
    # tables that a command wrote
    for page in (page for page in pages if page.parent.name != "scenes"):
        opening = page.read_text().split("\n\n")[1]
        assert opening.startswith("After this page you "), page
