"""Sizes of CLIPs by their names, without weights and without a request."""

import math

import pytest

from support.helpers import random_state
from support.hub.server import serving
from support.small_run import SMALL
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.hub.names import list_architectures
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.clip.weights.kinds.table import encoders
from vtd_jax.clip.weights.planned import config_of_name, planned_config
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """Empty caches, and a hub that nobody may ask."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    # even where downloads are allowed
    monkeypatch.setenv("VTD_JAX_DOWNLOAD", "1")
    monkeypatch.chdir(tmp_path)
    with serving() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("VTD_JAX_OPENAI_ENDPOINT", found.url)
        yield found
    assert found.requests == []


@pytest.mark.parametrize("name", list_architectures(weights=True))
def test_every_name_of_a_list_says_its_sizes(name):
    config, is_here = planned_config(name)
    assert is_here == (name == "tiny")
    assert config == config_of_name(name)
    if name in OPENAI:
        shapes = {name: x for name, x in tensor_shapes(config).items() if ".running_" not in name}
        assert sum(map(math.prod, shapes.values())) == OPENAI[name].parameters


@pytest.mark.parametrize(
    "name, architecture",
    [
        ("openai:ViT-B/16", "ViT-B/16"),
        ("open_clip:ViT-B-16/dfn2b", "ViT-B/16"),
        ("open_clip:ViT-B-16-quickgelu/dfn2b", "ViT-B/16"),
        ("open_clip:ViT-L-14-336/openai", "ViT-L/14@336px"),
        ("open_clip:ViT-L-14/datacomp_xl_s13b_b90k", "ViT-L/14 (GELU)"),
        ("hf:laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "ViT-B/16 (GELU)"),
        ("hf:openai/clip-vit-base-patch16", "ViT-B/16"),
        ("hf:openai/clip-vit-large-patch14-336@main", "ViT-L/14@336px"),
        ("hf:timm/PE-Core-B-16", "PE-Core-B/16-224"),
        ("hf:google/siglip2-base-patch16-224", "SigLIP2-B/16-224"),
        ("hf:google/siglip2-giant-opt-patch16-384", "SigLIP2-g/16-384"),
    ],
)
def test_names_and_architectures(name, architecture):
    assert planned_config(name)[0].architecture == architecture


@pytest.mark.parametrize(
    "name, row", [("ViT-H-14/dfn5b", "ViT-H/14"), ("ViT-bigG-14/laion2b_s39b_b160k", "ViT-bigG/14")]
)
def test_large_ones_have_as_many_parameters_as_the_table_says(name, row):
    shapes = tensor_shapes(planned_config(f"open_clip:{name}")[0])
    (known,) = (one for one in encoders() if one.name == row)
    assert round(sum(map(math.prod, shapes.values())) / 1e6) == known.millions


def test_what_is_here_is_read_and_the_rest_needs_a_name_that_says_it(tmp_path, monkeypatch):
    monkeypatch.delenv("VTD_JAX_DOWNLOAD")
    save_clip(tmp_path / "clip.safetensors", SMALL, random_state(SMALL))
    assert planned_config(str(tmp_path / "clip.safetensors")) == (SMALL, True)
    for name in ("hf:org/model", "hf:openai/clip-vit-base-patch16/some.bin", "gs://bucket/a.pt"):
        with pytest.raises(UserError, match=r"its name does not say its sizes; get it with `refr"):
            planned_config(name)
    for name, said in {
        "nowhere.pt": "no such file or folder",
        "open_clip:ViT-B-16/none": "not in the table",
        "openai:ViT-X": "OpenAI published",
        "hf:model": "not a name of the Hugging Face Hub",
    }.items():
        with pytest.raises(UserError, match=said):
            planned_config(name)


def test_weights_whose_name_says_no_sizes_are_downloaded_where_that_is_allowed(tmp_path, hub):
    path = tmp_path / "clip.safetensors"
    save_clip(path, SMALL, random_state(SMALL))
    hub.add("org/model", {"model.safetensors": path.read_bytes()})
    with pytest.raises(UserError, match="its name does not say its sizes"):
        planned_config("hf:org/model", download=False)
    assert hub.requests == []
    assert planned_config("hf:org/model") == (SMALL, True)
    assert hub.gets("/lfs/") == 1
    hub.requests.clear()


def test_what_is_given_beside_a_name_counts():
    config, _ = planned_config("ViT-B/16", activation="gelu", head_width=32)
    assert config == CLIPConfig(512, 224, 12, 768, 16, 512, activation="gelu", vision_head_width=32)
