"""Links that leave the repository: their form and their hosts; no test opens one."""

import re
import tomllib
import urllib.parse

import pytest

from support.pages.blocks import ROOT, pages

# hosts that a page may link to: publishers of the paper, weights, data sets and lists, and badges
HOSTS = {
    "arxiv.org",
    "colab.research.google.com",
    "github.com",
    "huggingface.co",
    "img.shields.io",
    "serre-lab.clps.brown.edu",
    "www.crcv.ucf.edu",
    "www.qualcomm.com",
}
# what a reader of the README must find
NEEDED = (
    "arxiv.org/abs/2503.18407",
    "github.com/openai/CLIP",
    "huggingface.co/openai/clip-vit-base-patch16",
    "github.com/muzairkhattak/ViFi-CLIP",
    "serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database",
    "www.crcv.ucf.edu/data/UCF101.php",
    "www.qualcomm.com/developer/software/something-something-v-2-dataset",
    "github.com/cvdfoundation/kinetics-dataset",
)
_LINK = re.compile(r"\]\((https?:[^)\s]*)\)|<(https?:[^>\s]*)>")


def _links(text: str) -> list[str]:
    return [one or other for one, other in _LINK.findall(text)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_outside_links_are_whole_and_lead_to_known_hosts(page):
    for link in _links(page.read_text()):
        parts = urllib.parse.urlsplit(link)
        assert (parts.scheme, parts.username, parts.port) == ("https", None, None), link
        assert parts.hostname in HOSTS, link
        assert not re.search(r"[\s\"'`\\]|\.$", link), link


def test_every_known_host_is_linked_to():
    links = [link for page in pages() for link in _links(page.read_text())]
    assert {urllib.parse.urlsplit(link).hostname for link in links} == HOSTS


def test_the_readme_links_to_weights_lists_and_data_sets():
    links = " ".join(_links((ROOT / "README.md").read_text()))
    assert [one for one in NEEDED if one not in links] == []


def test_badges_say_what_the_package_says():
    readme = (ROOT / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    badges = dict(
        re.findall(r"\[!\[([^\]]*)\]\(https://img\.shields\.io/[^)]*\)\]\(([^)]*)\)", readme)
    )
    least, most = re.match(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    assert badges == {
        f"Python 3.{least} to 3.{int(most) - 1}": "pyproject.toml",
        f"Licence: {project['license'].replace('Apache-2.0', 'Apache 2.0')}": "LICENSE",
        "Paper: arXiv 2503.18407": "https://arxiv.org/abs/2503.18407",
    }
