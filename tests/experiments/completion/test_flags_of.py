"""The flags that completion offers are those that the commands have."""

import json

import pytest

from experiments.common import program
from experiments.completion import constants
from experiments.completion.flags_of import flags_of
from support import warm

# flags and what they take, as absl has them once the command's module is imported
SCRIPT = """
import contextlib, importlib, json, sys
from absl import flags
module = importlib.import_module(sys.argv[1])
key = flags.FLAGS.get_key_flags_for_module(module.__name__)
kinds = {one.name: [one.boolean, list(getattr(one.parser, "enum_values", ()))] for one in key}
print(json.dumps(kinds))
"""
# `tfds_build` has TFDS's flags, `completion` none
COMMANDS = sorted(set(program.commands()) - {"tfds_build", "completion"})


@pytest.mark.command
@pytest.mark.parametrize("name", COMMANDS)
def test_read_from_the_text_as_absl_has_them(name):
    file = program.commands()[name]
    module = f"experiments.{name}" + (".__main__" if file.name == "__main__.py" else "")
    done = warm.run(["-c", SCRIPT, module])
    assert done.returncode == 0, done.stderr
    real = json.loads(done.stdout)
    found = {flag.name: [flag.is_bool, list(flag.values)] for flag in flags_of(name)}
    assert found == real


def test_flags_of_two_commands():
    found = {flag.name: flag for flag in flags_of("report")}
    assert found["dtype"].values == ("float32", "bfloat16")
    assert found["restart"].is_bool
    # defined by the names of limits: in a loop, and alone
    assert {"max_frame_pixels", "max_video_pixels", "max_moments", "download"} <= set(found)
    assert "override_config" in {flag.name for flag in flags_of("train")}


def test_constants_are_read_through_imports(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "from experiments.completion.scripts import SHELLS as known\n"
        "from experiments.completion import scripts\n"
        "A, B = ('a',), {'b': 1, **{}}\n"
        "C: list = ['c', *A]\n"
        "values = [known, scripts.SHELLS, C, A + ('x',), list(B), [*B, 'y'], f(), [1], missing]\n"
    )
    values = constants.tree_of(file).body[-1].value.elts
    assert [constants.words(node, file) for node in values] == [
        ("bash", "zsh"),
        ("bash", "zsh"),
        ("c", "a"),
        ("a", "x"),
        ("b",),
        ("b", "y"),
        (),
        (),
        (),
    ]
