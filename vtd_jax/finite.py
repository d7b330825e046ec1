"""Finds and refuses numbers that are NaN or infinite."""

import numpy as np
from jaxtyping import Bool, Num

from vtd_jax.errors import UserError


def check_finite(
    array: Num[np.ndarray, "..."], where: str, remedy: str = ""
) -> Num[np.ndarray, "..."]:
    """Returns the array if all of its values are finite.

    Args:
      array: of floating point.
      where: name of the array in messages, such as "x.pt: tensor logit_scale".
      remedy: end of the message: what it means, or what to do.

    Raises:
      UserError: says how many values are not finite, and the first of them.
    """
    finite = np.isfinite(array)
    if finite.all():
        return array
    first = np.unravel_index(np.argmin(finite), array.shape)
    raise UserError(
        f"{where} has {array.size - finite.sum()} values that are NaN or infinite, the first is "
        f"{array[first]} at {list(map(int, first))}{remedy and f': {remedy}'}"
    )


def finite_rows(scores: Num[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
    """True for each row of finite numbers: a video whose scores can be ranked."""
    return np.all(np.isfinite(scores), axis=-1)
