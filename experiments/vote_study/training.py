"""Learns and evaluates on stored features: the library's loss, optimizer and model, in one scan.

The real pipeline also flips and crops training frames, and takes 30 times as long.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.configs import scenes
from experiments.vote_study.conditions import RULES, Condition
from experiments.vote_study.features import Seen
from vtd_jax.evaluate.metrics import harmonic_mean
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.scenes.sets import SceneSet
from vtd_jax.train import from_config
from vtd_jax.train.config import RunConfig
from vtd_jax.train.optimizer import make_optimizer
from vtd_jax.train.step import loss_fn, split
from vtd_jax.video.sampling import test_indices, train_indices

# of every run, whatever its number of shots
UPDATES, BATCH, SHOTS = 64, 32, SceneSet.train
# tokens of a class name with its prompts, padded to one length: other names compile nothing new
_LENGTH = 16


class Measured(NamedTuple):
    """One run, in 0..1, over base and novel videos alike but for the three accuracies.

    Attributes:
      base, novel, HM: top-1 and their harmonic mean.
      token_right: share of videos whose video token is their class.
      token_of_one: share of videos whose video token named a single frame.
      both_right: share of videos that are classified right and whose video token is their class.
      tied: share of videos in which several classes have the most votes to rounding.
    """

    base: float
    novel: float
    HM: float
    token_right: float
    token_of_one: float
    both_right: float
    tied: float


def config_of(rule: str, seed: int) -> RunConfig:
    """The scenes' settings with a rule of the vote; the rate's schedule is that of 16 shots."""
    changes = {f"model.{field}": value for field, value in RULES[rule].items()}
    return RunConfig.from_dict(scenes.get_config().to_dict()).with_changes({"seed": seed} | changes)


def measure(
    rule: str, condition: Condition, seed: int, seen: Mapping[str, Seen], names: Mapping
) -> dict[str, Measured]:
    """Trains once with a rule, and evaluates with every rule.

    Args:
      rule: one of `RULES`, with which is learnt.
      condition: shots and frames.
      seed: of the learnable parameters, the order of the clips, their frames and dropout.
      seen: of `Encoder.encode`.
      names: class names of "base" and "novel".
    """
    config = config_of(rule, seed)
    model = from_config.build_model(config)
    parts, tokens = split(model), {half: _tokens(model, names[half]) for half in names}
    features, labels = _shots(seen["base_train"], condition.shots)
    rng, length = np.random.default_rng([seed, 9]), features.shape[1]
    order = _order(rng, len(labels))
    drawn = [train_indices(length, condition.frames, rng) for _ in range(order.size)]
    frames = np.stack(drawn).reshape(*order.shape, -1)
    padded = np.zeros((SHOTS * int(labels.max() + 1), *features.shape[1:]), np.float32)
    padded[: len(features)] = features
    train, _ = _programs(rule)
    learnt = train(
        parts.learnable, parts.frozen, tokens["base"], padded, labels[order], order, frames,
        jax.random.key(seed),
    )  # fmt: skip
    at = test_indices(length, condition.frames)
    videos = {
        half: Seen(seen[f"{half}_val"].features[:, at], seen[f"{half}_val"].labels)
        for half in names
    }
    return {
        evaluated: _evaluate(evaluated, learnt, parts.frozen, tokens, videos) for evaluated in RULES
    }


def _evaluate(
    rule: str,
    learnt: nnx.State,
    frozen: nnx.State,
    tokens: Mapping[str, np.ndarray],
    videos: Mapping[str, Seen],
) -> Measured:
    """The figures of one rule on the sampled frames of both halves."""
    found, (_, look) = {}, _programs(rule)
    for half, clips in videos.items():
        output = look(learnt, frozen, tokens[half], clips.features)
        best, token, counts, tied = map(np.asarray, output)
        one = np.take_along_axis(counts, token[:, None], 1)[:, 0] == 1
        right, named = best == clips.labels, token == clips.labels
        shares = (right, named, one, right & named, tied)
        found[half] = [float(each.mean()) for each in shares]
    base, novel = found["base"][0], found["novel"][0]
    others = [float(np.mean(pair)) for pair in zip(found["base"][1:], found["novel"][1:])]
    return Measured(base, novel, harmonic_mean([base, novel]), *others)


def _tokens(model: VTDCLIP, names: list[str]) -> np.ndarray:
    tokens = model.class_tokens(names)
    return np.pad(tokens, ((0, 0), (0, _LENGTH - tokens.shape[1])))


def _shots(clips: Seen, shots: int) -> tuple[np.ndarray, np.ndarray]:
    """The first clips of every class."""
    classes = range(int(clips.labels.max()) + 1)
    kept = np.concatenate([np.flatnonzero(clips.labels == k)[:shots] for k in classes])
    return clips.features[kept], clips.labels[kept]


def _order(rng: np.random.Generator, clips: int) -> np.ndarray:
    """Clips of every update, `[UPDATES, BATCH]`: one epoch after another."""
    epochs = -(-UPDATES * BATCH // clips)
    order = np.concatenate([rng.permutation(clips) for _ in range(epochs)])
    return order[: UPDATES * BATCH].reshape(UPDATES, BATCH)


@functools.cache
def _programs(rule: str):
    config = config_of(rule, 0)
    # the graph of a model does not depend on the seed
    graphdef = split(from_config.build_model(config)).graphdef
    optimizer = make_optimizer(config.optimizer, SHOTS * SceneSet.classes // 2 // BATCH)

    def train(learnable, frozen, tokens, features, labels, order, frames, key):
        def step(state, given):
            learnable, opt_state = state
            clips, times, label, key = given
            batch = {
                "features": features[clips[:, None], times],
                "label": label,
                "weight": jnp.ones(BATCH),
                "index": jnp.arange(BATCH),
            }
            loss = lambda learnable: loss_fn(learnable, frozen, graphdef, batch, tokens, key)[0]  # noqa: E731
            updates, opt_state = optimizer.update(jax.grad(loss)(learnable), opt_state, learnable)
            return (optax.apply_updates(learnable, updates), opt_state), None

        keys = jax.random.split(key, UPDATES)
        start = learnable, optimizer.init(learnable)
        return jax.lax.scan(step, start, (order, frames, labels, keys))[0][0]

    def look(learnable, frozen, tokens, features):
        model = nnx.merge(graphdef, learnable, frozen)
        codebook = model.encode_classes(tokens)
        output = model.classify(features, codebook)
        token = (codebook == output.video_token).all(-1).argmax(-1)
        counts = jax.nn.one_hot(output.assignment, len(codebook)).sum(1)
        return output.logits.argmax(-1), token, counts, output.tied

    return jax.jit(train), jax.jit(look)
