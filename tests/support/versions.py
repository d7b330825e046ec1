"""Scores of one fixed run, to hold against those of another jax, NumPy or instruction set.

    # with any Python that has the package's libraries; CPU, offline
    python tests/support/versions.py /tmp/there.npz
    VTD_JAX_OTHER_SCORES=/tmp/there.npz python -m pytest -n 0 tests/evaluate/test_versions.py

The run: clips of rendered scenes, the CLIP that ships, prompts as they start and a fusion block
drawn by NumPy, so that what goes in is the same anywhere; a digest says whether it was. Margins
show in which videos rounding may decide.
"""

import hashlib
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.model.config import CHOICES, ModelConfig
from vtd_jax.model.ties import TIE
from vtd_jax.model.vtd_clip import VTDCLIP, learnable
from vtd_jax.scenes.sets import SceneSet

OTHER = "VTD_JAX_OTHER_SCORES"
SCENES = SceneSet(seed=5, classes=32, train=1, val=8, length=8, size=64)
HALVES = {"base": "base_val", "novel": "novel_val"}
CONFIG = ModelConfig(
    text_prompts=4, text_depth=1, visual_prompts=0, visual_depth=0, normalization="clip"
)
# how far cosines of float32 features and codes may be from those of another machine: those of
# towers of a few layers are a tenth of it apart
COSINE = 1e-6
# of a sum of a few confidences in float32, relative
SUM = 1e-6


def clips(scenes: SceneSet = SCENES) -> dict[str, np.ndarray]:
    """Frames `[N, T, 64, 64, 3]` uint8 of both halves."""
    found = {
        half: [clip for clip in scenes.clips() if clip[0] == name] for half, name in HALVES.items()
    }
    return {
        half: np.stack([scenes.render(clip)[0] for clip in group]) for half, group in found.items()
    }


def make_model() -> VTDCLIP:
    """The fixed model; a video token moves its frames by two thirds of their length."""
    model, rng = VTDCLIP(load_clip("tiny"), CONFIG, rngs=nnx.Rngs(0)), np.random.default_rng(0)
    for name in ("q", "k", "v", "out", "fc1", "fc2"):
        layer = getattr(model.fusion, name)
        width, out = layer.kernel.shape
        drawn = rng.standard_normal((width + 1, out), np.float32) / np.float32(np.sqrt(width))
        layer.kernel.set_value(jnp.asarray(drawn[:-1]))
        layer.bias.set_value(jnp.asarray(drawn[-1]))
    return model


def margins(
    features: np.ndarray, codebook: np.ndarray, assignment: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far each video is from another assignment of a frame, and from another set of classes
    that tie.

    Both `[N]`, in float64, as multiples of what rounding may move: above 1 rounding cannot decide.
    """
    x, c = features.astype(np.float64), codebook.astype(np.float64)
    norms, lengths = np.linalg.norm(x, axis=-1, keepdims=True), np.linalg.norm(c, axis=-1)
    cosines = np.einsum("btd,kd->btk", x, c) / norms / lengths
    # a distance moves by twice the cosine's rounding times both lengths
    least = np.sort(lengths**2 - 2 * norms * lengths * cosines, axis=-1)[..., :2]
    of_frames = (least[..., 1] - least[..., 0]) / (4 * COSINE * norms[..., 0] * lengths.max())
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / CONFIG.temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    named = assignment[..., None] == np.arange(len(c))
    lacking = np.where(named, 0, weights).sum(axis=1)
    # votes are shares of a softmax: v moves by v (1 - v) times what its logits do
    moved = (2 * COSINE / CONFIG.temperature + SUM) * lacking * (1 - lacking) + SUM * lacking
    best = lacking.argmin(axis=1)[:, None]
    border = np.abs(lacking - np.take_along_axis(lacking, best, axis=1) - TIE)
    border /= moved + np.take_along_axis(moved, best, axis=1) + 1e-12
    # the best one itself and classes that named no frame decide nothing
    border[~named.any(axis=1)] = np.inf
    np.put_along_axis(border, best, np.inf, axis=1)
    return of_frames.min(axis=1), border.min(axis=1)


def run(frames: dict[str, np.ndarray], shaken: float = 0.0) -> dict[str, np.ndarray]:
    """Of all videos: `scores_RULE [N, K]`, softmax of the logits, by either rule; margins `[N]`;
      what went in.

    With `shaken` features are off by that share of themselves, as those of another machine are by
    1e-7.
    """
    model, digest, rows = make_model(), hashlib.sha256(), []
    for leaf in jax.tree.leaves(learnable(model)):
        digest.update(np.asarray(leaf).tobytes())
    encode, classify = (
        jax.jit(model.encode_frames),
        {rule: _classifier(model, rule) for rule in CHOICES["ties"]},
    )
    for half, names in SCENES.names().items():
        digest.update(frames[half].tobytes())
        features, codes = (
            encode(frames[half]),
            jax.jit(model.encode_classes)(model.class_tokens(names)),
        )
        features *= 1 + np.float32(shaken) * np.random.default_rng(1).standard_normal(
            features.shape, np.float32
        )
        found = {rule: program(features, codes) for rule, program in classify.items()}
        apart = margins(
            np.asarray(features), np.asarray(codes), np.asarray(found["frames"].assignment)
        )
        scores = {
            f"scores_{rule}": np.asarray(jax.nn.softmax(out.logits)) for rule, out in found.items()
        }
        rows.append(
            scores
            | {"assignment": apart[0], "votes": apart[1], "tied": np.asarray(found["frames"].tied)}
        )
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return columns | {"inputs": np.array(digest.hexdigest()), "jax": np.array(jax.__version__)}


def _classifier(model: VTDCLIP, rule: str):
    """The compiled part behind the towers, with this rule of ties."""
    other = nnx.merge(*nnx.split(model))
    other.config = dataclasses.replace(model.config, ties=rule)
    return jax.jit(other.classify)


def compare(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], rule: str = "frames"
) -> tuple[float, float, int]:
    """The share of videos that rounding cannot decide in either, the largest difference of a score
    in these, and in how many of all videos some score differs by more than 1e-4."""
    assert str(one["inputs"]) == str(other["inputs"]), "not the same clips or weights went in"
    clear = (
        np.minimum.reduce([run[kind] for run in (one, other) for kind in ("assignment", "votes")])
        > 1
    )
    apart = np.abs(one[f"scores_{rule}"] - other[f"scores_{rule}"]).max(axis=1)
    return clear.mean(), apart[clear].max(), int((apart > 1e-4).sum())


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".npz"):
        sys.exit(__doc__)
    np.savez(sys.argv[1], **run(clips()))
