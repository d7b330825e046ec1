"""`verify`: what weights are, and numbers beside those that PyTorch gave for the same pictures."""

import dataclasses
import re

import numpy as np
import pytest

from experiments.weights import published, verify
from experiments.weights.pictures import find, pixels, read, square
from experiments.weights.published import PUBLISHED, SKIMAGE
from support.helpers import random_state
from support.small_run import SMALL
from support.weights import encoders, made_pictures
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.clip.weights.checkpoints import save_clip
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.errors import UserError
from vtd_jax.video.scaling.fit import Fit


@pytest.fixture(scope="module")
def clip():
    """A CLIP of made-up weights."""
    return clip_from_state(SMALL, random_state(SMALL))


@pytest.fixture
def folder(tmp_path):
    """The made pictures, and the CLIP as a file."""
    made_pictures.write(tmp_path)
    save_clip(tmp_path / "clip.safetensors", SMALL, random_state(SMALL))
    return tmp_path


def _published(**changes):
    return [
        dataclasses.replace(made_pictures.picture(file, values, atol=5e-3), **changes)
        for file, values in made_pictures.OF_PYTORCH.items()
    ]


@pytest.mark.slow
def test_numbers_are_those_of_pytorch(clip, folder):
    for file, values in made_pictures.OF_PYTORCH.items():
        one = made_pictures.picture(file)
        made = pixels(read(folder / file, one), SMALL.image_resolution, one.rgb_first)
        ours = verify.numbers(clip, SMALL, made, one)
        assert ours == pytest.approx(values, abs=1e-3 if one.kind == "logits" else 1e-5)


@pytest.mark.slow
def test_checks_pass_and_fail_each_by_its_own_tolerance(clip, folder):
    checks, lacking = verify.check_all(clip, SMALL, 1, folder, _published())
    assert lacking == []
    assert [check.passed for check in checks] == [True] * 4
    assert checks[1].ours == "-0.191 -0.208 -0.163"
    off = [value + 0.02 for value in made_pictures.OF_PYTORCH["wide.png"]]
    (first, *others) = _published()
    wrong = dataclasses.replace(first, values=tuple(off))
    checks, _ = verify.check_all(clip, SMALL, 1, folder, [wrong, *others])
    assert [check.passed for check in checks] == [True, False, True, True]
    # one number of three is enough
    one_off = dataclasses.replace(first, values=(*first.values[:2], off[2]))
    assert not verify.compared(one_off, np.asarray(first.values)).passed
    loose = dataclasses.replace(one_off, rtol=0.2)
    assert verify.compared(loose, np.asarray(first.values)).passed


def test_parameters_are_counted_and_held_against_the_published(clip, folder, monkeypatch):
    state = random_state(SMALL)
    count = sum(array.size for array in state.values())
    assert verify.parameters(state | {"a.running_mean": np.ones(9)}) == count
    assert SMALL.architecture not in OPENAI
    monkeypatch.setitem(OPENAI, SMALL.architecture, OPENAI["RN50"]._replace(parameters=count))
    for there, right in ((count, True), (count - 1, False)):
        checks, _ = verify.check_all(clip, SMALL, there, None, ())
        assert [check.passed for check in checks] == [True, right]


def test_what_cannot_be_checked_says_how(clip, folder):
    published = _published(file="CLIP.png", address="https://example.com/CLIP.png")
    _, lacking = verify.check_all(clip, SMALL, 1, folder, published[:1])
    (line,) = lacking
    assert line.startswith("CLIP.png (PyTorch): it is at https://example.com/CLIP.png; put it into")
    picture = PUBLISHED["ViT-B/32"][0]
    assert picture.place == SKIMAGE
    found = find(picture, folder)
    assert "scikit-image" in found if isinstance(found, str) else found.is_file()


