"""The scripts in the shells that they are for, with a terminal, as a user presses TAB."""

import dataclasses
import operator
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.common import config_flag, program
from experiments.completion import __main__ as completion
from experiments.completion import scripts
from experiments.configs import scenes
from vtd_jax.errors import UserError
from vtd_jax.fields import build, described
from vtd_jax.train.config import RunConfig

# what is typed before TAB -> the words of the line after it
LINES = {
    "pred": "predict",
    "build-d": "build-data",
    "predict --dt": "predict --dtype=",
    "predict --dtype=b": "predict --dtype=bfloat16",
    "predict --dtype b": "predict --dtype bfloat16",
    "build_data --on_error=f": "build_data --on_error=fail",
    "train --config=few_shot:hm": "train --config=few_shot:hmdb51",
    "train --config.clip.pa": "train --config.clip.path=",
    "train --config.clip.path=ViT-L/14@": "train --config.clip.path=ViT-L/14@336px",
    "train --config.model.pooling=so": "train --config.model.pooling=softmax_mean",
    "train --config.model.pooling so": "train --config.model.pooling softmax_mean",
    "train --config.augment.enabled=f": "train --config.augment.enabled=false",
    "evaluate --checkpoint l": "evaluate --checkpoint last",
    "export --checkpoint=be": "export --checkpoint=best",
    "predict --truth=fo": "predict --truth=folders",
    "report --model=open_clip:ViT-H-14/dfn": "report --model=open_clip:ViT-H-14/dfn5b",
    "weights ver": "weights verify",
    "weights get RN50x6": "weights get RN50x64",
    "predict --norest": "predict --norestart",
    "completion z": "completion zsh",
    # a file, where there are no words and where there are
    "predict --json=answ": "predict --json=answers.json",
    "predict --model=answ": "predict --model=answers.json",
    "compare answ": "compare answers.json",
}
# how each is started without the user's own settings, and reads the script
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {script}\n"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source {script}\n"),
}
# makes standard input the terminal that controls the session, and becomes the shell
CONTROL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
SHELLS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"),
    )
    for name in scripts.SHELLS
]


class Terminal:
    """A shell in a terminal."""

    def __init__(self, call: list[str], folder: Path):
        self._master, theirs = pty.openpty()
        settings = {"TERM": "dumb", "PS1": "> ", "COLUMNS": "200", "INPUTRC": "/dev/null"}
        # a new process, as a process in which JAX has run cannot be forked
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONTROL, *call],
            cwd=folder,
            env={**os.environ, **settings},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def type(self, text: str, until: str, seconds: float = 20) -> str:
        """Types a text, and returns what the terminal shows once this is in it."""
        os.write(self._master, text.encode())
        shown, end = "", time.monotonic() + seconds
        while until not in shown and time.monotonic() < end:
            if select.select([self._master], [], [], 0.1)[0]:
                shown += os.read(self._master, 65536).decode(errors="replace")
        return shown

    def close(self) -> None:
        """Ends the shell."""
        os.close(self._master)
        self._process.wait()


@pytest.fixture(params=SHELLS)
def terminal(request, tmp_path):
    """Each shell, with its script."""
    (tmp_path / "script").write_text(scripts.script(request.param))
    (tmp_path / "answers.json").touch()
    call, start = START[request.param]
    opened = Terminal(call, tmp_path)
    opened.type(start.format(script=tmp_path / "script"), "> ")
    opened.type("vtd() { printf '[%s]' \"$@\"; echo; }; vtd rea''dy\n", "[ready]")
    yield opened
    opened.close()


@pytest.mark.command
def test_tab_completes(terminal):
    for typed, completed in LINES.items():
        expected = "".join(f"[{word}]" for word in completed.split())
        assert expected in terminal.type(f"vtd {typed}\t\n", expected), typed


def test_names_of_configs_are_those_that_can_be_read():
    found = scripts.configs()
    assert {one.partition(":")[0] for one in found} == set(config_flag.shipped())
    assert {"base_to_novel:hmdb51", "zero_shot:kinetics600", "video_folder"} <= set(found)


def test_fields_are_completed_with_all_values_that_they_take():
    settings, taken = build(RunConfig, scenes.get_config().to_dict()), {}
    for field, about in described(RunConfig).items():
        group, _, name = field.rpartition(".")
        part = operator.attrgetter(group)(settings) if group else settings
        if about.kind != "str" or not hasattr(part, name):
            continue
        try:
            dataclasses.replace(part, **{name: "?"})
        except UserError as error:
            if found := re.search("expected one of (.*)", str(error)):
                taken[field] = {word for word in found[1].split(", ") if word}
    offered = {field: set(values) for field, values in scripts.FIELD_VALUES.items()}
    # the only numbers
    assert offered.pop("evaluate.spatial_views") == {"1", "3"}
    assert len(offered) > 10
    assert offered == taken


def test_a_script_has_all_commands_and_runs_nothing_of_what_it_holds():
    text = scripts.script("bash")
    for name in program.commands():
        assert f"{program.dashed(name)}:" in text
    words = re.findall(r"printf '%s\\n' ('[^;]*') ;;", text)
    assert len(words) > 20
    # in single quotes nothing is expanded
    assert not re.search(r"[$`]", re.sub(r"'[^']*'", "", "".join(words)))


@pytest.mark.parametrize(
    "given, said", [((), "nothing"), (("fish",), "fish"), (("bash", "x"), "x")]
)
def test_another_shell_is_refused(given, said, capsys):
    assert completion.main(list(given)) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert f"expected bash or zsh, got '{said}" in errors or "'bash x'" in errors


def test_help_and_the_script_are_printed(capsys):
    assert completion.main(["-h"]) == 0
    assert "eval" in capsys.readouterr().out
    assert completion.main(["zsh"]) == 0
    assert capsys.readouterr().out.endswith("compdef _vtd vtd\n")
