"""Values of flags that are lists of whole numbers."""

from collections.abc import Sequence

from vtd_jax.errors import UserError


def whole_numbers(
    flag: str,
    values: Sequence[str],
    expected: str,
    *,
    least: int = 0,
    allowed: Sequence[int] = (),
    repeats: bool = False,
) -> tuple[int, ...]:
    """The numbers of a flag.

    Args:
      flag: its name.
      values: its texts.
      expected: what an error says was expected.
      least: smallest number.
      allowed: numbers to choose from; () for any.
      repeats: whether a number may be there twice.

    Raises:
      UserError: no values, or one that will not do.
    """
    numbers = [int(value) for value in values if value.strip().isdecimal()]
    if (
        not values
        or len(numbers) < len(values)
        or min(numbers) < least
        or not (repeats or len(set(numbers)) == len(numbers))
        or (allowed and not set(numbers) <= set(allowed))
    ):
        raise UserError(f"--{flag}={','.join(values)}: expected {expected}")
    return tuple(numbers)
