"""`vtd` and `python -m experiments`: the list of commands, mistakes, and how messages name them."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import experiments
import vtd_jax
from experiments.common import config_flag, dispatch, program
from experiments.completion.flags_of import flags_of
from support import small_run, warm
from support.small_run import ROOT

# `vtd` is installed with the wheel: here it is started as a module
VTD = ["-m", "vtd_jax.installed.vtd"]


@pytest.fixture
def by_vtd(monkeypatch):
    """As if `vtd` had started this process."""
    monkeypatch.setattr(program, "_by_vtd", True)


def _listed(name: str, *arguments: str) -> tuple[int, str, str]:
    """As `_said`, in this process: for what runs no command."""
    out, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(program, "_by_vtd", False)
        patch.setattr(sys, "argv", [name, *arguments])
        try:
            dispatch.main(name)
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), errors.getvalue()


def _said(*arguments: str) -> tuple[int, str, str]:
    done = warm.run([*VTD, *arguments])
    return done.returncode, done.stdout, done.stderr


def test_every_command_has_a_line_and_no_jax_is_imported():
    code = (
        "import sys; from vtd_jax.installed import vtd; sys.argv = ['vtd', '--help']; vtd.main(); "
        "print([name for name in ('jax', 'flax', 'numpy', 'av') if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, imported = done.stdout.splitlines()
    assert imported == "[]"
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert set(listed) == {program.dashed(name) for name in program.commands()}
    for name, line in listed.items():
        assert 20 < len(line) < 125, name
        assert line.endswith((".", "pages")), name


@pytest.mark.command
def test_names_with_dashes_and_underscores_and_the_same_code():
    plain = small_run.command("show_batch", "--help")
    for name in ("show-batch", "show_batch"):
        status, out, errors = _said(name, "--help")
        assert (status, errors) == (0, "")
        assert "  vtd show-batch --seed=36" in out
        assert "--config=base_to_novel:hmdb51" in out
        assert "python -m" not in out
        assert "experiments" not in out
        flags = re.compile(r"^  --\S+", re.M)
        assert flags.findall(out) == flags.findall(plain.stdout)
    assert "python -m experiments.show_batch --config=experiments/configs/" in plain.stdout


def test_our_flags_first_and_absls_own_in_the_full_help():
    _, out, _ = _said("compare", "--help")
    assert "--stem" in out
    assert "--pdb" not in out
    assert str(ROOT) not in out
    assert out.endswith("Try --helpfull to get a list of all flags.\n")
    assert "--pdb" in _said("compare", "--helpfull")[1]


@pytest.mark.parametrize(
    "given, said",
    [
        ("pridict", "unknown command pridict: did you mean vtd predict?"),
        ("Show_Batch ", "unknown command Show_Batch : did you mean vtd show-batch?"),
        ("zzz", "unknown command zzz, vtd --help lists all"),
        ("--model=tiny", "--model=tiny: flags belong to a command: vtd COMMAND --model=tiny"),
        ("\x1b[31m", "unknown command \\x1b[31m"),
        ("common", "unknown command common"),
        ("../train", "unknown command ../train"),
    ],
)
def test_mistakes_are_one_line(given, said):
    status, out, errors = _listed("vtd", given)
    assert (status, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {said}")


def test_versions_and_no_arguments():
    versions = _listed("vtd", "--version")
    assert versions[0] == 0
    assert versions[1].startswith(f"vtd_jax {vtd_jax.__version__} (Python")
    assert _listed("vtd") == _listed("vtd", "--help") == _listed("vtd", "-h")


@pytest.mark.command
def test_the_list_and_mistakes_of_the_other_spelling():
    done = warm.run(["-m", "experiments"])
    assert done.stdout == _listed("python -m experiments")[1]
    assert "usage: python -m experiments COMMAND" in done.stdout
    said = _listed("python -m experiments", "compar")[2]
    assert said.startswith("error: unknown command compar: did you mean python -m experiments com")


@pytest.mark.command
def test_messages_and_records_name_the_command_as_it_was_started(tmp_path):
    folder = tmp_path / "none"
    flags = f"--data_dir={folder}", f"--workdir={tmp_path}/w", "--clip=tiny"
    done = _said("reproduce", "--table=few_shot", *flags)
    cure = f"vtd build-data --dataset=NAME --source=DOWNLOADED --data_dir={folder}"
    expected = f"error: --data_dir={folder}: no such folder; make records with {cure}\n"
    assert done[::2] == (2, expected)
    status, _, errors = _said("train", f"--workdir={tmp_path}/w")
    assert (status, errors) == (
        2,
        "error: --config is needed, e.g. --config=base_to_novel:hmdb51,shots=16; see --help\n",
    )


def test_help_in_errors_is_respelled():
    _, _, errors = _said("reproduce", "--table=few_shot", "--workdir=x", "--data_dir=")
    assert errors.startswith("error: --data_dir=: is empty, expected what vtd build-data wrote;")


def test_texts_are_respelled(by_vtd):
    assert program.spelled("build_data") == "vtd build-data"
    assert program.config("scenes:few_shot") == "scenes:few_shot"
    text = "`python -m experiments.build_data` or experiments.train, experiments.common.cli"
    assert program.respelled(text) == "`vtd build-data` or vtd train, experiments.common.cli"
    text = "--config=experiments/configs/few_shot.py:hmdb51 of experiments/configs/_base.py"
    assert program.respelled(text) == "--config=few_shot:hmdb51 of experiments/configs/_base.py"


def test_texts_stay_where_python_started_the_module():
    text = "python -m experiments.train --config=experiments/configs/few_shot.py:hmdb51"
    assert program.respelled(text) == text
    assert program.spelled("train") == "python -m experiments.train"
    assert program.config("scenes:few_shot") == "experiments/configs/scenes.py:few_shot"


def test_summaries_are_the_first_lines_of_docstrings(by_vtd):
    assert dispatch.summary("train") == "Trains VTD-CLIP: prompts and fusion on a frozen CLIP."
    names = [name for names in dispatch.groups().values() for name in names]
    assert sorted(names) == list(program.commands())


@pytest.mark.parametrize(
    "name, module, said",
    [
        ("train", "grain", "vtd train needs grain: pip install -e '.[train]'"),
        (
            "build_data",
            "tensorflow_datasets",
            "vtd build-data needs tensorflow-datasets: pip install -e '.[data]'",
        ),
    ],
)
def test_a_missing_package_of_an_extra_is_one_line(name, module, said):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        code = (
            "import runpy, sys\n"
            f"for name in [{module!r}, *sys.modules]:\n"
            f"    if name.partition('.')[0] == {module!r}: sys.modules[name] = None\n"
            f"sys.argv = {['vtd', name, *arguments]!r}\n"
            "runpy.run_module('vtd_jax.installed.vtd', run_name='__main__')"
        )
        return warm.run(["-c", code])

    done = run("--workdir=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {said}\n"
    # the help does not need it
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(dispatch.summary(name))
    assert f"vtd {program.dashed(name)} --" in done.stdout
    assert all(f" --{flag.name}" in done.stdout.replace("\n", " ") for flag in flags_of(name))
    assert done.stdout.endswith(f"\n\n{said} (--help then says more)\n")


@pytest.mark.parametrize(
    "module, flags, said",
    [
        # found when the work begins, not hours later
        ("demo", [], "vtd demo needs matplotlib: pip install -e '.[train,figures]'"),
        (
            "predict",
            ["--figures=out", "--video=setup.py"],
            "--figures=out: needs matplotlib: pip install -e '.[figures]'",
        ),
    ],
)
def test_what_an_output_needs_is_checked_before_the_work(module, flags, said):
    code = (
        "import runpy, sys; sys.modules['matplotlib'] = None; "
        f"sys.argv = {['vtd', module, *flags]!r}; "
        "runpy.run_module('vtd_jax.installed.vtd', run_name='__main__')"
    )
    done = warm.run(["-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")


def test_another_missing_module_keeps_its_traceback():
    code = (
        "import sys; sys.modules['msgspec'] = None; sys.argv = ['vtd', 'predict']; "
        "from vtd_jax.installed import vtd; vtd.main()"
    )
    done = warm.run(["-c", code])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of msgspec halted")


@pytest.mark.parametrize("name", config_flag.shipped())
def test_a_shipped_config_by_name(name, tmp_path, monkeypatch):
    file = Path(experiments.__file__).parent / "configs" / f"{name}.py"
    # where no checkout is
    monkeypatch.chdir(tmp_path)
    for written in (name, f"{name}.py", f"experiments/configs/{name}.py"):
        assert config_flag.located(f"{written}:a,b=c:d") == f"{file}:a,b=c:d"
        assert config_flag.config_path(f"{written}:a,b=c:d") == file
        assert config_flag.located(written) == str(file)


def test_a_file_of_the_current_folder_is_taken_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes.py").touch()
    (tmp_path / "experiments/configs").mkdir(parents=True)
    (tmp_path / "experiments/configs/scenes.py").touch()
    for written in (
        "scenes.py:x",
        "experiments/configs/scenes.py:x",
        "other/scenes.py:x",
        "mine.py:scenes",
        "run/config.json",
    ):
        assert config_flag.located(written) == written


@pytest.mark.command
def test_both_spellings_of_a_config_are_one_run(tmp_path):
    """A run that one began, the other resumes: nothing that is stored names the spelling."""
    shown = []
    for name in ("scenes:few_shot,shots=4", "experiments/configs/scenes.py:few_shot,shots=4"):
        done = small_run.command("train", f"--config={name}", "--workdir=x", "--print_config")
        assert done.returncode == 0, done.stderr
        shown.append(done.stdout.splitlines()[1:])
    assert shown[0] == shown[1]
    assert json.dumps(shown).count("config:") == 0
