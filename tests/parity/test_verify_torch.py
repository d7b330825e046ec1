"""`experiments.weights verify` against OpenAI's class in PyTorch, on the same pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.weights.pictures import pixels, read
from experiments.weights.verify import numbers
from parity import openai
from support.helpers import random_state
from support.small_run import SMALL
from support.weights import made_pictures
from vtd_jax.clip.preprocessing import OPENAI_MEAN, OPENAI_STD
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.params import clip_from_state


def torch_numbers(path, kind, texts, config, state, rgb_first):
    """What OpenAI's own steps give: resize, crop, to RGB, normalise, encode."""
    tensors = {name: torch.tensor(array) for name, array in state.items()}
    # build_model rounds to float16
    model = openai.load("model").build_model(dict(tensors)).float()
    model.load_state_dict(tensors)
    image, n = Image.open(path), config.image_resolution
    image = image.convert("RGB") if rgb_first else image
    w, h = image.size
    w, h = (n, int(n * h / w)) if w <= h else (int(n * w / h), n)
    image = image.resize((w, h), Image.BICUBIC)
    top, left = round((h - n) / 2.0), round((w - n) / 2.0)
    image = image.crop((left, top, left + n, top + n)).convert("RGB")
    x = torch.tensor(np.array(image)).permute(2, 0, 1).float() / 255
    x = (x - torch.tensor(OPENAI_MEAN)[:, None, None]) / torch.tensor(OPENAI_STD)[:, None, None]
    with torch.no_grad():
        logits, _ = model(x[None], torch.tensor(tokenize(texts)).long())
    logits = logits[0]
    scale = np.exp(float(state["logit_scale"]))
    found = {"cosines": logits / scale, "logits": logits, "probabilities": logits.softmax(-1)}
    return found[kind].numpy().astype(np.float64)


@pytest.mark.parametrize("file", made_pictures.KINDS)
def test_numbers_are_those_of_openais_class(tmp_path, file):
    made_pictures.write(tmp_path)
    one, state = made_pictures.picture(file), random_state(SMALL)
    clip = clip_from_state(SMALL, state)
    made = pixels(read(tmp_path / file, one), SMALL.image_resolution, one.rgb_first)
    ours = numbers(clip, SMALL, made, one)
    theirs = torch_numbers(tmp_path / file, one.kind, one.texts, SMALL, state, one.rgb_first)
    assert ours == pytest.approx(theirs, abs=1e-3 if one.kind == "logits" else 1e-5)
    # the fast test holds ours against these
    assert theirs == pytest.approx(np.array(made_pictures.OF_PYTORCH[file]), abs=1e-3)
