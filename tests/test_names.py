"""Messages of the library name its own settings and functions; commands spell them as flags."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vtd_jax
from experiments.common.spelling import flag_names
from vtd_jax.errors import Names, UserError, function, named_by, names, setting
from vtd_jax.fields import check_whole
from vtd_jax.video.workers import process_map

ROOT = Path(vtd_jax.__file__).parent
# a script of its own, which is copied beside what it serves
SCRIPTS = {ROOT / "predict/serve_example.py"}
COMMAND = re.compile(r"(?<![\w-])--[a-z]\w*|(?<![\w-])--$|\bexperiments\.\w|\bbuild_data\b")
# what looks like a flag of ours and is of something else
OTHERS = {
    # libtpu
    "cost/kernels.py": {
        "--xla_jf_dump_to",
        "--xla_jf_dump_llo_text",
        "--xla_jf_dump_llo_pass_label_regex",
    },
    # names of the hub
    "clip/hub/hub_cache.py": {"--"},
    "clip/hub/names.py": {"--"},
    # a module that is imported
    "installed/vtd.py": {"experiments.common.dispatch"},
    "evaluate/checkout.py": {"--short=12", "--porcelain"},  # git
    "evaluate/plots.py": {"--"},  # a dashed line
    "video/ingest/run.py": {"--"},  # Beam's own parser
    "video/pipeline.py": {"--shm-size=8g"},  # docker
}


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a module with their lines, without docstrings."""
    tree = ast.parse(path.read_text())
    about = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in about:
            yield node.lineno, node.value


@pytest.mark.slow
def test_no_message_of_the_library_names_a_flag_or_a_command():
    found = []
    for path in sorted(set(ROOT.rglob("*.py")) - SCRIPTS):
        name = str(path.relative_to(ROOT))
        for line, text in _texts(path):
            for other in OTHERS.get(name, ()):
                text = text.replace(other, "")
            # custom properties of style sheets begin with dashes too
            text = re.sub(r"--\w+:", "", text)
            found += [f"{name}:{line}: {text}"] if COMMAND.search(text) else []
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_names_are_chosen_as_a_message_is_made_not_as_a_module_is_read():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        inside = {
            id(node)
            for outer in ast.walk(tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for body in (outer.body if isinstance(outer.body, list) else [outer.body])
            for node in ast.walk(body)
        }
        found += [
            f"{path}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and getattr(node.func, "id", "") in ("setting", "function")
            and id(node) not in inside
        ]
    assert not found


def _messages() -> list[str]:
    return [
        setting("overwrite"),
        setting("workdir", "runs/a"),
        setting("model.ties", "release"),
        setting("overwrite", of="build_records"),
        setting("resume", False),
        setting("parallel", "shard_map"),
        function("save_tuned"),
    ]


def test_the_library_names_what_it_knows():
    assert _messages() == [
        "`overwrite`",
        "`workdir=runs/a`",
        "`model.ties=release`",
        "`overwrite` of `build_records`",
        "`resume=False`",
        "`parallel=shard_map`",
        "`save_tuned`",
    ]


def test_a_command_names_its_flags_and_other_commands():
    with named_by(flag_names({"overwrite", "workdir", "config"})):
        assert _messages() == [
            "--overwrite",
            "--workdir=runs/a",
            "--config.model.ties=release",
            "build_data --overwrite",
            "--noresume",
            "--config.parallel=shard_map",
            "python -m experiments.export",
        ]
    assert names() == Names()


def test_a_command_without_such_a_flag_keeps_the_name_of_the_library():
    with named_by(flag_names({"out"})):
        assert setting("workdir", "a") == "`workdir=a`"
        assert setting("clip.path", "FILE") == "`clip.path=FILE`"


def test_texts_of_users_are_never_respelled():
    with named_by(flag_names({"overwrite", "workdir", "config"})):
        error = UserError(f"`overwrite`/`clip.path`: is a file; give {setting('workdir')}")
        assert str(UserError(f"`workdir`: {error}")) == (
            "`workdir`: `overwrite`/`clip.path`: is a file; give --workdir"
        )


def _refuse(item: str, report: object) -> None:
    raise UserError(f"{item}: replace it with {setting('overwrite')}")


@pytest.mark.parametrize("flags, message", [((), "`overwrite`"), (("overwrite",), "--overwrite")])
def test_worker_processes_use_the_names_of_the_command(flags, message):
    with named_by(flag_names(flags)):
        (outcome,) = process_map(_refuse, ["a"], 1)
    assert str(outcome.error) == f"a: replace it with {message}"


@pytest.mark.parametrize(
    "value", [-1, 0, 1.0, 2.5, True, "3", None, float("nan"), [1], np.float32(2), np.bool_(1), {}]
)
def test_a_count_that_is_none_is_named_as_the_user_knows_it(value):
    with pytest.raises(UserError, match=r"^`top=.*`: expected 1 or more clips"):
        check_whole("top", value, "1 or more clips")
    with named_by(flag_names(["top"])), pytest.raises(UserError, match=r"^--top=.*: expected 1"):
        check_whole("top", value, "1 or more clips")


def test_counts_of_any_kind_are_ints():
    for value in (3, np.int64(3), np.uint8(3), np.array(3)):
        assert type(check_whole("top", value, "1 or more clips")) is int
