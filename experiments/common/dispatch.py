"""`vtd`: lists the commands, and runs the one that is named as `python -m experiments.NAME` does.

Nothing here imports JAX, so the list and a mistake are there at once.
"""

import ast
import difflib
import runpy
import sys

import experiments
from experiments.common import program
from experiments.common.command_line import steady_output, version
from vtd_jax.printable import shown

# the order in which somebody needs them; what is not named here comes last
_GROUPS = {
    "Your videos, your words": ("predict", "report", "app", "index", "search", "weights"),
    "Training and evaluation": ("build_data", "train", "evaluate", "compare", "reproduce"),
    "Models as files": ("convert", "export"),
    "Looking closer": ("demo", "show_batch", "aot", "benchmark"),
    "The shell": ("completion",),
}
_OTHERS = "For this project itself"
_WIDTH = 18


def main(name: str) -> None:
    """Runs `NAME COMMAND …`, where NAME is `vtd` or `python -m experiments`."""
    if name == "vtd":
        program.started_by_vtd()
    steady_output()
    first = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if first in ("-h", "--help", "--helpfull", "help"):
        print(overview(name))
        return
    if first == "--version":
        print(version())
        return
    command = first.replace("-", "_")
    if first.startswith("-") or command not in program.commands():
        print(f"error: {refusal(first, name)}", file=sys.stderr)
        sys.exit(2)
    # the command finds its own name and arguments, as behind `python -m`
    sys.argv[:2] = [first]
    experiments.begin(command)
    runpy.run_module(f"experiments.{command}", run_name="__main__", alter_sys=True)


def refusal(first: str, name: str) -> str:
    """What is wrong with the first argument of `NAME`, and what was probably meant."""
    if first.startswith("-"):
        flag = shown(first)
        return f"{flag}: flags belong to a command: {name} COMMAND {flag}; see {name} --help"
    names = {program.dashed(one): one for one in program.commands()}
    close = difflib.get_close_matches(program.dashed(first.lower()), names, n=1)
    meant = f": did you mean {name} {close[0]}?" if close else ""
    return f"unknown command {shown(first)}{meant or ','} {name} --help lists all"


def overview(name: str) -> str:
    """The commands with a line each, in groups."""
    lines = [f"usage: {name} COMMAND [--flag=value …]", ""]
    for title, names in groups().items():
        lines += [f"{title}:"]
        lines += [f"  {program.dashed(one):{_WIDTH}} {summary(one)}" for one in names]
        lines += [""]
    lines += [
        f"{name} COMMAND --help shows its flags with examples, {name} --version the versions.",
    ]
    return "\n".join(lines)


def groups() -> dict[str, tuple[str, ...]]:
    """Title -> commands, all of them."""
    grouped = {one for names in _GROUPS.values() for one in names}
    others = tuple(one for one in program.commands() if one not in grouped)
    return _GROUPS | {_OTHERS: others}


def summary(command: str) -> str:
    """The first line of a command's docstring, without importing the command."""
    text = program.commands()[command].read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    return program.respelled(docstring.partition("\n")[0])
