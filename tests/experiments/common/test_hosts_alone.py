"""What a process says of itself to the others of its run, and when; in this process, without any
others.
"""

import sys
from types import SimpleNamespace

import pytest
from absl import flags
from ml_collections import ConfigDict

from experiments.common import hosts
from experiments.reproduce import execute
from vtd_jax.errors import UserError
from vtd_jax.parallel import joining, processes

THREE = ("--coordinator_address=host:7", "--num_processes=2", "--process_id=1")


@pytest.fixture
def announced(monkeypatch):
    """What would be announced to the other processes."""
    message = []
    monkeypatch.setattr(joining, "announce", lambda *about: message.append(about))
    monkeypatch.setattr(hosts.signal, "signal", lambda *_: None)
    return message


def _end(*arguments, monkeypatch, cause=None, status=2):
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    end = SystemExit(status)
    end.__context__ = cause
    hosts._announce(end)


def test_a_command_that_ends_before_it_joins_says_so(announced, monkeypatch):
    _end(*THREE, monkeypatch=monkeypatch, cause=UserError("x.py: no such file"))
    _end(*THREE, monkeypatch=monkeypatch, cause=flags.Error("Unknown command line flag 'sed'"))
    _end(*THREE, monkeypatch=monkeypatch, status=1)
    assert [about[:4] for about in announced] == [
        ("host:7", 1, 2, "x.py: no such file"),
        ("host:7", 1, 2, "unknown flag --sed"),
        ("host:7", 1, 2, "ended with status 1, its own output says why"),
    ]


def test_variables_say_where_the_others_are_too(announced, monkeypatch):
    for name, value in (
        ("COORDINATOR_ADDRESS", "host:7"),
        ("NUM_PROCESSES", "3"),
        ("PROCESS_ID", "0"),
    ):
        monkeypatch.setenv(f"JAX_{name}", value)
    _end(monkeypatch=monkeypatch)
    assert [about[:3] for about in announced] == [("host:7", 0, 3)]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        THREE[:2],
        (*THREE[:1], "--num_processes=1", "--process_id=0"),
        ("--coordinator_address=host", *THREE[1:]),
    ],
)
def test_one_that_runs_alone_or_nowhere_says_nothing(announced, monkeypatch, arguments):
    _end(*arguments, monkeypatch=monkeypatch)
    assert announced == []


def test_nothing_is_said_twice(announced, monkeypatch):
    monkeypatch.setattr(joining, "_called", True)
    _end(*THREE, monkeypatch=monkeypatch)
    assert announced == []


def test_flags_and_fields_must_be_the_same_everywhere(monkeypatch):
    def flag(name, value):
        return SimpleNamespace(name=name, value=value)

    config = ConfigDict({"data": {"frames": 8}, "seed": 3})
    given = [
        flag("config", config),
        flag("workdir", "a"),
        flag("json", None),
        flag("process_id", 1),
        flag("x", "y" * 999),
    ]
    known = SimpleNamespace(get_key_flags_for_module=lambda module: given)
    monkeypatch.setattr(hosts, "flags", SimpleNamespace(FLAGS=known))
    message = hosts._shared_flags()
    long = message.pop("--x")
    assert message == {"--config.data.frames": "8", "--config.seed": "3", "--workdir": "a"}
    assert long.startswith("y" * 200 + "… (")
    given[-1].value += "z"
    # what is not shown counts too
    assert hosts._shared_flags()["--x"] != long


def test_xla_errors_are_asked_about(monkeypatch):
    watch = SimpleNamespace(lost=lambda seconds: "process 1 (host) ended")
    monkeypatch.setattr(joining, "joined", lambda: watch)
    assert (
        hosts._lost(ValueError("UNKNOWN: Gloo AllGather failed: …"))
        == "process 1 (host) ended; start all processes again"
    )
    assert hosts._lost(ValueError("shapes differ")) is None
    watch.lost = lambda seconds: ""
    assert hosts._lost(ValueError("UNKNOWN: Gloo AllGather failed: …")).startswith(
        "another process of this run ended"
    )
    assert hosts._lost(ValueError("INTERNAL: out of memory")) is None


def test_a_run_that_fails_in_one_process_alone_ends_the_plan(monkeypatch, tmp_path):
    """The others are in the middle of it; one that fails in all is noted, and the next is made."""
    error = UserError("a.mp4: damaged")

    def fail(*_):
        raise error

    monkeypatch.setattr(execute, "_make", fail)
    monkeypatch.setattr(execute, "_identity", lambda *_: {})
    monkeypatch.setattr(execute, "on_first", lambda function, *args: False)
    run = SimpleNamespace(
        name="one", config=SimpleNamespace(optimizer=SimpleNamespace(epochs=1)), learns=True
    )
    plan = ([run], tmp_path, "", SimpleNamespace(interrupts=False), "")
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert execute.execute(*plan) == ["one: a.mp4: damaged"]
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    with pytest.raises(UserError):
        execute.execute(*plan)
    processes.mark_common(error)
    assert execute.execute(*plan) == ["one: a.mp4: damaged"]
