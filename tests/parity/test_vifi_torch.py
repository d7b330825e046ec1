"""ViFi-CLIP: checkpoints that PyTorch saved, and logits of its formulas on OpenAI's own modules."""

import numpy as np
import pytest
import torch
from flax import nnx

from parity import openai
from support.weights.rival_files import normalised, texts, vifi_state
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.weights.params import clip_from_state
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.rivals.files import load_rival, read_settings

CONFIG = CLIPConfig(32, 64, 3, 128, 16, 128, text_layers=2)
NAMES = ("Shoot_Bow", "arm wrestling", "yo yo", "a very long name of a class")
HEAD = 64


def openai_clip(state=None):
    """OpenAI's class; filled with these tensors, or random."""
    torch.manual_seed(0)
    module = openai.load("model").CLIP(
        CONFIG.embed_dim, CONFIG.image_resolution, CONFIG.vision_layers, CONFIG.vision_width,
        CONFIG.vision_patch_size, CONFIG.context_length, CONFIG.vocab_size, CONFIG.text_width,
        CONFIG.text_width // HEAD, CONFIG.text_layers,
    )  # fmt: skip
    if state is not None:
        module.load_state_dict({name: torch.as_tensor(array) for name, array in state.items()})
    return module.eval()


class ViFi:
    """ViFi-CLIP's forward from its formulas, with OpenAI's blocks."""

    def __init__(self, clip, state, table):
        # its names are OpenAI's, but for the towers'
        tuned = {"token_embedding.weight": table, "logit_scale": state["logit_scale"]}
        for name, array in state.items():
            if "VPT" not in name and not name.startswith("prompt_learner."):
                bare = name.removeprefix("text_encoder.").replace("image_encoder.", "visual.", 1)
                tuned[bare] = array
        self.clip = openai_clip(tuned)
        self.state = {name: torch.as_tensor(x) for name, x in state.items()}

    def logits(self, frames, names):
        images = torch.from_numpy(normalised(frames)).float()
        batch, count = images.shape[:2]
        features = self.image(images.flatten(0, 1)).view(batch, count, -1).mean(dim=1)
        codes = self.text(torch.from_numpy(texts(names, len(self.context))).long())
        features = features / features.norm(dim=-1, keepdim=True)
        codes = codes / codes.norm(dim=-1, keepdim=True)
        return self.state["logit_scale"].exp() * features @ codes.t()

    @property
    def context(self):
        return self.state.get("prompt_learner.ctx", torch.zeros(0, CONFIG.text_width))

    def image(self, images):
        visual, learnt = self.clip.visual, self.state.get("image_encoder.VPT")
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = x + visual.positional_embedding
        length = x.shape[1]
        if learnt is not None:
            x = torch.cat([x, learnt.expand(len(x), -1, -1)], dim=1)
        x = visual.ln_pre(x).transpose(0, 1)
        for layer, block in enumerate(visual.transformer.resblocks):
            deep = self.state.get(f"image_encoder.transformer.resblocks.{layer}.VPT_shallow")
            if deep is not None:
                x = torch.cat([x[:length], deep[:, None].expand(-1, x.shape[1], -1)])
            x = block(x)
        return visual.ln_post(x[0]) @ visual.proj

    def text(self, tokens):
        clip, count = self.clip, len(self.context)
        x = clip.token_embedding(tokens)
        x = torch.cat([x[:, :1], self.context.expand(len(x), -1, -1), x[:, 1 + count :]], dim=1)
        x = (x + clip.positional_embedding).transpose(0, 1)
        for layer, block in enumerate(clip.transformer.resblocks):
            deep = self.state.get(f"text_encoder.transformer.resblocks.{layer}.VPT_shallow")
            if deep is not None:
                deep = deep[:, None].expand(-1, x.shape[1], -1)
                x = torch.cat([x[:1], deep, x[1 + count :]])
            x = block(x)
        x = clip.ln_final(x.transpose(0, 1))
        return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ clip.text_projection


@pytest.mark.parametrize(
    "name, prompts",
    [
        ("vifi", {}),
        ("vifi_prompts", dict(text=(16, 2), visual=(10, 3))),
        ("vifi_prompts", dict(text=(3, 1), visual=(4, 2))),
    ],
)
@torch.no_grad()
def test_logits_of_what_pytorch_saved(tmp_path, name, prompts):
    clip = openai_clip()
    original = {key: tensor.numpy() for key, tensor in clip.state_dict().items()}
    state = vifi_state(original, CONFIG, NAMES[:2], tuned=0.3, **prompts)
    saved = {f"module.{key}": torch.as_tensor(array) for key, array in state.items()}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    path = tmp_path / "ckpt_epoch_10.pth"
    torch.save({"model": saved, "optimizer": optimizer.state_dict(), "epoch": 10}, path)

    settings = read_settings(path, name)
    model = VTDCLIP(clip_from_state(CONFIG, original), settings, rngs=nnx.Rngs(0))
    load_rival(model, path, name)
    side = CONFIG.image_resolution
    frames = np.random.default_rng(1).integers(0, 256, (3, 4, side, side, 3), np.uint8)
    found = model(frames, model.encode_classes(model.class_tokens(NAMES))).logits
    expected = ViFi(clip, state, original["token_embedding.weight"]).logits(frames, NAMES)
    scale = float(np.exp(state["logit_scale"]))
    np.testing.assert_allclose(np.asarray(found) / scale, expected.numpy() / scale, atol=1e-5)
    assert np.ptp(expected.numpy() / scale) > 1e-2
