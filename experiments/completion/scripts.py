"""The scripts for the shells: functions of words, which both read, and how each uses them."""

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.common import program
from experiments.common.dispatch import summary
from experiments.completion.constants import file_of, tree_of, words
from experiments.completion.flags_of import flags_of
from vtd_jax.clip.config import ACTIVATIONS, LAYOUTS, WAYS
from vtd_jax.clip.hub.names import OF_OPEN_CLIP, TINY
from vtd_jax.clip.hub.open_clip import OPEN_CLIP
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.fields import described
from vtd_jax.model.config import CHOICES
from vtd_jax.model.preprocess import PREPROCESS
from vtd_jax.train.config import ON_NONFINITE, PARALLEL, PROTOCOLS, RunConfig
from vtd_jax.train.groups import REMAT

SHELLS = ("bash", "zsh")
# flags that take weights by name, beside files
_WEIGHTS = {
    "benchmark": (),
    "convert": ("source",),
    "export": ("checkpoint",),
    "index": ("model", "clip"),
    "predict": ("model", "clip"),
    "report": ("model", "clip"),
    "reproduce": ("clip",),
    "search": ("model", "clip"),
}

# flags that take a word, beside files or numbers
_WORDS = {"checkpoint": ("last", "best"), "truth": ("folders",)}
# fields of a config -> their values; a test compares them with those that RunConfig takes
FIELD_VALUES: dict[str, Iterable[str]] = {
    **{f"model.{name}": values for name, values in CHOICES.items()},
    "clip.activation": ACTIVATIONS,
    "clip.dtype": ("float32", "bfloat16"),
    "data.preprocess": PREPROCESS,
    "evaluate.spatial_views": ("1", "3"),
    "memory.attention": WAYS,
    "memory.layers": LAYOUTS,
    "memory.remat": REMAT,
    "on_nonfinite": ON_NONFINITE,
    "parallel": PARALLEL,
    "protocol": PROTOCOLS,
}


def script(shell: str) -> str:
    """The completion script for a shell of `SHELLS`."""
    parts = [
        f"# completion of vtd for {shell}, printed by `vtd completion {shell}`",
        _function("commands", [("*", [f"{one}:{about}" for one, about in _summaries()])], "\n"),
        _function("flags", _flags()),
        _function("values", _values()),
        _function("fields", [("*", (f"--config.{field}=" for field in described(RunConfig)))]),
        Path(__file__).with_name(f"vtd.{shell}").read_text(encoding="utf-8").rstrip(),
    ]
    return "\n".join(parts)


def weights() -> list[str]:
    """Names of weights that are known without asking a server."""
    return [TINY, *OPENAI, *(f"{OF_OPEN_CLIP}{name}" for name in OPEN_CLIP)]


def configs() -> list[str]:
    """`NAME:` or `NAME:DATASET` of all configs that are part of this package."""
    found = []
    for path in sorted((program.FOLDER / "configs").glob("[!_]*.py")):
        usage = next(
            ast.literal_eval(node.value)
            for node in tree_of(path).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "USAGE"
        )
        arguments = usage.partition(":")[2]
        # `hmdb51|ucf101[,…]` but not `train=NAME`
        first = re.match(r"[\w|]+(?![\w|=])", arguments)
        found += [f"{path.stem}:{one}" for one in first[0].split("|")] if first else [path.stem]
    return found


def _summaries() -> Iterator[tuple[str, str]]:
    for name in program.commands():
        yield program.dashed(name), summary(name)


def _flags() -> Iterator[tuple[str, Iterable[str]]]:
    """Command -> its flags, with = behind those that need a value."""
    for name in program.commands():
        found = ["--help", "--helpfull", "--version"]
        for flag in flags_of(name):
            found += [f"--{flag.name}", f"--no{flag.name}"] if flag.is_bool else [f"--{flag.name}="]
        yield name, sorted(found)


def _values() -> Iterator[tuple[str, Iterable[str]]]:
    """ "COMMAND FLAG" -> its values; numbers in the place of the flag are arguments without one."""
    for name in program.commands():
        for flag in flags_of(name):
            if flag.values:
                yield f"{name} {flag.name}", flag.values
            elif flag.name in _WORDS or flag.name in _WEIGHTS.get(name, ()):
                known = weights() if flag.name in _WEIGHTS.get(name, ()) else []
                yield f"{name} {flag.name}", [*_WORDS.get(flag.name, ()), *known]
    file = file_of("experiments.weights.__main__")
    assert file is not None
    yield "weights 1", words(ast.Name("ACTIONS"), file)
    yield "weights 2", weights()
    yield "completion 1", SHELLS
    yield "* config", configs()
    yield "* config.clip.path", weights()
    for field, about in described(RunConfig).items():
        if about.kind == "bool" or field in FIELD_VALUES:
            yield f"* config.{field}", FIELD_VALUES.get(field, ("true", "false"))
    yield "* architecture", [*OPENAI, TINY]


def _function(name: str, cases: Iterable[tuple[str, Iterable[str]]], between: str = " ") -> str:
    """A function of the shell that prints the words of a case."""
    together: dict[str, list[str]] = {}
    for case, found in cases:
        pattern = "*" * case.startswith("*") + f"'{case.lstrip('*')}'"
        together.setdefault(between.join(found), []).append(pattern)
    lines = [f"__vtd_{name}() {{", '  case "$*" in']
    for found, patterns in together.items():
        lines.append(f"    {' | '.join(patterns)}) printf '%s\\n' {shlex.quote(found)} ;;")
    return "\n".join([*lines, "  esac", "}"])
