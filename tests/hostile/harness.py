r"""Runs a command on hostile input, in a process with limits, and holds it to ONE rule.

A right result with exit status 0, or exactly one `error: …` line on stderr with exit status 2;
either way within seconds and a bounded memory, nothing written outside the named outputs, no
character on stdout or stderr that does something to a terminal, no long line, no traceback, no
connection to any host, no process left behind.

    from hostile import harness

    # folder: what the command may not change, but for `outputs`; texts: what the error must say
    flags = [f"--source={path}", f"--out={out}"]
    harness.check_refused("convert", flags, folder=tmp_path, texts=[str(path), "strides"])
    harness.check_right("predict", ["--video=a.mp4", …, f"--json={out}"], folder=tmp_path,
        outputs=[out])
    # where either is fine; returns what ran, as the others do
    done = harness.check_safe("show_batch", flags, folder=tmp_path, outputs=[picture])
    if done.refused: ...

    # network: a listener on 127.0.0.1 (TCP and UDP); any connection fails the check
    with harness.Listener() as listener:
        (tmp_path / f"http:/127.0.0.1:{listener.port}").mkdir(parents=True)
        harness.check_refused("predict", ["--video=**/*.mp4"], cwd=tmp_path, folder=tmp_path,
        listener=listener)

    # strace, where it is installed: nothing written outside `outputs`, no internet socket, no
    # program started, and none of `secrets` opened; costs a second or two
    harness.check_safe("predict", …, folder=tmp_path, outputs=[out], trace=True,
        secrets=[tmp_path / "other.mp4"])

    # limits: defaults are for a command on small inputs; a run that must compile XLA programs may
    # ask for more
    harness.check_refused("train", …, folder=tmp_path, outputs=[workdir],
        limits=harness.Limits(cpu=60))

    # readers of ours, for what can neither crash nor eat memory: milliseconds, in this process, the
    # same rule
    harness.check_call_refused(lambda: read_words(str(path), "--labels"), texts=["labels.csv:2"])

Commands start from the warm server (`tests/support/warm.py`, about a second each), in a process of
their own: a crash, a hang or an allocation harms nothing else, so everything runs this way.
`cold=True` starts a new interpreter instead (2 to 20 s), for what must not share anything.
`predict` and the like name several faults, one a line, and finish the others: `also` has regular
expressions for other lines on stderr that are right; `warning: …`, `note: …`, `device: …` and
`preprocess: …` always are.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from hostile.cold import Cold
from hostile.judging import Done, Limits, faults_of_refusal, faults_of_text, judged
from hostile.watching.listener import Listener
from hostile.watching.strace import traced
from hostile.watching.traces import absolute, changed_entries, left_processes, snapshot
from support import warm
from vtd_jax.errors import UserError
from vtd_jax.printable import printable

__all__ = [
    "Done",
    "Limits",
    "Listener",
    "check_call_refused",
    "check_refused",
    "check_right",
    "check_safe",
    "run",
    "small_run_environment",
]

_LIMITED = Path(__file__).with_name("limited.py")
# what a process prints for an exception that was not caught
_UNCAUGHT = (
    "Traceback (most recent call last)",
    "Fatal Python error",
    "terminate called",
    "Segmentation fault",
    "*** Check failure",
)


def small_run_environment() -> dict[str, str]:
    """Of a command on one CPU device, as `small_run.command` has it."""
    return dict(os.environ, XLA_FLAGS=warm.xla_flags(), JAX_PLATFORMS="cpu", COLUMNS="120")


def check_refused(
    command: str, args: Sequence[str], *, texts: Collection[str] = (), **settings
) -> Done:
    """Runs a command that must end with status 2 and one error line that says all of `texts`; see
    `run`.
    """
    done, faults = _ran(command, args, settings)
    faults += faults_of_refusal(done, settings.get("also", ()))
    faults += [
        f"the error line does not say {text!r}"
        for text in texts
        if printable(text) not in done.error
    ]
    return judged(done, faults)


def check_right(
    command: str, args: Sequence[str], *, texts: Collection[str] = (), **settings
) -> Done:
    """Runs a command that must end with status 0 and say all of `texts` on stdout or stderr; see
    `run`.
    """
    done, faults = _ran(command, args, settings)
    if done.status != 0:
        faults.append(f"expected status 0, got {done.status}")
    said = done.stdout + done.stderr
    return judged(
        done, faults + [f"it does not say {text!r}" for text in texts if text not in said]
    )


def check_safe(
    command: str, args: Sequence[str], *, texts: Collection[str] = (), **settings
) -> Done:
    """Runs a command that may refuse its input or find a right result; `texts` are of a refusal;
    see `run`.
    """
    done, faults = _ran(command, args, settings)
    if done.status != 0:
        faults += faults_of_refusal(done, settings.get("also", ()))
        faults += [
            f"the error line does not say {text!r}"
            for text in texts
            if printable(text) not in done.error
        ]
    return judged(done, faults)


def check_call_refused(
    call: Callable[[], object], *, texts: Collection[str] = (), seconds: float = 5.0
) -> str:
    """Calls a reader, which must raise a UserError of one line that says all of `texts`; returns
    the line.

    Only in the main thread: what hangs is ended by a signal.
    """

    def hangs(number: int, frame: object) -> None:
        raise AssertionError("it hangs")

    before, begun = signal.signal(signal.SIGALRM, hangs), time.process_time()
    signal.alarm(60)
    try:
        call()
    except UserError as error:
        message = str(error)
    else:
        raise AssertionError("it was read")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    spent = time.process_time() - begun
    assert spent < seconds, f"{spent:.1f} s of CPU time"
    assert len(message) <= Limits.line, f"an error of {len(message)} characters: {message[:200]!r}"
    assert printable(message) == message, f"characters that act on a terminal: {message[:200]!a}"
    assert all(printable(text) in message for text in texts), message
    return message


def run(
    command: str,
    args: Sequence[str],
    *,
    folder: Path,
    outputs: Collection[str | Path] = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    listener: Listener | None = None,
    trace: bool = False,
    cold: bool = False,
    **others,
) -> Done:
    """Runs a command under limits and says what it did; the checks above judge it.

    Args:
      command: `predict` for `python -m experiments.predict`; a name with dots is a module.
      args: its flags.
      folder: whose files are compared before and after, such as tmp_path.
      outputs: files and folders that it may write; also what lies beside them under their names
        with an ending more.
      cwd: where it runs; default: the root of the repository.
      env: its environment; default: `small_run_environment()`.
      limits: see there.
      listener: whose connections are counted.
      trace: whether strace, where there is one, looks on.
      cold: whether in an interpreter of its own.
    """
    limits, module = (
        limits or Limits(),
        command.rstrip(".") if "." in command else f"experiments.{command}",
    )
    with _scratch() as scratch:
        temporary = scratch / "tmp"
        temporary.mkdir()
        go = scratch / "go" if trace and shutil.which("strace") else None
        spec = dict(
            module=module,
            arguments=list(map(str, args)),
            cwd=str(cwd or warm.ROOT),
            temporary=str(temporary),
        )
        spec |= dict(
            memory=limits.memory, cpu=limits.cpu, file=limits.file, go=str(go) if go else ""
        )
        if go:
            os.mkfifo(go)
        (scratch / "spec.json").write_text(json.dumps(spec))
        before, connected = snapshot(folder), listener.connections if listener else 0
        started, begun = _start(scratch, env, cold), time.monotonic()
        with traced(started.pid, go, scratch, spec["cwd"]) as found:
            status = _end(started, limits.wall)
        seconds = time.monotonic() - begun
        left = left_processes(started.pid)
        changed = changed_entries(
            before, snapshot(folder), folder, [absolute(path, spec["cwd"]) for path in outputs]
        )
        said = [
            (started.out / name).read_bytes().decode(errors="surrogateescape")
            for name in ("stdout", "stderr")
        ]
        message, came = (
            f"{module} {' '.join(spec['arguments'])[:2000]}",
            listener.connections if listener else 0,
        )
        return Done(
            message, status, *said, seconds, started.cpu, started.peak, changed,
            sorted(os.listdir(temporary)), left, came - connected, found,
        )  # fmt: skip


def _ran(command: str, args: Sequence[str], settings: dict) -> tuple[Done, list[str]]:
    """What ran, and what is wrong with it however it ended."""
    limits, secrets = settings.get("limits") or Limits(), settings.pop("secrets", ())
    done = run(command, args, **settings)
    faults = [f"it says {text!r}" for text in _UNCAUGHT if text in done.stdout + done.stderr]
    if done.status is None:
        faults.append(f"it did not end within {limits.wall:.0f} s")
    elif done.status < 0:
        faults.append(f"ended by {signal.Signals(-done.status).name}")
    elif done.status not in (0, 2):
        faults.append(f"status {done.status}")
    if done.cpu > limits.cpu:
        faults.append(f"{done.cpu:.1f} s of CPU time, at most {limits.cpu}")
    if done.peak > limits.resident:
        faults.append(
            f"{done.peak / 2**20:.0f} MiB of memory, at most {limits.resident / 2**20:.0f}"
        )
    faults += [f"changed {name}" for name in done.changed]
    faults += [f"left a temporary {name}" for name in done.temporary]
    faults += [f"left a process: {name}" for name in done.left]
    if done.connections:
        faults.append(f"{done.connections} connections")
    if done.trace is not None:
        outputs = [
            absolute(path, str(settings.get("cwd") or warm.ROOT))
            for path in settings.get("outputs", ())
        ]
        faults += done.trace.faults(outputs, [Path(path) for path in secrets])
    return done, faults + faults_of_text(done, limits)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vtd_jax_hostile_"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(scratch: Path, env: Mapping[str, str] | None, cold: bool) -> "Cold | warm.Started":
    env = small_run_environment() if env is None else env
    call = [str(_LIMITED), str(scratch / "spec.json")]
    return Cold(call, env, scratch) if cold else warm.Started(call, env)


def _end(started: "Cold | warm.Started", wall: float) -> int | None:
    """The exit status; None where it had to be ended."""
    try:
        return started.wait(wall)
    except subprocess.TimeoutExpired:
        started.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(10)
        return None
