"""Contrastive pretraining of the small CLIP on captioned scenes: how `vtd_jax/clip/tiny` was made.

Plain CLIP (Radford et al. 2021), with one liberty that the rendered world allows: every update
contrasts an image with a caption of *every* combination, not only with those of its batch.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8

from experiments.pretrain_tiny_clip.data import Captions, PretrainOptions, StillPool
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.tokenizer import tokenize
from vtd_jax.clip.weights.params import clip_from_state, state_from_clip
from vtd_jax.clip.weights.tensor_names import tensor_shapes
from vtd_jax.scenes.render import class_names, render_still

_MEAN = (122.7709, 116.7460, 104.0937)  # CLIP's own, 0..255
_STD = (68.5005, 66.6322, 70.3232)
FIRST_SCALE, LAST_SCALE = 1 / 0.07, 100.0  # of the logits: where OpenAI's models start and end
FEATURE_LENGTH = 10.0


class Measured(NamedTuple):
    """Updates done; mean loss and top-1 of images among all captions since the last report."""

    step: int
    loss: float
    top1: float


def initial_state(config: CLIPConfig, seed: int) -> dict[str, np.ndarray]:
    """Float32 tensors by OpenAI's names, drawn as OpenAI's `initialize_parameters` draws them.

    Except for the image tower's positions, which start as sines and cosines: it then knows from the
    first update which patches are neighbours, and shapes are learned much sooner.
    """
    rng = np.random.default_rng([seed, 1])
    state = {}
    for name, shape in tensor_shapes(config).items():
        visual = name.startswith("visual.")
        width = config.vision_width if visual else config.text_width
        layers = config.vision_layers if visual else config.text_layers
        if name == "logit_scale":
            state[name] = np.float32(np.log(1 / 0.07))
            continue
        if "ln_" in name or name.endswith("bias"):
            state[name] = np.full(shape, float(name.endswith("weight")), np.float32)
            continue
        if name == "visual.positional_embedding":
            state[name] = grid_positions(config.grid, width)
            continue
        std = width**-0.5
        if name == "token_embedding.weight":
            std = 0.02
        elif name == "positional_embedding":
            std = 0.01
        elif "c_fc" in name:
            std = (2 * width) ** -0.5
        elif "out_proj" in name or "c_proj" in name:
            std = (2 * layers * width) ** -0.5
        elif "conv1" in name:
            std = (3 * config.vision_patch_size**2) ** -0.5
        state[name] = (std * rng.standard_normal(shape)).astype(np.float32)
    return state


def grid_positions(grid: int, width: int) -> Float[np.ndarray, "tokens width"]:
    """A row of zeros for the class token, then sines and cosines of row and column."""
    frequencies = np.pi / grid * np.geomspace(1, grid / 2, width // 4)
    angles = np.arange(grid)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    rows, columns = np.repeat(waves, grid, axis=0), np.tile(waves, (grid, 1))
    cells = np.concatenate([rows, columns], axis=1)
    return np.concatenate([np.zeros((1, width)), cells]).astype(np.float32)


def pretrain(
    config: CLIPConfig,
    options: PretrainOptions,
    report: Callable[[Measured], None] | None = None,
    every: int = 50,
) -> dict[str, np.ndarray]:
    """Trains a CLIP from scratch on scenes; returns its tensors by OpenAI's names.

    Token rows that no caption uses keep their random initial values. The logit scale is not
    learned: it rises from 1/0.07 to 100, where OpenAI's models end, over the first half, so that a
    temperature of 0.01 means here what it means there.

    Args:
      config: sizes; a transformer image tower.
      options: the recipe.
      report: called after every `every` updates and after the last one.
      every: updates between reports.
    """
    state = initial_state(config, options.seed)
    captions = Captions(options, config.vocab_size)
    # a table of the rows that captions touch keeps the optimizer's state small
    small = dataclasses.replace(config, vocab_size=len(captions.kept))
    table = state["token_embedding.weight"]
    # a list, because every scan step would make a gradient of all stacked weights, and because
    # stacked biases have two axes, which the weight decay's mask would take for matrices
    clip = clip_from_state(
        small, state | {"token_embedding.weight": table[captions.kept]}, layers="list"
    )
    update, clip_state, opt_state = _make_update(clip, captions.trained, options)
    pool = StillPool(options, config.image_resolution)
    history: list[tuple[Array, Array]] = []
    with ThreadPoolExecutor(1) as renderer:
        coming = renderer.submit(pool.batch)
        for step in range(1, options.steps + 1):
            images, subjects = coming.result()
            if step < options.steps:
                coming = renderer.submit(pool.batch)
            scale = np.float32(
                FIRST_SCALE + (LAST_SCALE - FIRST_SCALE) * min(1, 2 * step / options.steps)
            )
            clip_state, opt_state, *seen = update(
                clip_state, opt_state, images, subjects, captions.draw(), scale
            )
            history.append(tuple(seen))
            if report and (step % every == 0 or step == options.steps):
                report(Measured(step, *(float(np.mean(values)) for values in zip(*history))))
                history.clear()
    nnx.update(clip, clip_state)
    learned = state_from_clip(clip)
    table[captions.kept] = learned["token_embedding.weight"]
    return learned | {
        "token_embedding.weight": table,
        "logit_scale": np.log(np.float32(LAST_SCALE)),
    }


def _make_update(clip: CLIP, trained: Bool[np.ndarray, "rows"], options: PretrainOptions):
    """The jitted update with its first two arguments: CLIP's arrays and the optimizer's state."""
    graphdef, first = nnx.split(clip)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, options.lr, options.steps // 20 + 1, options.steps + 1
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            schedule,
            b1=0.9,
            b2=0.98,
            weight_decay=options.weight_decay,
            mask=lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree),
        ),
    )

    def loss_of(state, *batch):
        return contrastive_loss(nnx.merge(graphdef, state, copy=True), *batch)

    @jax.jit
    def update(state, opt_state, *batch):
        (loss, top1), gradients = jax.value_and_grad(loss_of, has_aux=True)(state, *batch)
        changes, opt_state = optimizer.update(gradients, opt_state, state)
        rows = changes["text"]["token_embedding"]
        rows.set_value(jnp.where(trained[:, None], rows[...], 0))
        return optax.apply_updates(state, changes), opt_state, loss, top1

    return update, first, optimizer.init(first)


def contrastive_loss(
    clip: CLIP,
    images: UInt8[Array, "b h w 3"],
    subjects: Int[Array, "b"],
    texts: Int[Array, "subjects length"],
    scale: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """CLIP's symmetric loss of images against one caption of every subject, and top-1 of the
    images.

    Images of one subject share its caption's row of the target. A small third term keeps the
    features' lengths near `FEATURE_LENGTH`, about OpenAI's: the method's Euclidean assignment
    compares raw features and presumes it.
    """
    image_features, text_features = encode(clip, images), clip.encode_text(texts)
    x, image_lengths = _unit(image_features)
    c, text_lengths = _unit(text_features)
    logits = scale * x @ c.T
    own = jax.nn.one_hot(subjects, len(texts))
    by_image = -jnp.sum(own * jax.nn.log_softmax(logits, axis=1)) / len(images)
    count = own.sum(axis=0)
    by_text = -jnp.sum(own / jnp.maximum(count, 1) * jax.nn.log_softmax(logits, axis=0)) / jnp.sum(
        count > 0
    )
    uneven = sum(
        jnp.square(jnp.log(lengths / FEATURE_LENGTH)).mean()
        for lengths in (image_lengths, text_lengths)
    )
    return (by_image + by_text) / 2 + 5 * uneven, (logits.argmax(axis=1) == subjects).mean()


def zero_shot(clip: CLIP, seed: int, each: int = 8, subsets: int = 50) -> dict[str, float]:
    """Zero-shot accuracies on fresh clean stills with bare class names as texts, each in [0, 1].

    Args:
      clip: a trained model.
      seed: of the stills; training seeds never give the same ones.
      each: stills of every class.
      subsets: random sets of 16 classes that "16-way" is the mean over.

    Returns:
      "256-way" and "16-way" top-1, "256-way, nearest" (Euclidean, of raw features, as frames are
      assigned to codes), and how often the top-1 class has the right "colour", "texture" and
      "shape".
    """
    names = class_names()
    rng = np.random.default_rng([seed, 5])
    labels = np.tile(np.arange(len(names)), each)
    images = np.stack(
        [render_still(names[label], rng, clip.config.image_resolution) for label in labels]
    )
    codes = np.asarray(clip.encode_text(jnp.asarray(_trim(tokenize(names)))))
    run = nnx.jit(encode)
    x = np.concatenate(
        [np.asarray(run(clip, jnp.asarray(part))) for part in np.split(images, each)]
    )
    lengths = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(codes, axis=1)
    cosine = x @ codes.T / (lengths[0] * lengths[1])
    top = cosine.argmax(axis=1)
    nearest = (np.square(codes).sum(1) - 2 * x @ codes.T).argmin(axis=1)
    few = []
    for _ in range(subsets):
        chosen = rng.choice(len(names), 16, replace=False)
        rows = np.isin(labels, chosen)
        few.append((chosen[cosine[np.ix_(rows, chosen)].argmax(axis=1)] == labels[rows]).mean())
    right = {"256-way": top == labels, "16-way": few, "256-way, nearest": nearest == labels}
    said, true = (np.array([names[k].split() for k in ids]) for ids in (top, labels))
    right |= {
        part: said[:, i] == true[:, i] for i, part in enumerate(("colour", "texture", "shape"))
    }
    return {name: float(np.mean(hits)) for name, hits in right.items()}


def _trim(tokens: Int32[np.ndarray, "k l"]) -> Int32[np.ndarray, "k m"]:
    """Without the positions after the longest text's end."""
    return tokens[:, : int(tokens.argmax(axis=1).max()) + 1]


def encode(clip: CLIP, images: UInt8[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Image features of uint8 images, normalised with CLIP's own mean and deviation."""
    return clip.encode_images((images.astype(jnp.float32) - jnp.array(_MEAN)) / jnp.array(_STD))


def _unit(x: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, "n"]]:
    lengths = jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1), 1e-12))
    return x / lengths[:, None], lengths
