"""Limits on what an untrusted file claims of its tensors: their number, names and shapes."""

import math
from collections.abc import Iterable, Sequence

from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import TENSOR_NAME, TENSOR_NAMES, TENSORS

# half of NumPy's 64
_DIMENSIONS = 32
# above any size, stride or offset
GREATEST = 2**48


def check_names(names: Iterable[str], where: str) -> None:
    """Refuses too many tensors and too long names.

    Args:
      names: of all tensors.
      where: the file, for messages.

    Raises:
      UserError: says which name, or how many.
    """
    count = total = 0
    for name in names:
        count, total = count + 1, total + len(name)
        if len(name) > TENSOR_NAME:
            raise UserError(
                f"{where}: damaged: the name of tensor {count}, {name[:40]!r}…, has {len(name):,} "
                f"characters, expected at most {TENSOR_NAME:,}"
            )
    if count > TENSORS or total > TENSOR_NAMES:
        raise UserError(
            f"{where}: {count:,} tensors, their names {total:,} characters, expected at most "
            f"{TENSORS:,} and {TENSOR_NAMES:,}: not a CLIP's"
        )


def check_shape(name: str, shape: Sequence[int], where: str) -> None:
    """Refuses a shape that NumPy has no array of, one with a side of 0 included.

    Raises:
      UserError: names the tensor.
    """
    if len(shape) > _DIMENSIONS:
        raise UserError(
            f"{where}: damaged: tensor {name} has {len(shape):,} dimensions, expected at most "
            f"{_DIMENSIONS}"
        )
    # NumPy, too, multiplies only the sides that are not 0
    if any(not 0 <= n < GREATEST for n in shape) or math.prod(n for n in shape if n) >= GREATEST:
        raise UserError(
            f"{where}: damaged: tensor {name} is {tuple(shape)}, expected sizes from 0 to below 2⁴⁸"
        )
