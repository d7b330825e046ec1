"""What the Dockerfiles name is there, and what they start does start."""

import json
import re
import shlex
import signal
import subprocess
from fnmatch import fnmatch

import pytest
from app.test_command import Running

from experiments.app import __main__ as app
from support.small_run import ROOT
from support.video_files import make_video

FILES = ["Dockerfile", "spaces/Dockerfile"]


def steps(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: word, rest."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = (line.partition(" ") for line in lines)
    return [(word, rest) for word, _, rest in pairs]


def started(name: str, **variables: str) -> list[str]:
    """The command of an image, as the container's shell reads it."""
    own = dict(steps(name))
    words = [*json.loads(own.get("ENTRYPOINT", "[]")), *json.loads(own["CMD"])]
    if words[:2] == ["/bin/sh", "-c"]:
        words = shlex.split(words[2].removeprefix("exec "))
    return [re.sub(r"\$(\w+)", lambda found: variables[found[1]], word) for word in words]


@pytest.mark.parametrize("name", FILES)
def test_every_flag_is_one_of_the_command(name):
    vtd, command, *given = started(name, SPACE_HOST="me-demo.hf.space")
    assert (vtd, command) == ("vtd", "app")
    flags = [word for word in given if word.startswith("--")]
    assert len(flags) >= 3
    for flag in flags:
        assert flag[2:].partition("=")[0] in app.flags.FLAGS
    assert given[-1].rpartition("/")[2] == "clips"


@pytest.mark.parametrize("name", FILES)
def test_it_runs_as_nobody_special_and_has_no_secret(name):
    found = steps(name)
    places = [place for place, (word, _) in enumerate(found) if word == "USER"]
    assert found[places[-1]][1] == "vtd"
    # nothing is installed behind it
    assert all(word != "RUN" for word, _ in found[places[-1] :])
    assert "TOKEN=" not in (ROOT / name).read_text()
    assert (ROOT / "vtd_jax" / "__init__.py").is_file()
    requires = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11,<3.14"' in requires
    assert {rest.split()[0] for word, rest in found if word == "FROM"} == {"python:3.12-slim"}


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = set()
    for word, rest in steps("Dockerfile"):
        if word == "COPY" and "--from" not in rest:
            copied |= set(rest.split()[:-1])
    assert copied == kept
    for name in copied:
        assert (ROOT / name).exists(), name
    # all that a wheel is built of
    assert {"vtd_jax", "experiments", "data", "pyproject.toml", "setup.py"} <= copied


def test_the_wheel_that_they_install_is_called_so(tmp_path):
    # as pip spells it
    assert fnmatch("vtd_jax-0.1.0-py3-none-any.whl", "vtd_jax-*.whl")
    assert 'name = "vtd-jax"' in (ROOT / "pyproject.toml").read_text()
    assert re.search(r"^app = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for name in FILES:
        assert any("vtd_jax-*.whl" in rest and "[app]" in rest for _, rest in steps(name))
    # the shell's brackets are text behind a name that it has found
    (tmp_path / "vtd_jax-0.1.0-py3-none-any.whl").touch()
    line = 'echo "$(echo vtd_jax-*.whl)[app]"'
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "vtd_jax-0.1.0-py3-none-any.whl[app]\n"


def test_a_space_says_what_it_is():
    text = (ROOT / "spaces" / "README.md").read_text()
    head = text.split("---\n")[1]
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert fields["sdk"] == "docker"
    assert f"--port={fields['app_port']}" in started("spaces/Dockerfile", SPACE_HOST="x")
    assert len(fields["short_description"]) <= 60
    assert "was not run there" in text


@pytest.mark.slow
@pytest.mark.command
@pytest.mark.parametrize("name", FILES)
def test_what_a_container_starts_answers(name, tmp_path, monkeypatch):
    make_video(tmp_path / "a.mp4", 20)
    space = "me-demo.hf.space"
    words = started(name, SPACE_HOST=space)[2:-1]
    changes = {"--port=7860": "--port=0", "--model=ViT-B/16": "--model=tiny"}
    words = [changes.get(word, word) for word in words]
    variables = {} if "--public" in words else {"VTD_JAX_APP_TOKEN": "0123456789abcdef"}
    server = Running(*words, tmp_path, **variables)
    try:
        host = {"Host": space} if "--public" in words else {}
        status, page = server.ask("GET", "/", **host)
        assert status == 200, page
        assert [one["name"] for one in server.json("GET", "/videos")["videos"]] == ["a.mp4"]
    finally:
        # that of `docker stop`
        number = signal.Signals[dict(steps(name))["STOPSIGNAL"]]
        assert signal.getsignal(number) is signal.default_int_handler
        code, _, errors = server.stop(number)
    assert code == 0, errors
