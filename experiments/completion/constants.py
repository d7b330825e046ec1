"""Values of constants in a module's text, without importing the module."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.common import program

ROOT = program.FOLDER.parent


@functools.cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def imports(file: Path) -> dict[str, tuple[str, str]]:
    """Name in a module -> (module, name there), of `from MODULE import NAME`."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def file_of(module: str) -> Path | None:
    """The file of one of our modules or packages; None for any other."""
    top, *rest = module.split(".")
    if top == "experiments":
        base = ROOT.joinpath(top, *rest)
    elif top == "vtd_jax":
        import vtd_jax

        base = Path(vtd_jax.__file__).parent.joinpath(*rest)
    else:
        return None
    found = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def words(node: ast.expr, file: Path) -> tuple[str, ...]:
    """The texts of an expression such as `["a", *OTHERS]` or `list(KNOWN)`; () if they are not
    plain to see.
    """
    found = _value(node, file)
    texts = tuple(found) if isinstance(found, list | tuple | dict) else ()
    return texts if all(isinstance(text, str) for text in texts) else ()


def _value(node: ast.expr, file: Path) -> Any:
    """A text, or a collection of which only the keys are right."""
    match node:
        case ast.Constant(value):
            return value
        case ast.List(items) | ast.Tuple(items):
            return [one for item in items for one in _items(item, file)]
        case ast.Dict(keys):
            return [one for key in keys for one in (_items(key, file) if key else ())]
        case ast.Call(ast.Name("list" | "tuple" | "sorted" | "dict"), [inner]):
            return _value(inner, file)
        case ast.BinOp(left, ast.Add() | ast.BitOr(), right):
            return [*(_value(left, file) or ()), *(_value(right, file) or ())]
        case ast.Name(name):
            return _named(name, file)
        case ast.Attribute(ast.Name(module), name) if module in imports(file):
            other = file_of(".".join(imports(file)[module]))
            return None if other is None else _named(name, other)
    return None


def _items(node: ast.expr, file: Path) -> Iterator[Any]:
    """What an element of a list adds to it."""
    if isinstance(node, ast.Starred):
        yield from _value(node.value, file) or ()
    else:
        yield _value(node, file)


def _named(name: str, file: Path) -> Any:
    """The value of a constant, of this module or one that it is imported from."""
    for target, value in _assigned(file):
        if isinstance(target, ast.Name) and target.id == name:
            return _value(value, file)
    if name in imports(file):
        module, there = imports(file)[name]
        other = file_of(module)
        return None if other is None else _named(there, other)
    return None


def _assigned(file: Path) -> Iterator[tuple[ast.expr, ast.expr]]:
    """(Target, value) of the assignments of a module; `A, B = 1, 2` is two of them."""
    for node in tree_of(file).body:
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts)
            else:
                yield target, node.value
