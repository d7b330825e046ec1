"""Chooses the video token where several classes have equally many votes to rounding.

The confidence of a class sums to 1 over the frames of a video. A class whose frames hold all of its
confidence has one vote, whether it named one frame or six. Several such classes tie at 1 but for
the last bit of a sum, which differs between machines and must not decide. So votes within `TIE` of
the greatest tie: the class that named more frames wins, then the lower one.

Where a frame's vote is worth one (`ModelConfig.votes="frames"`), the class that named most frames
wins; of as many, the one with more confidence in them, to `TIE`, then the lower one.

Votes are compared by 1 minus the votes, the confidence of a class in frames that it did not name.
Near 1 a vote has an absolute rounding error of 1e-7, its complement only a relative one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vtd_jax.model.axes import WHOLE, Axes

# votes this close to the greatest count as equal; 100 times the rounding error of a vote
TIE = 1e-5


class Tally(NamedTuple):
    """What decides between N candidates.

    Attributes:
      lacking: `[B, N]`, 1 minus the votes, 0..1: the confidence in frames of other classes; inf
        takes no part.
      frames: `[B, N]`, how many frames each one named, whole numbers.
    """

    lacking: Float[Array, "b n"]
    frames: Float[Array, "b n"]


def tally(named: Bool[Array, "b t n"], weights: Float[Array, "b t n"]) -> Tally:
    """Tallies named frames and all frames' confidence for each candidate, without gradient."""
    weights = jax.lax.stop_gradient(weights)
    return Tally(jnp.where(named, 0.0, weights).sum(axis=1), named.sum(axis=1).astype(jnp.float32))


def winner(
    found: Tally, classes: Int[Array, "b n"], axes: Axes = WHOLE, votes: str = "confidence"
) -> Int[Array, " b"]:
    """The class with the most votes; of those that tie the other count decides, then the lowest
    class.

    Args:
      found: of N candidates.
      classes: of the candidates; one may appear several times with the same numbers.
      axes: how candidates are split over devices.
      votes: `ModelConfig.votes`. "confidence": votes within `TIE` of the greatest tie, and the
        class that named more frames wins. "frames": frames are the votes, and of as many the class
        whose confidence in them is within `TIE` of the greatest wins.
    """
    most = _most(found, axes, votes)
    if votes == "frames":
        lacking = jnp.where(most, found.lacking, jnp.inf)
        second = (lacking <= TIE - axes.most(-lacking)[:, None]).astype(jnp.float32)
    else:
        second = found.frames
    second = jnp.where(most, second, -1.0)
    first = jnp.where(second == axes.most(second)[:, None], classes, jnp.iinfo(classes.dtype).max)
    # the lowest class
    return -axes.most(-first)


def rank(
    found: Tally,
    classes: Int[Array, "b n"],
    count: int,
    axes: Axes = WHOLE,
    votes: str = "confidence",
) -> Int[Array, "b {count}"]:
    """The winner, then the winner among the others, and so on: `count` different classes.

    Later votes of confidence may be greater by up to `TIE`. Classes that named a frame come before
    all others.
    """
    if count == 1:
        return winner(found, classes, axes, votes)[:, None]

    def step(left: Array, _: None) -> tuple[Array, Array]:
        best = winner(Tally(left, found.frames), classes, axes, votes)
        return jnp.where(classes == best[:, None], jnp.inf, left), best

    return jax.lax.scan(step, found.lacking, length=count)[1].T


def tied(found: Tally, axes: Axes = WHOLE, votes: str = "confidence") -> Bool[Array, " b"]:
    """Whether several different classes that named a frame have the most votes, those of confidence
    within `TIE`.
    """
    most = _most(found, axes, votes) & (found.frames > 0)
    return axes.total(most.sum(axis=-1)) > 1


def _most(found: Tally, axes: Axes, votes: str) -> Array:
    """The candidates with the most votes: of frames, or of confidence within `TIE`."""
    if votes == "frames":
        frames = jnp.where(jnp.isinf(found.lacking), -1.0, found.frames)
        return frames == axes.most(frames)[:, None]
    return found.lacking <= TIE - axes.most(-found.lacking)[:, None]
