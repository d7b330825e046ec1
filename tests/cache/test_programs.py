"""Compiled programs: kept and found again by commands, unless JAX is configured otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import warm
from vtd_jax.cache import programs
from vtd_jax.cache.programs import FOLDER, keep_programs, programs_folder
from vtd_jax.files import cache_folder, make_folders

ROOT = Path(__file__).resolve().parents[2]
# a command that compiles, and prints how many programs it found instead
COMMAND = """
import sys
from absl import flags
from experiments.common import cli
{early}
def main():
    import jax, jax.numpy as jnp
    from jax._src import monitoring
    told = []
    monitoring.register_event_listener(lambda event, **_: told.append(event))
    jax.jit(lambda x: x @ x)(jnp.ones((32, 32))).block_until_ready()
    found, config = sum(event.endswith("cache_hits") for event in told), jax.config
    limits = config.jax_compilation_cache_max_size,\
 config.jax_persistent_cache_min_compile_time_secs
    return f"{{found}} found, kept in {{config.jax_compilation_cache_dir}}, limits {{limits}}"
cli.run(main, "A command.")
"""


def _run(cache, early="", **variables):
    """The command with a cache folder; of JAX's own variables, only the given ones are set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= (
        dict(VTD_JAX_CACHE=str(cache), JAX_PLATFORMS="cpu", XLA_FLAGS=warm.xla_flags()) | variables
    )
    code = COMMAND.format(early=early)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


def _programs(folder):
    return sorted(path.name for path in Path(folder).rglob("*-cache"))


# JAX may be imported before the command starts, or by it
@pytest.mark.slow
@pytest.mark.parametrize("early", ["", "import jax"])
def test_the_second_start_finds_what_the_first_compiled(tmp_path, early):
    folder, everything = (
        tmp_path / FOLDER / programs_folder().name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    )
    message, _ = _run(tmp_path, early)
    assert (
        message
        == f"0 found, kept in {folder}, limits ({programs.MAX_SIZE}, {programs.MIN_SECONDS})"
    )
    message, _ = _run(tmp_path, early, **{everything: "0"})
    # on a loaded machine the first start compiled for long enough to keep it
    assert message.endswith(f" found, kept in {folder}, limits ({programs.MAX_SIZE}, 0.0)")
    kept = _programs(folder)
    assert len(kept) >= 1
    again, errors = _run(tmp_path, early, **{everything: "0"})
    assert again.startswith(f"{len(kept)} found, ")
    assert errors == ""
    assert _programs(tmp_path / FOLDER) == kept


@pytest.mark.slow
def test_what_jax_was_reported_itself_comes_first(tmp_path):
    message, _ = _run(tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert message == f"0 found, kept in {tmp_path / 'own'}, limits (-1, 1.0)"
    message, _ = _run(tmp_path / "ours", JAX_ENABLE_COMPILATION_CACHE="false")
    assert message.startswith("0 found, kept in None")
    assert not (tmp_path / "ours").exists()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_reported_and_stops_nothing(tmp_path):
    (tmp_path / "file").touch()
    message, errors = _run(tmp_path / "file")
    assert message.startswith("0 found, kept in None")
    assert errors.startswith(
        f"warning: {tmp_path / 'file'}: compiled programs cannot be kept there (Not a directory)"
    )
    assert len(errors.splitlines()) == 1


def test_this_process_was_reported_where_already():
    # by conftest.py, for all tests
    assert keep_programs() is None


def test_programs_are_of_one_kind_of_machine(monkeypatch):
    here = programs_folder()
    assert here.parent == cache_folder() / FOLDER
    monkeypatch.setattr(programs, "version", lambda name: "0.0.1")
    other = programs_folder()
    monkeypatch.setattr(programs, "_cpu", lambda: ["flags: avx512f"])
    assert len({here, other, programs_folder()}) == 3


def test_a_home_that_is_not_known_is_reported(monkeypatch, capsys):
    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VTD_JAX_CACHE")
    monkeypatch.setattr(programs, "_decided", lambda: False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert keep_programs() is None
    assert capsys.readouterr().err.startswith(
        "warning: ~/.cache/vtd_jax: compiled programs cannot be kept there (VTD_JAX"
    )


@pytest.fixture
def undecided(monkeypatch):
    """`keep_programs` as a command meets it, without a change to this process's own settings."""
    monkeypatch.setattr(programs, "_decided", lambda: False)
    monkeypatch.setattr(programs, "_set", lambda name, value: None)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o000])
def test_what_is_made_is_of_its_owner_alone(undecided, monkeypatch, tmp_path, umask):
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "a" / "cache"))
    before = os.umask(umask)
    try:
        folder = keep_programs()
    finally:
        os.umask(before)
    for made in (folder, folder.parent, tmp_path / "a" / "cache", tmp_path / "a"):
        assert made.stat().st_mode & 0o777 == 0o700


def _open(path):
    path.chmod(0o775)


def _another(path):
    os.chown(path, 12345, -1)


def _link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    "change, place, why",
    [
        (_open, 0, "others can write into "),
        (_open, 1, "others can write into "),
        (_open, 2, "others can write into "),
        (_another, 0, "belongs to user 12345"),
        (_another, 2, "belongs to user 12345"),
        (_link, 0, "is a link"),
        (_link, 1, "is a link"),
        (lambda path: path.chmod(0o777), 3, "everybody can write into "),
    ],
)
def test_no_code_is_read_where_others_write(
    undecided, monkeypatch, capsys, tmp_path, change, place, why
):
    if change is _another and os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "a" / "cache"))
    folder = keep_programs()
    change([folder, *folder.parents][place])
    assert keep_programs() is None
    message = capsys.readouterr().err
    assert message.startswith(f"warning: {folder}: ")
    assert "compiled programs" in message
    assert why in message
    assert message.count("\n") == 1


def test_a_linked_cache_and_a_sticky_folder_are_fine(undecided, monkeypatch, capsys, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o1777)
    (tmp_path / "disk" / "cache").mkdir(0o755)
    (tmp_path / "cache").symlink_to(tmp_path / "disk" / "cache")
    monkeypatch.setenv("VTD_JAX_CACHE", str(tmp_path / "cache"))
    assert keep_programs() == programs_folder()
    assert capsys.readouterr().err == ""


def test_the_cache_is_never_made_for_others_to_write(tmp_path):
    before = os.umask(0)
    try:
        make_folders(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755] * 2
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            make_folders(folder)
