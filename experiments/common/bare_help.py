"""What `--help` shows of a command that an extra is missing for, so that it cannot be imported."""

import ast
import sys
import textwrap

from experiments.common import program
from experiments.completion.flags_of import flags_of

_ASKS = {"-h", "--help", "--helpfull"}


def is_wanted() -> bool:
    """Whether the command line asks for help."""
    return not _ASKS.isdisjoint(sys.argv[1:])


def bare_help(command: str, lacking: str) -> str:
    """The command's description and the names of its flags, from the text of its modules.

    Args:
      command: as a module, `train`.
      lacking: the line about the extra, which comes last.
    """
    tree = ast.parse(program.commands()[command].read_text(encoding="utf-8"))
    names = " ".join(f"--{flag.name}" for flag in flags_of(command))
    listed = textwrap.fill(names, 100, break_long_words=False, break_on_hyphens=False)
    parts = [program.respelled(ast.get_docstring(tree) or ""), f"flags:\n{listed}" if names else ""]
    return "\n\n".join([part for part in parts if part] + [f"{lacking} (--help then says more)"])
