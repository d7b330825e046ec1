"""Prints a script that completes commands, flags and names in bash or zsh.

  python -m experiments.completion bash
  python -m experiments.completion zsh

For bash, put this line into ~/.bashrc; for zsh, with zsh at its end, into ~/.zshrc behind compinit:
  eval "$(vtd completion bash)"

The script holds all words, so that no Python starts when TAB is pressed: commands, their flags, the
values of those that have few, configs with their data sets, and weights by name. Where a file is
expected, it completes files. It is of one version: print it again after an upgrade.
"""

import sys

from experiments.common import program
from experiments.common.command_line import steady_output, version
from experiments.completion.scripts import SHELLS, script


def main(arguments: list[str]) -> int:
    """Prints the script, and returns the exit status. Without absl, which takes time to import."""
    if "--version" in arguments:
        print(version())
    elif {"-h", "--help", "--helpfull"} & set(arguments):
        print(program.respelled(__doc__ or ""))
    elif len(arguments) == 1 and arguments[0] in SHELLS:
        print(script(arguments[0]))
    else:
        given = " ".join(arguments) or "nothing"
        expected = " or ".join(SHELLS)
        print(f"error: expected {expected}, got {given!a}; see --help", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    steady_output()
    sys.exit(main(sys.argv[1:]))
