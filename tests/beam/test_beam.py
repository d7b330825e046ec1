"""Builds through Apache Beam's DirectRunner: the same records, one-line errors, and resuming after
any interruption.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from support import layouts
from support.holds import held_build
from support.video_files import make_video, write_catalog
from vtd_jax.video.records import open_records, record_names

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = "direct_num_workers=2,direct_running_mode=multi_processing"
MODES = [
    PROCESSES,
    "direct_num_workers=2,direct_running_mode=multi_threading",
    "direct_running_mode=in_memory",
]
BEAM = ["--beam_runner=DirectRunner", f"--beam_options={PROCESSES}"]
MANY = 120

# TFDS with protobuf 6, which Beam needs
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


def start(module: str, *arguments, environment: dict[str, str] | None = None) -> subprocess.Popen:
    call = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(call, cwd=ROOT, env=environment, **pipes)


def run(module: str, *arguments) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    process = start(module, *arguments)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def wait_for(condition, process=None, seconds=200):
    deadline = time.monotonic() + seconds
    while (
        not condition()
        and time.monotonic() < deadline
        and (process is None or process.poll() is None)
    ):
        time.sleep(0.01)
    assert condition()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def identities(folder: Path) -> dict[int, int]:
    """Inode and time of every shard."""
    return {path.stat().st_ino: path.stat().st_mtime_ns for path in folder.glob("*.array_record*")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    """Two videos of about 0.2 MB as JPEGs."""
    folder = tmp_path_factory.mktemp("clips")
    return [make_video(folder / f"{i}.avi", 60, width=320, height=240) for i in range(2)]


@pytest.fixture(scope="module")
def hmdb51(clips, tmp_path_factory) -> Path:
    """The official layout, with videos that fill several shards."""
    source = layouts.make_hmdb51(tmp_path_factory.mktemp("download"))
    for i, path in enumerate(sorted(source.rglob("*.avi"))):
        shutil.copyfile(clips[i % 2], path)
    return source


@pytest.fixture(scope="module")
def local(hmdb51, tmp_path_factory) -> Path:
    """Records of that, built without Beam."""
    out = tmp_path_factory.mktemp("local")
    status, _, errors = run("build_data", *official(hmdb51, out))
    assert status == 0, errors
    return out / "hmdb51/jpeg/1.0.0"


@pytest.fixture(scope="module")
def many(clips, tmp_path_factory) -> list[str]:
    """A build of many shards."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(MANY):
        shutil.copyfile(clips[i % 2], folder / f"{i}.avi")
    listed, labels = write_catalog(folder, [f"{i}.avi {i % 2}" for i in range(MANY)], stem="many")
    return [
        f"--list={listed}",
        f"--labels={labels}",
        f"--video_dir={folder}",
        "--name=m",
        "--shard_mb=1",
    ]


def official(source: Path, out: Path) -> list[str]:
    return [
        "--dataset=hmdb51",
        f"--source={source}",
        f"--data_dir={out}",
        "--shard_mb=1",
        "--storage=jpeg",
    ]


def with_a_bad_video(hmdb51: Path, folder: Path) -> Path:
    """A copy whose last class has a truncated video."""
    source = shutil.copytree(hmdb51, folder)
    bad = sorted((source / "hmdb51_org" / layouts.HMDB51[4]).glob("*.avi"))[0]
    bad.write_bytes(bad.read_bytes()[:300])
    return source


@pytest.mark.parametrize("options", MODES)
def test_records_are_byte_for_byte_those_of_a_local_build(options, hmdb51, local, tmp_path):
    call = [*official(hmdb51, tmp_path), "--beam_runner=DirectRunner", f"--beam_options={options}"]
    status, output, errors = run("build_data", *call)
    assert status == 0, errors
    assert len(list(local.glob("*.array_record*"))) >= 4
    assert contents(tmp_path / "hmdb51/jpeg/1.0.0") == contents(local)
    assert [path.name for path in tmp_path.iterdir()] == ["hmdb51"]
    assert output.splitlines()[-1].startswith("wrote ")
    # of Beam's own lines only those are left that a worker prints before it reads its options
    ours = ("hmdb51: ", "building-hmdb51-jpeg: ")  # progress is printed where a build takes seconds
    said = [line for line in errors.splitlines() if not line.startswith(ours)]
    assert len(said) <= 4, errors
    assert all(
        "Logging handler created" in line or "apitools not found" in line for line in said
    ), errors


