"""The harness notices what it is there for."""

import dataclasses
import shutil
import sys

import pytest

from hostile import harness
from vtd_jax.errors import UserError

pytestmark = pytest.mark.command

CASES = {
    # code, what the check says
    "traceback": ("raise RuntimeError", "it says 'Traceback"),
    "crash": ("import os; os.abort()", "ended by SIGABRT"),
    "hang": ("import time; time.sleep(60)", "did not end within 2 s"),
    "time": ("while True: pass", "ended by SIGXCPU"),
    "status": ("raise SystemExit(3)", "status 3"),
    "memory": ("x = bytes(2**29)[1:]", "MiB of memory, at most 256"),
    "address space": ("bytearray(2**34)", "MemoryError"),
    "file": ("import pathlib; pathlib.Path('left').write_text('x')", "changed left"),
    "changed": ("import pathlib; pathlib.Path('there').write_text('y')", "changed there"),
    "temporary": ("import tempfile; tempfile.mkstemp('.x')", "left a temporary"),
    "process": ("import subprocess; subprocess.Popen(['sleep', '60'])", "left a process: sleep 60"),
    "escape": (r"print('\x1b[31m')", r"act on a terminal on stdout: ['\x1b']"),
    "bidi": (r"print('\u202e')", r"act on a terminal on stdout: ['\u202e']"),
    "long line": ("print('x' * 10000)", "a line of 10000 characters on stdout"),
    "much": ("print('x\\n' * 30000)", "60001 characters on stdout"),
    "silent": ("raise SystemExit(2)", "0 error lines"),
    "two": (
        "import sys; sys.exit(print('error: a\\nerror: b', file=sys.stderr) or 2)",
        "2 error lines",
    ),
    "chatter": (
        "import sys; sys.exit(print('error: a\\n at x', file=sys.stderr) or 2)",
        "another line on stderr: ' at x'",
    ),
}
LIMITS = harness.Limits(cpu=1, wall=40, memory=2**31, resident=2**28)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a command of some code; returns how to run a check of it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "code").mkdir()
    (tmp_path / "there").write_text("x")

    def run(check, code, limits=LIMITS, **settings):
        (tmp_path / "code" / "fake_command.py").write_text(code)
        return check(
            "fake_command.", ["--x=1"], folder=tmp_path, cwd=tmp_path, limits=limits, **settings
        )

    return run


@pytest.mark.parametrize("code, fault", CASES.values(), ids=CASES)
def test_what_breaks_the_rule_is_noticed(fake, code, fault):
    with pytest.raises(AssertionError) as caught:
        # a loaded machine takes its time, but for what never ends
        fake(
            harness.check_safe,
            code,
            dataclasses.replace(LIMITS, wall=2) if code.startswith("import time") else LIMITS,
        )
    assert fault in str(caught.value)


def test_what_keeps_the_rule_is_right(fake, tmp_path):
    assert not fake(harness.check_right, "print('made')", texts=["made"]).refused
    refused = "import sys; sys.exit(print('warning: b\\nerror: x: too long', file=sys.stderr) or 2)"
    assert fake(harness.check_refused, refused, texts=["too long"]).error == "x: too long"
    made = "import pathlib; pathlib.Path('out').mkdir(); pathlib.Path('out/a').write_text('x')"
    fake(harness.check_right, made, outputs=[tmp_path / "out"])
    with pytest.raises(AssertionError, match="does not say 'other'"):
        fake(harness.check_refused, refused, texts=["other"])


def test_connections_are_counted(fake):
    code = "import socket; socket.create_connection(('127.0.0.1', {}))"
    with harness.Listener() as listener, pytest.raises(AssertionError, match="1 connections"):
        fake(harness.check_safe, code.format(listener.port), listener=listener)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_strace_sees_files_sockets_and_programs(fake, tmp_path):
    outside = tmp_path.parent / "outside"
    code = (
        f"import socket, subprocess; open({str(outside)!r}, 'w'); open('there')\n"
        "socket.socket(2, 2).bind(('127.0.0.1', 0))\n"
        f"subprocess.run([{sys.executable!r}, '--version'])"
    )
    with pytest.raises(AssertionError) as caught:
        fake(harness.check_safe, code, trace=True, secrets=[tmp_path / "there"])
    for fault in (
        f"wrote {outside}",
        f"opened {tmp_path}/there",
        "socket: bind(",
        "started execve(",
    ):
        assert fault in str(caught.value)
    fake(harness.check_right, "open('there')", trace=True)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_strace_sees_what_threads_do_at_once(fake, tmp_path):
    code = (
        "import threading\ndef write(thread):\n    for i in range(50): "
        f"open(f'{tmp_path.parent}/outside_{{thread}}_{{i}}', 'w').close()\nthreads = "
        "[threading.Thread(target=write, args=(i,)) for i in range(4)]\n[thread.start() for "
        "thread in threads]; [thread.join() for thread in threads]"
    )
    with pytest.raises(AssertionError) as caught:
        fake(harness.check_safe, code, trace=True)
    assert str(caught.value).count(f"wrote {tmp_path.parent}/outside_") == 200


def test_a_new_interpreter_keeps_the_rule_too(fake):
    assert fake(
        harness.check_refused,
        "import sys; sys.exit(print('error: x', file=sys.stderr) or 2)",
        harness.Limits(),
        cold=True,
    ).cpu


def test_calls_are_held_to_it():
    class LongError(UserError):
        """One that was not shortened."""

        def __str__(self):
            return "y" * 10_000

    def refuse(text, kind=UserError):
        raise kind(text)

    assert (
        harness.check_call_refused(lambda: refuse("a.csv:2: x"), texts=["a.csv:2"]) == "a.csv:2: x"
    )
    for call, fault in (
        (lambda: None, "it was read"),
        (lambda: refuse("", LongError), "an error of 10000 characters"),
    ):
        with pytest.raises(AssertionError, match=fault):
            harness.check_call_refused(call)
