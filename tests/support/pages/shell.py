"""Runs shell blocks of the documents in bash; `vtd` and `python` are forks of the warm server."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from support import warm
from support.pages.blocks import ROOT

# programs that a block may not start unless it is marked: they need more than this machine has
REFUSED = ("apt-get", "curl", "docker", "gcloud", "git", "kubectl", "make", "pip", "srun", "wget")
_REFUSAL = """#!/bin/sh
echo "$0: a block with this command needs a mark, see tests/support/pages/blocks.py" >&2
exit 97
"""
# starts what it is called as: its own output streams and folder, and the arguments of this command
_CLIENT = """#!{python} -ISs
import json, os, socket, sys

more = json.loads({more!r})
words = sys.argv[1:]
if os.path.basename(sys.argv[0]) == "vtd":
    kind, what = "module", "vtd_jax.installed.vtd"
    flag, added = more.get(words[0] if words else "", ("", []))
    if any(word.startswith(f"{{flag}}=") for word in words):
        words += added
elif words[0] in ("-m", "-c"):
    kind, what, words = {{"-m": "module", "-c": "code"}}[words[0]], words[1], words[2:]
else:
    kind, what, words = "file", words[0], words[1:]
streams = {{name: f"/proc/{{os.getpid()}}/fd/{{i}}" for i, name in ((1, "stdout"), (2, "stderr"))}}
where = dict(cwd=os.getcwd(), env=dict(os.environ), **streams)
asked = dict(kind=kind, what=what, arguments=words, **where)
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
server.sendall((json.dumps(asked) + "\\n").encode())
said = server.makefile().read().split()
status = int(said[1])
if status:
    # bash forgets how a command in the background ended
    with open(os.environ["FAILED"], "a") as file:
        file.write(f"{{sys.argv}}: status {{status}}\\n")
sys.exit(status if status >= 0 else 128 - status)
"""


def write_programs(folder: Path, more: Mapping[str, tuple[str, list[str]]]) -> Path:
    """Writes `vtd`, `python` and the refused programs into a folder for PATH; returns it.

    Args:
      more: command of `vtd` -> a flag, and arguments that are added where a block gives it.
    """
    folder.mkdir(parents=True)
    client = _CLIENT.format(
        python=sys.executable, socket=str(warm.address()), more=json.dumps(dict(more))
    )
    scripts = dict.fromkeys(("vtd", "python"), client) | dict.fromkeys(REFUSED, _REFUSAL)
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def environment(programs: Path, cache: Path, home: Path) -> dict[str, str]:
    """Of a block: the commands of this checkout, an own cache and home, no terminal, no network."""
    # the settings of JAX stay: the warm server has read them
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | dict(
        PATH=f"{programs}:/usr/bin:/bin",
        PYTHONPATH=str(ROOT),
        VTD_JAX_CACHE=str(cache),
        HOME=str(home),
        HF_HUB_OFFLINE="1",
        COLUMNS="120",
        XLA_FLAGS=warm.xla_flags(),
    )


def run(text: str, folder: Path, env: Mapping[str, str]) -> str:
    """What a block printed; every command in it must succeed.

    Raises:
      AssertionError: a command failed; has the text and what was printed.
    """
    with tempfile.NamedTemporaryFile("r") as failed:
        done = start(text, folder, {**env, "FAILED": failed.name})
        ended = failed.read()
    said = f"{text}\n--- status {done.returncode}\n{ended}{done.stdout}\n{done.stderr}"
    assert (done.returncode, ended) == (0, ""), said
    return done.stdout


def start(
    text: str, folder: Path, env: Mapping[str, str], timeout: float = 600
) -> subprocess.CompletedProcess:
    """Runs a text in bash, which stops at the first command that fails."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={"FAILED": os.devnull, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
