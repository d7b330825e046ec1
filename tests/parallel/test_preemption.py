"""Notices: what hears them, what a run does then, and that nothing is lost."""

import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from support import small_run, warm
from support.terminal import Terminal
from vtd_jax.console import status
from vtd_jax.parallel.preemption import Interrupted, Preempted, Preemption
from vtd_jax.train.checkpoints.checkpoint import Checkpoints
from vtd_jax.train.trainer import Trainer

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run.build(tmp_path_factory.mktemp("small"))


def _notice(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_heard_and_handlers_come_back(number):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    with Preemption() as preemption:
        assert not preemption.should_stop(-1)
        assert not preemption.should_stop(0)
        _notice(number)
        _notice(number)
        assert preemption.should_stop(1)
        assert preemption.interrupts
        stopped = preemption.stopped("saved")
        asked = ("interrupted", 130) if number == signal.SIGINT else ("preempted", 75)
        assert (stopped.word, stopped.status, str(stopped)) == (*asked, "saved")
    assert [
        signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    ] == before


def test_ctrl_c_before_the_first_step_saves_nothing():
    with Preemption() as preemption:
        assert not preemption.should_stop(7)
        with pytest.raises(KeyboardInterrupt):
            _notice(signal.SIGINT)
    with Preemption() as preemption:
        preemption.catch_ctrl_c()
        _notice(signal.SIGINT)
        assert preemption.notified


def test_ctrl_c_that_was_ignored_before_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Preemption() as preemption:
            preemption.catch_ctrl_c()
            _notice(signal.SIGINT)
            assert not preemption.notified
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    with Preemption() as preemption:
        preemption.catch_ctrl_c()
        _notice(signal.SIGINT)
        # the same one, passed on by a wrapper
        _notice(signal.SIGINT)
        monkeypatch.setattr(time, "monotonic", lambda: math.inf)
        with pytest.raises(KeyboardInterrupt):
            _notice(signal.SIGINT)


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted), Preemption():
        raise Preempted("now")
    assert signal.getsignal(signal.SIGTERM) == before


def test_another_thread_hears_nothing_and_changes_nothing():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with Preemption() as preemption:
            found.extend([signal.getsignal(signal.SIGTERM) == before, preemption.should_stop(1)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True, False]


def test_processes_of_one_run_agree_through_jax(monkeypatch):
    steps, terminated = [], []
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(
        multihost_utils,
        "reached_preemption_sync_point",
        lambda step: steps.append(step) or step == 3,
    )
    # stands for the handler of JAX's service, which must stay in place and hear of either signal
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.append(1))
    try:
        with Preemption() as preemption:
            _notice(signal.SIGUSR1)
            _notice(signal.SIGTERM)
            assert [preemption.should_stop(step) for step in (1, 2, 3)] == [False, False, True]
            assert not preemption.interrupts
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (steps, len(terminated)) == ([1, 2, 3], 2)


