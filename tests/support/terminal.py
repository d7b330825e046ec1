"""A terminal that keeps what is written to it."""

import io
import re


class Terminal(io.StringIO):
    """Stands for `sys.stderr` or `sys.stdout`."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """All that was ever shown, in order, without what moves the cursor; a redrawn line counts
        every time.
        """
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue().replace("\r", "\n"))
        return [line for line in shown.split("\n") if line.strip()]
