"""The flags of each command, read from the text of its modules: to import them takes seconds."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

from experiments.common import program
from experiments.completion.constants import file_of, imports, tree_of, words
from vtd_jax.untrusted import raised


@dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
      name: without dashes.
      is_bool: whether `--name` and `--noname` are all that there is.
      values: to choose from; () for any.
    """

    name: str
    is_bool: bool = False
    values: tuple[str, ...] = ()


def flags_of(command: str) -> tuple[Flag, ...]:
    """Those that the command's help shows, in alphabetical order; of `tfds_build`, whose flags are
    TFDS's, none.
    """
    found = {flag.name: flag for flag in _flags_in(program.commands()[command])}
    return tuple(found[name] for name in sorted(found))


@functools.cache
def _flags_in(file: Path) -> tuple[Flag, ...]:
    """The flags that a module defines, and those that it adopts from others."""
    found: list[Flag] = []
    for node in ast.walk(tree_of(file)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name = node.func.attr
        if name == "adopt_module_key_flags" and isinstance(node.args[0], ast.Name):
            other = file_of(".".join(imports(file)[node.args[0].id]))
            found += () if other is None else _flags_in(other)
        elif name.startswith("DEFINE_"):
            found += _defined(node, name.removeprefix("DEFINE_"), file)
    return tuple(found)


def _defined(call: ast.Call, kind: str, file: Path) -> list[Flag]:
    """What a call of `flags.DEFINE_…` defines."""
    if kind == "config_file":
        return [Flag("config")]
    is_bool = kind in ("bool", "boolean")
    values = words(call.args[2], file) if kind in ("enum", "multi_enum") else ()
    match call.args[0]:
        case ast.Constant(str(name)):
            return [Flag(name, is_bool, values)]
        case ast.Attribute(ast.Name(limit), "flag"):
            # the name of the limit, or of the variable of a loop over some
            known = imports(file)
            limits = [limit] if limit in known else [one for one in known if hasattr(raised, one)]
            return [Flag(getattr(raised, one).flag) for one in limits]
    return []
