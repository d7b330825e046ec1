"""The exception for mistakes of users, and names of settings and functions in its messages.

The library names its own arguments, config fields and functions. A command replaces them by flags
and commands, with `named_by`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from vtd_jax.printable import shown

_LONG = 2**16


class UserError(ValueError):
    """Bad input, in one line: what, where, what was expected, what to do.

    Commands print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        # a text of millions of words is not split, only shortened
        one_line = " ".join(message.split()) if len(message) < _LONG else message
        super().__init__(shown(one_line))


@dataclass(frozen=True)
class Names:
    """Names of settings and functions in messages; by default those of the library.

    It is plain data, which can be sent to worker processes and hosts.

    Attributes:
      settings: argument -> name. Keys are "argument", "function.argument" for a function that the
        user does not run, or "argument=value" for a value with a name of its own.
      fields: prefix of config fields, as in "--config.model.ties"; None puts them in backticks.
      functions: function -> name.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    fields: str | None = None
    functions: Mapping[str, str] = field(default_factory=dict)


_names = Names()


def setting(name: str, value: object = None, *, of: str = "") -> str:
    """The name of a setting in a message: `workdir=runs/a` in backticks, or that of the command.

    Call it when the message is made: the running command is not known before.

    Args:
      name: an argument of the library, or the full name of a config field.
      value: what follows `=`; None for nothing.
      of: the function that has the argument, if it is not the one that the user runs.
    """
    text = name if value is None else f"{name}={value}"
    if of:
        return _names.settings.get(f"{of}.{name}", f"`{text}` of `{of}`")
    if text in _names.settings:
        return _names.settings[text]
    if "." in name:
        return f"`{text}`" if _names.fields is None else f"{_names.fields}{text}"
    if name in _names.settings:
        return _names.settings[name] + text.removeprefix(name)
    return f"`{text}`"


def function(name: str) -> str:
    """The name of a function in a message, or of the command that calls it."""
    return _names.functions.get(name, f"`{name}`")


def names() -> Names:
    """The names that this process uses; for `use_names` in a worker."""
    return _names


def use_names(given: Names) -> None:
    """Uses these names in all messages of this process, such as those of its parent."""
    global _names
    _names = given


@contextmanager
def named_by(given: Names) -> Iterator[None]:
    """Uses these names in messages until the block ends."""
    before = names()
    use_names(given)
    try:
        yield
    finally:
        use_names(before)
