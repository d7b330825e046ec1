"""Checkpoints as ViFi-CLIP's script saves them, and ViFi-CLIP's formulas in plain NumPy.

Nothing here uses the package's names or towers: tensor names are spelled out once more.
"""

from pathlib import Path

import numpy as np

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.pytorch.write import write_torch_archive

# the mean and deviation of ImageNet's images, which its frames are normalised with
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def vifi_state(
    clip: dict[str, np.ndarray],
    config: CLIPConfig,
    names: tuple[str, ...] = ("brush hair", "cartwheel"),
    *,
    text: tuple[int, int] = (0, 0),
    visual: tuple[int, int] = (0, 0),
    tuned: float = 0.02,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """A state dict of ViFi-CLIP, tuned away from a CLIP's tensors, its token embeddings excepted.

    Args:
      clip: OpenAI's names and tensors.
      config: its sizes.
      names: class names that it was tuned on.
      text, visual: learnt tokens, and layers that have some of their own.
      tuned: how far tensors are moved, relative to their deviation.
      seed: of the move.
    """
    rng = np.random.default_rng(seed)
    state = {}
    for name, array in clip.items():
        if name == "token_embedding.weight":
            continue
        moved = array + tuned * array.std() * rng.standard_normal(array.shape).astype(np.float32)
        if name.startswith("visual."):
            state["image_encoder." + name[len("visual.") :]] = moved
        else:
            state[name if name == "logit_scale" else "text_encoder." + name] = moved
    embedded = clip["token_embedding.weight"][texts(names, text[0])]
    # saved from half precision
    embedded = embedded.astype(np.float16).astype(np.float32)
    if text[0]:
        state["prompt_learner.token_prefix"] = embedded[:, :1]
        state["prompt_learner.token_suffix"] = embedded[:, 1 + text[0] :]
    else:
        state["prompt_learner.complete_text_embeddings"] = embedded
    for (count, depth), first, tower, width in (
        (text, "prompt_learner.ctx", "text_encoder", config.text_width),
        (visual, "image_encoder.VPT", "image_encoder", config.vision_width),
    ):
        for layer in range(depth):
            deep = f"{tower}.transformer.resblocks.{layer}.VPT_shallow"
            learnt = 0.3 * rng.standard_normal((count, width)).astype(np.float32)
            state[deep if layer else first] = learnt
    return state


def write_vifi(path: Path, state: dict[str, np.ndarray], prefix: str = "module.") -> Path:
    """Writes it as the script does: under `model`, of a model wrapped for parallel training."""
    write_torch_archive(path, {prefix + name: array for name, array in state.items()})
    return path


def texts(names: tuple[str, ...], learnt: int = 0) -> np.ndarray:
    """Token ids `[K, 77]` of the texts that ViFi-CLIP makes of class names."""
    stand_in = " ".join(["X"] * learnt) if learnt > 4 else "a photo of a"
    spaced = [name.replace("_", " ") if learnt else name for name in names]
    return tokenize([f"{stand_in} {name}." for name in spaced])


def normalised(frames: np.ndarray) -> np.ndarray:
    """uint8 `[..., H, W, 3]` to the float64 `[..., 3, H, W]` that its image tower takes."""
    return np.moveaxis((frames - np.array(MEAN)) / np.array(DEVIATION), -1, -3)


class PlainViFi:
    """ViFi-CLIP's formulas, token by token, in float64."""

    def __init__(
        self, state: dict[str, np.ndarray], table: np.ndarray, heads: tuple[int, int] = (1, 1)
    ):
        """
        Args:
          state: as in its file.
          table: CLIP's token embeddings.
          heads: of the image and of the text tower.
        """
        self.of = {name: array.astype(np.float64) for name, array in state.items()}
        self.table, self.heads = table.astype(np.float64), heads

    def logits(self, frames: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """`[B, K]` of uint8 frames `[B, T, H, W, 3]`."""
        images = normalised(frames)
        features = np.array([[self.image(image) for image in video] for video in images])
        video = _unit(features.mean(axis=1))
        return np.exp(self.of["logit_scale"]) * video @ _unit(self.text(names)).T

    def image(self, image: np.ndarray) -> np.ndarray:
        """Features of one normalised image."""
        of, kernel = self.of, self.of["image_encoder.conv1.weight"]
        patch = kernel.shape[-1]
        rows = [
            np.einsum("oijk,ijk->o", kernel, image[:, y : y + patch, x : x + patch])
            for y in range(0, image.shape[1], patch)
            for x in range(0, image.shape[2], patch)
        ]
        x = np.stack([of["image_encoder.class_embedding"], *rows])
        x = x + of["image_encoder.positional_embedding"]
        learnt = of.get("image_encoder.VPT")
        count = 0 if learnt is None else len(learnt)
        x = x if learnt is None else np.concatenate([x, learnt])
        x = self._norm(x, "image_encoder.ln_pre")
        for layer in range(self._layers("image_encoder")):
            deep = of.get(f"image_encoder.transformer.resblocks.{layer}.VPT_shallow")
            x = x if deep is None else np.concatenate([x[: len(x) - count], deep])
            x = self._block(x, f"image_encoder.transformer.resblocks.{layer}", self.heads[0])
        return self._norm(x[0], "image_encoder.ln_post") @ of["image_encoder.proj"]

    def text(self, names: tuple[str, ...]) -> np.ndarray:
        """Features `[K, D]` of class names."""
        of, learnt = self.of, self.of.get("prompt_learner.ctx")
        count = 0 if learnt is None else len(learnt)
        found = []
        for row in texts(names, count):
            x = self.table[row]
            if learnt is not None:
                x = np.concatenate([x[:1], learnt, x[1 + count :]])
            x = x + of["text_encoder.positional_embedding"]
            for layer in range(self._layers("text_encoder")):
                name = f"text_encoder.transformer.resblocks.{layer}"
                deep = of.get(f"{name}.VPT_shallow")
                x = x if deep is None else np.concatenate([x[:1], deep, x[1 + count :]])
                x = self._block(x, name, self.heads[1], causal=True)
            end = self._norm(x[row.argmax()], "text_encoder.ln_final")
            found.append(end @ of["text_encoder.text_projection"])
        return np.stack(found)

    def _layers(self, tower: str) -> int:
        return sum(
            name.startswith(tower) and name.endswith(".attn.in_proj_weight") for name in self.of
        )

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.of[f"{name}.weight"] + self.of[f"{name}.bias"]

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.of[f"{name}.weight"].T + self.of[f"{name}.bias"]

    def _block(self, x: np.ndarray, name: str, heads: int, causal: bool = False) -> np.ndarray:
        rows = self._norm(x, f"{name}.ln_1")
        weight, bias = self.of[f"{name}.attn.in_proj_weight"], self.of[f"{name}.attn.in_proj_bias"]
        q, k, v = (
            part.reshape(len(x), heads, -1).transpose(1, 0, 2)
            for part in np.split(rows @ weight.T + bias, 3, axis=-1)
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        if causal:
            scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + self._linear(
            (shares @ v).transpose(1, 0, 2).reshape(x.shape), f"{name}.attn.out_proj"
        )
        hidden = self._linear(self._norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        return x + self._linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{name}.mlp.c_proj")


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
