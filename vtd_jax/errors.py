"""The one exception for mistakes that a user can mend, and how its messages name what to set or
call.

The library names its own arguments, config fields and functions. A command lets it name flags and
commands in their place, with `named_by`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from vtd_jax.printable import shown

_LONG = 2**16


class UserError(ValueError):
    """Bad input, told in one line: what, where, what was expected, what to do.

    Commands print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        # a text of millions of words is not taken apart, only shortened
        one_line = " ".join(message.split()) if len(message) < _LONG else message
        super().__init__(shown(one_line))


@dataclass(frozen=True)
class Names:
    """What messages call settings and functions of the library; nothing given is their own names.

    It is plain data, so that worker processes and hosts can be given it.

    Attributes:
      settings: argument -> name, as "overwrite"; of another function than the one that the user
        runs "function.argument", and "argument=value" where a value has a name of its own.
      fields: what stands before a field of a config, as "model.ties"; None is for backticks.
      functions: function -> name.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    fields: str | None = None
    functions: Mapping[str, str] = field(default_factory=dict)


_names = Names()


def setting(name: str, value: object = None, *, of: str = "") -> str:
    """How a message names a setting: `workdir=runs/a` in backticks, or as the command writes it.

    Messages must call it as they are made: only then it is known which command runs.

    Args:
      name: of an argument of the library, or of a field of a config by its full name.
      value: what stands behind `=`; None leaves it out.
      of: the function that has the argument, where it is not the one that the user runs.
    """
    told = name if value is None else f"{name}={value}"
    if of:
        return _names.settings.get(f"{of}.{name}", f"`{told}` of `{of}`")
    if told in _names.settings:
        return _names.settings[told]
    if "." in name:
        return f"`{told}`" if _names.fields is None else f"{_names.fields}{told}"
    if name in _names.settings:
        return _names.settings[name] + told.removeprefix(name)
    return f"`{told}`"


def function(name: str) -> str:
    """How a message names a function of the library, or the command that calls it."""
    return _names.functions.get(name, f"`{name}`")


def names() -> Names:
    """What messages of this process call settings and functions; for `use_names` in a worker."""
    return _names


def use_names(given: Names) -> None:
    """Has messages of this process use the names of another one, which started it."""
    global _names
    _names = given


@contextmanager
def named_by(given: Names) -> Iterator[None]:
    """Has messages use these names until the block ends."""
    before = names()
    use_names(given)
    try:
        yield
    finally:
        use_names(before)
