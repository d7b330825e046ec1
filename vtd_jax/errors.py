"""The one exception for mistakes that a user can mend."""

from vtd_jax.printable import printable


class UserError(ValueError):
    """Bad input, told in one line: what, where, what was expected, what to do.

    Commands print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str):
        super().__init__(printable(" ".join(message.split())))
