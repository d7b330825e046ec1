"""What documents tell people to type: every command, flag, config and field is there.

The commands are read, not run. Flags come from the text of the commands' modules (a test of
`experiments.completion` holds those against absl's).
"""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.common import program
from experiments.completion.flags_of import flags_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "data/**/*.md", "tests/*.md")
    for page in sorted(ROOT.glob(pattern))
    if not page.is_relative_to(ROOT / "docs" / "_build")
]
# absl's own, of every command, and those of TFDS, whose program is not ours
_EVERYWHERE = {"help", "helpfull", "version", "verbosity"}
_FOREIGN = {"tfds_build"}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# names that stand for a value of one's own
_BLANK = re.compile(r"^[A-Z]+$|…")


def _blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(Language, text) of the fenced blocks of a page."""
    for match in _FENCE.finditer(page.read_text()):
        yield match[2], match[3]


def _calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(Command, its arguments) of each call on a page, in blocks and in sentences."""
    lines = [
        line
        for language, text in _blocks(page)
        if language in ("", "bash", "sh")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    prose = _FENCE.sub("", page.read_text())
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    for line in lines:
        if re.search(r"\bvtd |-m experiments\.", line):
            yield from _of_line(line)


def _of_line(line: str) -> Iterator[tuple[str, list[str]]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        # a sentence with an apostrophe
        return
    for place, word in enumerate(words):
        if " " in word and ("vtd " in word or "experiments." in word):
            # a command for other machines, as one argument
            yield from _of_line(word)
        elif word == "vtd" or word.endswith("/vtd"):
            yield from _call(words[place + 1 :])
        elif word.startswith("experiments.") and words[place - 1] == "-m":
            yield from _call([word.removeprefix("experiments."), *words[place + 1 :]])


def _call(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The command that the words begin with, up to what ends it in a shell."""
    if not words or words[0].startswith("-") or re.search(r"[^\w-]", words[0]):
        return
    ends = [i for i, word in enumerate(words) if word in ("||", "&&", "|", "&", ";", ">")]
    yield words[0], words[1 : min(ends, default=len(words))]


CALLS = sorted({(page, name, *rest) for page in PAGES for name, rest in _calls(page)})


def _fields(name: str, arguments: str) -> set[str]:
    """Every field of a config, as `optimizer.lr`."""
    config = importlib.import_module(f"experiments.configs.{name}").get_config(arguments)

    def below(group, prefix: str) -> Iterator[str]:
        for key, value in group.items():
            yield prefix + key
            if hasattr(value, "items"):
                yield from below(value, f"{prefix}{key}.")

    return set(below(config, ""))


ALL_FIELDS = _fields("scenes", "")


def test_the_documents_have_commands():
    named = {call[1].replace("-", "_") for call in CALLS}
    assert {"predict", "train", "evaluate", "build_data", "reproduce", "export", "weights"} <= named
    assert len(CALLS) > 100


def test_calls_are_found_where_they_stand():
    line = "ssh NAME --command='cd x && .venv/bin/vtd train --workdir=w | tee' # vtd no"
    assert list(_of_line(line)) == [("train", ["--workdir=w"])]
    line = "for i in 0 1; do X=1 python -m experiments.evaluate --workdir='a b' && ls; done"
    assert list(_of_line(line)) == [("evaluate", ["--workdir=a b"])]


def test_a_wrong_flag_a_wrong_value_and_a_wrong_field_are_noticed(monkeypatch):
    for wrong in ("--vido=x", "--dtype=float31", "--config.optimizer.lrr=1"):
        monkeypatch.setattr(f"{__name__}.CALLS", [(PAGES[0], "predict", wrong)])
        with pytest.raises(AssertionError):
            test_commands_and_flags_are_there(PAGES[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_flags_are_there(page):
    for _, typed, *words in (call for call in CALLS if call[0] == page):
        name = typed.replace("-", "_")
        if _BLANK.search(typed):
            continue
        assert name in program.commands(), typed
        if name in _FOREIGN:
            continue
        flags = {flag.name: flag for flag in flags_of(name)}
        for word in (word for word in words if re.match(r"--?[a-z]", word)):
            flag, _, value = word.lstrip("-").partition("=")
            if flag.startswith("config."):
                assert flag.removeprefix("config.") in ALL_FIELDS, word
                continue
            off = flag.removeprefix("no") in flags and flags[flag.removeprefix("no")].is_bool
            assert flag in flags or flag in _EVERYWHERE or off, f"{typed}: {word}"
            allowed = flags[flag].values if flag in flags else ()
            assert not (allowed and value) or value in allowed or _BLANK.search(value), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configs_that_are_named_are_there(page):
    for call in (call for call in CALLS if call[0] == page):
        for word in () if call[1].replace("-", "_") in _FOREIGN else call[2:]:
            flag, _, value = word.partition("=")
            if flag != "--config" or not re.fullmatch(r"\w+(:.*)?", value) or _BLANK.search(value):
                continue
            name, _, arguments = value.partition(":")
            # a file of templates of one's own is not there
            arguments = re.sub(r",?templates=FILE", "", arguments)
            assert _fields(name, arguments), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_is_python_and_imports_what_is_there(page):
    for language, text in _blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtd_jax"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)