def test_options_alone_are_enough(hmdb51, local, tmp_path):
    status, _, errors = run(
        "build_data", *official(hmdb51, tmp_path), f"--beam_options={PROCESSES}"
    )
    assert status == 0, errors
    assert "Logging handler created" in errors
    assert contents(tmp_path / "hmdb51/jpeg/1.0.0") == contents(local)


@pytest.mark.parametrize("options, again", [*((mode, []) for mode in MODES), (PROCESSES, BEAM)])
def test_a_bad_video_is_one_line_and_the_next_build_resumes(
    options, again, hmdb51, local, tmp_path
):
    source, out = with_a_bad_video(hmdb51, tmp_path / "bad"), tmp_path / "out"
    call = official(source, out)
    status, _, errors = run(
        "build_data", *call, "--beam_runner=DirectRunner", f"--beam_options={options}"
    )
    assert status == 2
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert "leave bad videos out with --on_error=skip" in last
    assert record_names(out / "hmdb51") == []
    hidden = out / ".building-hmdb51-jpeg"
    # Beam shuffles the shards: one with a bad video may come before any is finished, and then
    # nothing is left
    if finished := identities(hidden):
        assert (
            f"; {len(finished)} of {len(list(hidden.glob('*.todo.json')))} shards are finished"
            in last
        )
    else:
        assert "finished" not in last
        assert not hidden.exists()
    # in this process the shards go in their order, the bad one last
    status, _, errors = run("build_data", *call, "--workers=1")
    assert status == 2
    made = identities(hidden)
    assert finished.items() <= made.items()
    assert len(made) >= 2
    assert f"; {len(made)} of {len(list(hidden.glob('*.todo.json')))} shards are finished" in errors
    # mended: what was finished is in the records
    for path in sorted(source.rglob("*.avi")):
        original = hmdb51 / path.relative_to(source)
        if path.stat().st_size != original.stat().st_size:
            shutil.copyfile(original, path)
    status, _, errors = run("build_data", *call, *again)
    assert status == 0, errors
    there = identities(out / "hmdb51/jpeg/1.0.0")
    assert made.items() <= there.items()
    assert len(there) > len(made)
    shards = "*.array_record*"
    assert [p.read_bytes() for p in sorted((out / "hmdb51/jpeg/1.0.0").glob(shards))] == [
        p.read_bytes() for p in sorted(local.glob(shards))
    ]


def test_skipped_videos_are_reported(hmdb51, tmp_path):
    source, out = with_a_bad_video(hmdb51, tmp_path / "bad"), tmp_path / "out"
    status, output, errors = run("build_data", *official(source, out), *BEAM, "--on_error=skip")
    assert status == 0, errors
    assert len([line for line in errors.splitlines() if line.startswith("skipped ")]) == 1
    assert re.search(r"1 bad .*left out", output.splitlines()[-1])


