"""What is a name and what is a path; the tables of names."""

import math
import re
from pathlib import Path

import pytest

import vtd_jax
from vtd_jax.clip.config import ACTIVATIONS, CLIPConfig
from vtd_jax.clip.hub.names import (
    HubName,
    absolute,
    check_open_clip,
    hub_name,
    is_inside,
    is_name,
    meant,
    openai_name,
)
from vtd_jax.clip.hub.open_clip import OPEN_CLIP, row_of
from vtd_jax.clip.hub.openai import OPENAI, by_hash
from vtd_jax.clip.hub.resolve import resolve
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.errors import UserError


@pytest.mark.parametrize(
    "text",
    [
        "ViT-B/16",
        "openai:RN50",
        "hf:a/b",
        "open_clip:ViT-B-16/x",
        "gs://b/x.pt",
        "s3://b",
        "az://c",
    ],
)
def test_names(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_name(text)
    assert absolute(text) == text
    if ":" not in text:
        assert not is_name(f"./{text}")
        assert not is_name(Path(text))


@pytest.mark.parametrize("text", ["ViT-B-16.pt", "a/b", "./hf:x", "/x/y", "runs/ViT-B/16", "C:/x"])
def test_paths(text):
    assert not is_name(text)
    assert absolute(text) == str(Path(text).absolute())


def test_a_local_file_of_an_openai_name_is_taken_with_a_note(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert is_name("ViT-B/32")
    (tmp_path / "ViT-B").mkdir()
    (tmp_path / "ViT-B" / "32").write_bytes(b"")
    assert not is_name("ViT-B/32")
    assert is_name("openai:ViT-B/32")
    assert resolve("ViT-B/32").path == Path("ViT-B/32")
    assert "note: ViT-B/32: the local file" in capfd.readouterr().err
    assert resolve("./ViT-B/32").path == Path("ViT-B/32")
    assert capfd.readouterr().err == ""


def test_tiny_and_nothing_stay():
    assert (absolute("tiny"), absolute("")) == ("tiny", "")


@pytest.mark.parametrize(
    "text, name",
    [
        ("hf:openai/clip-vit-base-patch16", ("openai/clip-vit-base-patch16",)),
        ("hf:a/b@v1.0", ("a/b", "v1.0")),
        ("hf:a/b/c.safetensors", ("a/b", "main", "c.safetensors")),
        ("hf:a/b@abc/d/c.bin", ("a/b", "abc", "d/c.bin")),
        ("hf:a/b@refs/pr/3/c.bin", ("a/b", "refs/pr/3", "c.bin")),
    ],
)
def test_names_of_the_hub(text, name):
    assert hub_name(text) == HubName(*name)


@pytest.mark.parametrize(
    "text",
    [
        "hf:", "hf:a", "hf:a/", "hf:/b", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b@../x",
        "hf:a/b@x/../y", "hf:a/b/../../c", "hf:a/b//c", "hf:a--b/c", "hf:a/b\n", "hf:a/b@-x",
        "hf:a/b.git", "hf:a/b.", "hf:a/b-", "hf:a./b", "hf:a/" + "b" * 96,
        "hf:a/b/c\\d", "hf:a/b@x y", "hf:a/" + "b" * 2000, "hf:a/b@.git/x", "hf:a/b\x1b[2J",
    ],
)  # fmt: skip
def test_names_of_the_hub_that_are_none(text):
    with pytest.raises(UserError, match="not a name of the Hugging Face Hub, expected"):
        hub_name(text)


@pytest.mark.parametrize("file", ["", "/a", "a//b", "../a", "a/..", ".", "a\\b", "a\0b", "x" * 300])
def test_paths_that_lead_elsewhere(file):
    assert not is_inside(file)


def test_unknown_names_say_which_there_are():
    with pytest.raises(UserError, match=r"'openai:ViT-Z': OpenAI published RN50, .*ViT-L/14@336px"):
        openai_name("openai:ViT-Z")
    with pytest.raises(UserError, match=r"open_clip:ViT-B-16/laion2b_s34b_b88k"):
        check_open_clip("open_clip:ViT-B-16/laion")
    with pytest.raises(UserError, match=r"MODEL/TAG with one of RN50, .*ViT-bigG-14"):
        check_open_clip("open_clip:ConvNeXt/x")


def test_open_clips_table():
    for name, row in OPEN_CLIP.items():
        assert hub_name(f"hf:{row.repository}").repository == row.repository
        assert row.activation in ACTIVATIONS
        tower = name.removeprefix("ViT-").partition("-")[0]
        width = {"H": 80, "g": 88, "bigG": 104}.get(tower, 64)
        assert row.head_width == width, name
    assert row_of("ViT-B-16-quickgelu/dfn2b") == row_of("ViT-B-16/dfn2b")
    # a GELU model is not made a QuickGELU one by its name
    assert row_of("ViT-B-16-quickgelu/laion2b_s34b_b88k") is None


@pytest.mark.parametrize("name", OPENAI)
def test_openais_table_has_the_sizes_of_our_architectures(name):
    one = OPENAI[name]
    assert len(one.sha256) == 64
    assert by_hash(one.sha256) == name
    config = CLIPConfig.named(name)
    shapes = tensor_shapes(config)
    learnt = [shapes[tensor] for tensor in shapes if ".running_" not in tensor]
    assert sum(map(math.prod, learnt)) == one.parameters
    assert config.text_width == one.text_width


@pytest.mark.parametrize(
    "text, name",
    [
        ("ViT-B-16", "ViT-B/16"),
        ("vit_b_32", "ViT-B/32"),
        ("ViT-L-14-336", "ViT-L/14@336px"),
        ("ViT-L-14-336px", "ViT-L/14@336px"),
        ("openai/clip-vit-base-patch16", "hf:openai/clip-vit-base-patch16"),
        ("huggingface.co/laion/x", "hf:laion/x"),
        ("vit-b/16", "ViT-B/16"),
        ("ViT-B/16 ", "ViT-B/16"),
        ("OPENAI:vit-b/16", "ViT-B/16"),
        ("ViT-B/17", "ViT-B/16"),
        ("ViT-L/14@448px", "ViT-L/14@336px"),
        ("HF:org/n", "hf:org/n"),
        ("open-clip:ViT-B-16/openai", "open_clip:ViT-B-16/openai"),
        ("GS://bucket/x", "gs://bucket/x"),
        ("S3:/bucket/x", "s3://bucket/x"),
        ("weights/ViT-B-16.pt", ""),
        ("runs/a/b", ""),
        ("model", ""),
    ],
)
def test_a_path_that_was_meant_as_a_name(text, name):
    assert meant(text) == name


def test_no_repository_is_guessed_below_a_folder_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert meant("runs/mine") == "hf:runs/mine"
    (tmp_path / "runs").mkdir()
    assert meant("runs/mine") == ""


@pytest.mark.parametrize("path", ["runs/mine", "runs/a/mine"])
def test_a_question_ends_with_its_own_sign(path):
    with pytest.raises(UserError, match=r"no such file or folder") as caught:
        load_clip(path)
    assert "?." not in str(caught.value)
    assert re.search(r"[.?] CLIP checkpoints: ", str(caught.value))


def test_the_message_of_a_missing_file_names_it():
    with pytest.raises(UserError, match=r"ViT-B-16: no such file .*mean the name ViT-B/16\?"):
        load_clip("ViT-B-16")
    for path in (Path("ViT-B/16"), "./ViT-B/16", Path("hf:org/n")):
        with pytest.raises(UserError, match=r"mean the name .* .a text, no Path and without ./.\?"):
            load_clip(path)
    for text in ("HF:org/n", "GS://bucket/x", "vit-b/16", "openai/clip-vit-base-patch16"):
        with pytest.raises(UserError, match=f"did you mean the name {meant(text)}"):
            vtd_jax.load(text)
