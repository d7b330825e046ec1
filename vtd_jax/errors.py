"""The one exception for mistakes that a user can mend."""

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
