"""Helps of flags and meanings of fields stand alone, and point at nothing a wheel lacks."""

import ast
import re
from types import SimpleNamespace

import pytest

from experiments.common import config_flag, program
from experiments.configs import scenes
from experiments.weights import listing
from vtd_jax.fields import described
from vtd_jax.train.config import RunConfig

ROOT = program.FOLDER.parent
# sorting moves a flag away from the one that "likewise" or a bare "of it" leans on
LEANING = re.compile(
    r"\blikewise\b|\bas --(labels|config)|\bhow many of them$|^(of|on|in|that|for) [^:]*(;|$)"
)
_SOURCES = sorted(program.FOLDER.rglob("*.py")) + sorted((ROOT / "vtd_jax").rglob("*.py"))


def _helps() -> dict[str, str]:
    """FILE --FLAG -> its help, of every flag that a module defines."""
    found = {}
    for file in program.FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "attr", "")
            if name.startswith("DEFINE_") and isinstance(node.args[0], ast.Constant):
                text = node.args[3 if "enum" in name else 2]
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                said = [part.value for part in parts if isinstance(part, ast.Constant)]
                found[f"{file.name} --{node.args[0].value}"] = "".join(said)
    return found


def test_the_help_of_a_flag_is_understood_without_its_neighbours():
    helps = _helps()
    assert len(helps) > 100
    assert {flag: text for flag, text in helps.items() if LEANING.search(text)} == {}


def test_the_meaning_of_a_field_is_understood_without_its_neighbours():
    meanings = {name: field.help for name, field in described(RunConfig).items()}
    assert {name: text for name, text in meanings.items() if LEANING.search(text)} == {}
    assert {name: text for name, text in meanings.items() if "docs/" in text} == {}


@pytest.mark.parametrize(
    "text", ["of its image tower's attention, likewise", "for --dry_run: how many of them"]
)
def test_a_help_that_leans_on_another_is_noticed(text):
    assert LEANING.search(text)


@pytest.mark.slow
def test_nothing_that_is_printed_points_at_a_page_that_a_wheel_lacks():
    commands = set(program.commands().values())
    for file in _SOURCES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        own = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        # the docstring of a command is its help
        own -= {id(tree.body[0].value)} if file in commands else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_printed = id(node) not in own
                assert not (is_printed and re.search(r"\bdocs/\w+", node.value)), (file, node.value)


def test_a_narrow_terminal_is_shown_every_field_with_type_value_and_meaning(monkeypatch, capsys):
    flag = SimpleNamespace(value=scenes.get_config())
    monkeypatch.setattr(config_flag, "flags", SimpleNamespace(FLAGS={"config": flag}))
    monkeypatch.setattr(config_flag, "filename", lambda: "scenes")
    monkeypatch.setattr(config_flag, "columns_of_terminal", lambda: 80)
    config_flag.show_fields()
    out = capsys.readouterr().out
    text = " ".join(out.split())
    for name, field in described(RunConfig).items():
        if name != "data.evaluate":
            assert f" {name} = " in text
        assert f" {field.kind}: {field.help}" in text
    assert "left out" not in text
    assert max(map(len, out.splitlines())) <= 80


def test_80_columns_show_which_weights_are_on_this_machine(monkeypatch, capsys, tmp_path):
    for name, value in {
        "COLUMNS": "80",
        "TERM": "xterm",
        "FORCE_COLOR": "1",
        "VTD_JAX_CACHE": str(tmp_path),
        "HF_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    listing.show_list()
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    rows = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    assert (rows["name"], rows["tiny"], rows["ViT-B/16"]) == ("here", "yes", "no")
    assert "left out on 80 columns: from" in lines
