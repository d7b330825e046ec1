"""The table of docs/encoders.md is the code's."""

from pathlib import Path

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.towers.published import OTHERS
from vtd_jax.clip.weights.kinds.table import encoders, markdown

PAGE = Path(__file__).parents[4] / "docs" / "encoders.md"


def test_the_page_has_the_table():
    assert markdown() in PAGE.read_text()


def test_published_counts_of_parameters():
    # of their papers and pages, millions: image and text tower together
    counts = {row.name: row.millions for row in encoders()}
    assert counts["ViT-B/16"] == 150
    assert counts["ViT-H/14"] == 986
    assert counts["ViT-bigG/14"] == 2540
    assert counts["SigLIP2-B/16-224"] == 375
    assert counts["SigLIP2-L/16-256"] == 882
    assert counts["SigLIP2-SO400M/14-224"] == 1135


def test_published_sizes_know_their_names():
    for name in OTHERS:
        assert CLIPConfig.named(name).architecture == name