@pytest.mark.slow
def test_the_command_says_what_a_file_is_and_exits_by_its_checks(folder, monkeypatch, capsys):
    path = str(folder / "clip.safetensors")
    said = verify.verify(path, str(folder))
    what = f"no features are published for {SMALL.architecture} with quick_gelu"
    assert said == f"{path}: {what}; 1 of 1 checks passed"
    digest = verify.sha256_of(folder / "clip.safetensors")
    assert f"none of OpenAI's nine files (SHA-256 {digest})" in capsys.readouterr().out
    monkeypatch.setitem(PUBLISHED, SMALL.architecture, _published())
    assert verify.verify(path, str(folder)).endswith("4 of 4 checks passed")
    out = capsys.readouterr().out
    line = re.search(r"for an issue: vtd_jax .*", out)[0]
    assert line.endswith("4 of 4 checks passed")
    assert verify.verify(path, None).endswith("1 of 1 checks passed; 3 could not be made")
    assert "1 of 1 checks passed; 3 could not be made\n" in capsys.readouterr().out
    assert digest in line
    monkeypatch.setitem(PUBLISHED, SMALL.architecture, _published(values=(0.0, 0.0, 0.0)))
    with pytest.raises(UserError, match=r"wide.png.* not as published: either these are not"):
        verify.verify(path, str(folder))
    # the very file of OpenAI's: then the port is wrong
    monkeypatch.setitem(OPENAI, "RN101", OPENAI["RN101"]._replace(sha256=digest))
    with pytest.raises(UserError, match="these are OpenAI's RN101, so vtd_jax is wrong"):
        verify.verify(path, str(folder))


def test_a_clip_with_another_tokenizer(tmp_path):
    clip = encoders.small_clip(encoders.SIGLIP)
    state = random_state(clip.config)
    path = tmp_path / "clip.safetensors"
    save_clip(path, clip.config, state, tokenizer=clip.tokenizer)
    # the published tokens are of CLIP's
    said = verify.verify(str(path), None)
    whose = f"{clip.config.architecture} with gelu_tanh"
    assert said == f"{path}: no features are published for {whose}"


def test_others_of_openais_sizes(folder, monkeypatch, capsys):
    config = dataclasses.replace(SMALL, activation="gelu")
    path = folder / "others.safetensors"
    save_clip(path, config, random_state(config))
    monkeypatch.setitem(PUBLISHED, config.architecture, _published())
    monkeypatch.setitem(OPENAI, config.architecture, OPENAI["RN50"])
    # open_clip's GELU: OpenAI's have none
    said = verify.verify(str(path), str(folder))
    assert said.endswith("with gelu; 1 of 1 checks passed")
    assert "ImageNet" not in capsys.readouterr().out


def test_pictures_of_strangers_are_bounded(folder):
    one = made_pictures.picture("wide.png")
    with pytest.raises(UserError, match=r"SHA-256 .*, expected 00: not the file that"):
        read(folder / "wide.png", dataclasses.replace(one, sha256="00"))
    (folder / "cut.png").write_bytes((folder / "wide.png").read_bytes()[:200])
    (folder / "text.png").write_bytes(b"GIF89a")
    for name in ("cut.png", "text.png"):
        with pytest.raises(UserError, match=r"not a PNG or JPEG that can be read(?!.* object at)"):
            read(folder / name, one)
    huge = bytearray((folder / "wide.png").read_bytes())
    # width and height of the header, each 2**15; its checksum is then wrong, as the size is
    huge[16:24] = (2**15).to_bytes(4, "big") * 2
    (folder / "huge.png").write_bytes(huge)
    with pytest.raises(UserError, match=r"pixels, expected fewer|not a PNG"):
        read(folder / "huge.png", one)


@pytest.mark.parametrize("file", made_pictures.KINDS)
def test_frames_preprocessing_is_pillows(folder, file):
    one = made_pictures.picture(file)
    image = read(folder / file, one)
    ours = square(image, 32, Fit("clip"), one.rgb_first)
    assert ours.shape == (32, 32, 3)
    off = ours.astype(int) - pixels(image, 32, one.rgb_first)
    assert np.abs(off).max() <= 1
    # not the release's
    assert np.abs(square(image, 32, Fit(), True).astype(int) - ours).max() > 1


def test_published_numbers_have_a_value_for_each_text():
    for pictures in PUBLISHED.values():
        for one in pictures:
            assert len(one.texts) == len(one.values), one.file
            if one.kind == "probabilities":
                assert sum(one.values) == pytest.approx(1, abs=1e-5)
    assert published.TOKENS[1][0] == 49406