SHARED_RUN = """
import itertools, sys, time
import jax
from vtd_jax.parallel.preemption import Preemption
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
with Preemption() as preemption:
    print("ready", flush=True)
    for step in itertools.count():
        # not at one pace
        time.sleep(0.01 * (1 + int(sys.argv[2])))
        if preemption.should_stop(step):
            break
print("stopped", step, flush=True)
jax.distributed.shutdown()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_two_processes_stop_at_one_step(number):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = dict(os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu")
    call = [sys.executable, "-c", SHARED_RUN, address]
    options = dict(
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=small_run.ROOT,
        env=environment,
    )
    both = [subprocess.Popen([*call, str(rank)], **options) for rank in (0, 1)]
    try:
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        both[1].send_signal(number)
        outputs = [process.communicate(timeout=60) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], outputs
    message = [out.split() for out, _ in outputs]
    assert message[0] == message[1]
    assert message[0][0] == "stopped"


@pytest.fixture
def notice_after(monkeypatch):
    """Sends a notice, twice, as soon as a step was made."""

    def arm(at, *numbers):
        step = Trainer.step

        def noticing(self, state, batch):
            done = step(self, state, batch)
            if state.step + 1 == at:
                for number in numbers or (signal.SIGTERM, signal.SIGUSR1):
                    _notice(number)
            return done

        monkeypatch.setattr(Trainer, "step", noticing)

    return arm


def _evaluation(message, notice_at=None):
    def evaluate(model, last, check):
        message.append((len(message), last))
        if len(message) == notice_at:
            _notice()
        check()
        value = float(np.abs(small_run.learnt(model)["text_prompts"]).mean())
        return {"base_top1": value, "base_top5": None, "novel_top1": 0.5, "novel_top5": None}

    return evaluate


def _same(whole, workdir, done):
    for name, value in small_run.learnt(done.model).items():
        np.testing.assert_array_equal(value, whole[1][name], err_msg=name)
    timed = ("videos_per_second", "memory_gib", "input_wait")
    rows = [
        [{k: v for k, v in row.items() if k not in timed} for row in small_run.rows(w)]
        for w in (whole[0], workdir)
    ]
    assert rows[0] == rows[1]
    assert Checkpoints(workdir).choose("best") == Checkpoints(whole[0]).choose("best")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    done = small_run.train(small_run.run_config(folder), workdir, evaluate=_evaluation([]))
    return workdir, small_run.learnt(done.model)


def _train(folder, workdir, **others):
    with Preemption() as preemption:
        config = small_run.run_config(folder)
        return small_run.train(config, workdir, resume=True, preemption=preemption, **others)


@pytest.mark.parametrize("numbers, kind", [((), Preempted), ((signal.SIGINT,), Interrupted)])
def test_a_run_saves_at_the_next_step_and_resumes_bit_for_bit(
    folder, whole, tmp_path, notice_after, numbers, kind
):
    notice_after(2, *numbers)
    with pytest.raises(
        kind, match=rf"^saved step 2 of 6 in {tmp_path}; the same command resumes from there$"
    ):
        _train(folder, tmp_path, evaluate=_evaluation([]))
    assert Checkpoints(tmp_path).steps == [2]
    done = _train(folder, tmp_path, evaluate=_evaluation([]))
    assert done.steps_now == 4
    _same(whole, tmp_path, done)


@pytest.mark.parametrize("at, saved", [(1, 3), (2, 6)])
def test_an_evaluation_that_was_broken_off_is_made_when_the_run_resumes(
    folder, whole, tmp_path, at, saved, capsys
):
    message = []
    with pytest.raises(Preempted, match=f"saved step {saved} of 6"):
        _train(folder, tmp_path, evaluate=_evaluation(message, at))
    checkpoints = Checkpoints(tmp_path)
    assert (len(message), checkpoints.steps[-1]) == (at, saved)
    assert (checkpoints.metric(saved), checkpoints.progress(saved)["evaluated"]) == (None, False)
    again = []
    done = _train(folder, tmp_path, evaluate=_evaluation(again))
    assert f"step {saved} of 6, first its missing evaluation" in capsys.readouterr().out
    assert (done.steps_now, again) == (6 - saved, [(i, i == 2 - at) for i in range(3 - at)])
    assert checkpoints.metric(saved) is not None
    _same(whole, tmp_path, done)
    # the value of the best is known to a run that resumes from there
    best = Checkpoints(whole[0]).progress(6)["best"]
    config = small_run.run_config(folder, optimizer__epochs=3)
    small_run.train(config, tmp_path, resume=True, evaluate=lambda *_: {"base_top1": 0.0})
    assert Checkpoints(tmp_path).progress(9)["best"] == best


def test_a_notice_while_a_missing_evaluation_is_made_keeps_it_missing(folder, tmp_path):
    for _ in range(2):
        with pytest.raises(Preempted, match="saved step 3 of 6"):
            _train(folder, tmp_path, evaluate=_evaluation([], 1))
    assert [row["step"] for row in small_run.rows(tmp_path)] == list("123")


def test_nothing_is_saved_before_the_first_step(folder, tmp_path):
    with Preemption() as preemption:
        _notice()
        with pytest.raises(Preempted, match=r"no step was made, nothing saved in "):
            small_run.train(small_run.run_config(folder), tmp_path, preemption=preemption)
    assert Checkpoints(tmp_path).steps == []


def _drawn(original):
    def function(line, *given):
        found = original(line, *given)
        if status._SHOWN.live is not None:
            status._SHOWN.live.refresh()
        return found

    return function


def test_a_run_that_has_done_its_last_step_ends_as_ever(
    folder, tmp_path, notice_after, monkeypatch
):
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    # what is there for less than an eighth of a second is drawn, too
    for name in ("open", "show"):
        monkeypatch.setattr(status.Line, name, _drawn(getattr(status.Line, name)))
    notice_after(6)
    assert _train(folder, tmp_path).step == 6
    # the terminal showed the wait and the steps, and nothing is left there
    lines = terminal.lines()
    assert any("compiling the training step" in line for line in lines)
    assert any(re.search(r"step \d/6  epoch .* left", line) for line in lines)
    assert all(len(line) < 80 for line in lines)
    assert status._SHOWN.live is None