def test_a_killed_driver_leaves_nothing_complete_and_no_workers(many, tmp_path):
    hidden = tmp_path / ".building-video_folder-m"
    process = start(
        "build_data",
        *many,
        f"--data_dir={tmp_path}",
        *BEAM,
        environment=held_build(tmp_path / "hold", 3),
    )
    wait_for(lambda: len(list(hidden.glob("*.done.json"))) >= 3, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    # they have its pipes, and end with what they are at
    (tmp_path / "hold" / "held").unlink()
    process.communicate()
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    shutil.rmtree(tmp_path / "hold")
    assert record_names(tmp_path) == []
    made = identities(hidden)
    assert 3 <= len(made) < len(list(hidden.glob("*.todo.json")))
    status, output, errors = run("build_data", *many, f"--data_dir={tmp_path}", *BEAM)
    assert status == 0, errors
    assert f"{MANY} videos" in output.splitlines()[-1]
    assert made.items() <= identities(tmp_path / "video_folder/m/1.0.0").items()
    assert len(open_records(tmp_path, "many")) == MANY
    assert [path.name for path in tmp_path.iterdir()] == ["video_folder"]


def test_a_killed_worker_is_one_line_and_the_build_ends(many, tmp_path):
    """Beam alone would wait for it without an end."""
    hidden = tmp_path / ".building-video_folder-m"
    process = start(
        "build_data",
        *many,
        f"--data_dir={tmp_path}",
        *BEAM,
        environment=held_build(tmp_path / "hold", 2),
    )
    wait_for(lambda: len(list(hidden.glob("*.done.json"))) >= 2, process)
    family = psutil.Process(process.pid).children(recursive=True)
    worker = next(
        one for one in family if not one.children() and "sdk_worker_main" in " ".join(one.cmdline())
    )
    os.kill(worker.pid, signal.SIGKILL)
    (tmp_path / "hold" / "held").unlink()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2
    last = errors.splitlines()[-1]
    assert last.startswith("error: ")
    assert "a Beam worker that encoded this died (killed, most likely for lack of memory)" in last
    assert "shards are finished, the next build resumes from them" in last
    assert record_names(tmp_path) == []
    wait_for(lambda: not any(one.is_running() for one in family))
    status, _, errors = run("build_data", *many, f"--data_dir={tmp_path}")
    assert status == 0, errors
    assert len(open_records(tmp_path, "many")) == MANY


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--beam_runner=NoRunner"],
            "--beam_runner=NoRunner: Unexpected pipeline runner: NoRunner",
        ),
        (["--beam_runner=no.such.Runner"], "--beam_runner=no.such.Runner: No module named 'no'"),
        (["--beam_options=runner=NoRunner"], "--beam_runner=NoRunner: Unexpected pipeline runner"),
        (
            ["--beam_options=direct_num_workers=two"],
            "argument --direct_num_workers: invalid int value: 'two'",
        ),
        (
            ["--beam_options=direct_running_mode=fast"],
            "argument --direct_running_mode: invalid choice: 'fast'",
        ),
        (["--beam_options=direct_num_worker=2"], "DirectRunner has no option 'direct_num_worker'"),
        (
            ["--beam_options=--direct_num_workers=2"],
            "is not name=value; give name=value,name=value",
        ),
    ],
)
def test_mistakes_in_flags_are_one_line(flags, message, hmdb51, tmp_path):
    status, _, errors = run("build_data", *official(hmdb51, tmp_path), *flags)
    assert status == 2
    assert len(errors.splitlines()) == 1, errors
    assert message in errors
    assert list(tmp_path.iterdir()) == []


def test_without_beam_one_line_says_how_to_get_it(hmdb51, tmp_path):
    code = "import runpy, sys; sys.modules['apache_beam'] = None; sys.argv[0] = 'build_data'; "
    code += "runpy.run_module('experiments.build_data', run_name='__main__', alter_sys=True)"
    call = [sys.executable, "-c", code, *official(hmdb51, tmp_path), "--beam_runner=DirectRunner"]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert (
        "Apache Beam is not installed; in an environment of its own, pip install -e '.[beam]'"
        in done.stderr
    )


def test_tfds_build_takes_its_own_beam_options(hmdb51, tmp_path):
    call = ["data/hmdb51", "--config=video", f"--manual_dir={hmdb51}"]
    for name, extra in (("beam", [f"--beam_pipeline_options={PROCESSES}"]), ("local", [])):
        status, _, errors = run("tfds_build", *call, f"--data_dir={tmp_path / name}", *extra)
        assert status == 0, errors
        assert ("Logging handler created" in errors) == (name == "beam")
    assert contents(tmp_path / "beam/hmdb51/video/1.0.0") == contents(
        tmp_path / "local/hmdb51/video/1.0.0"
    )
