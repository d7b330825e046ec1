"""No output is an input, whatever its path looks like; no foreign folder loses a file."""

import os
from pathlib import Path

import pytest

from vtd_jax import output_checks
from vtd_jax.errors import UserError
from vtd_jax.output_checks import (
    Output,
    begins,
    check_outputs,
    is_measurement,
    place_of,
    weights_read,
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an input in it, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.csv").write_text("a,b\n")
    return tmp_path


@pytest.mark.parametrize(
    "spelling",
    ["data/in.csv", "./data/../data/in.csv", "{here}/data/in.csv", "hard.csv", "soft.csv"],
)
def test_an_input_is_known_by_any_name(here, spelling):
    os.link("data/in.csv", "hard.csv")
    os.symlink("data/in.csv", "soft.csv")
    output = Output("--csv", Path(spelling.format(here=here)))
    for given in ("data/in.csv", str(here / "data/in.csv"), "soft.csv", "hard.csv"):
        with pytest.raises(
            UserError, match=r"^--csv=.*: is --labels=x, which would be overwritten"
        ):
            check_outputs([output], [("--labels=x", given)])
    check_outputs(
        [output],
        [("--labels=x", "a,b"), ("--vocabulary", None), ("--x", "no\0file"), ("--y", "other.csv")],
    )
    assert (here / "data/in.csv").read_text() == "a,b\n"


def test_a_file_of_a_folder_that_is_read_stays_unless_it_is_ours(here):
    read = [("--video=data", "data")]
    check_outputs([Output("--csv", here / "data/new.csv")], read)
    with pytest.raises(
        UserError, match=r"^--csv=.*in\.csv: exists, a file of --video=data that this"
    ):
        check_outputs([Output("--csv", here / "data/in.csv")], read)
    with pytest.raises(UserError, match="did not write"):
        check_outputs(
            [Output("--csv", here / "data/in.csv", ours=lambda path: begins(path, b"video,"))], read
        )
    check_outputs(
        [Output("--csv", here / "data/in.csv", ours=lambda path: begins(path, b"x", b"a,b"))], read
    )
    # elsewhere a file is replaced, as by other programs
    check_outputs([Output("--csv", here / "data/in.csv")], [("--video=other", here / "other")])


def test_two_outputs_are_two_files(here):
    two = [Output("--json", here / "new/o.json"), Output("--csv", here / "new/x/../o.json")]
    with pytest.raises(
        UserError, match=r"^--csv=.*: is --json=.*o\.json too; give each a name of its own"
    ):
        check_outputs(two, [])
    with pytest.raises(UserError, match=r"is --report=.* too"):
        check_outputs(
            [Output("--report", here / "o", folder=True), Output("--json", here / "o")], []
        )
    check_outputs(
        [Output("--report", here / "o", folder=True), Output("--figures", here / "o", folder=True)],
        [],
    )


def test_disks_that_ignore_case(here, monkeypatch):
    assert place_of(here / "new/A.json") != place_of(here / "new/a.JSON")
    monkeypatch.setattr(output_checks, "_ignores_case", lambda folder: True)
    assert place_of(here / "new/A.json") == place_of(here / "new/a.JSON")
    with pytest.raises(UserError, match=r"is --json=.* too"):
        check_outputs([Output("--json", here / "A.json"), Output("--csv", here / "a.json")], [])


@pytest.mark.parametrize(
    "marks, name, taken",
    [
        (("config.json", "checkpoints/"), "config.json", "the run"),
        (("config.json", "checkpoints/"), "checkpoints/64/state.json", "the run"),
        (("config.json", "checkpoints/"), "results.json", "the run"),
        (("config.json", "checkpoints/"), "Metrics.csv", "the run"),
        (("config.json", "checkpoints/"), "scores.json", ""),
        (("config.json",), "scores.json", ""),
        (("dataset_info.json", "features.json"), "files.json", "the records"),
        (("dataset_info.json", "features.json"), "lists/new.csv", "the records"),
        (("about.json", "program.jaxexport"), "new.json", "the served model"),
        (("results.json", "results_scores.npz"), "results.csv", "the evaluation"),
        (("results.json", "results_scores.npz"), "notes.csv", ""),
        (("plans/", "runs/"), "plans/few_shot.json", "the reproduced tables"),
        (("plans/", "runs/"), "few_shot.json", ""),
    ],
)
def test_what_belongs_to_a_run_stays(here, marks, name, taken):
    for mark in marks:
        path = here / "run" / mark
        path.mkdir(parents=True) if mark.endswith("/") else path.parent.mkdir(
            exist_ok=True
        ) or path.write_text("{}")
    os.symlink("run", "link")
    for folder in ("run", "link"):
        output = Output("--json", here / folder / name)
        if taken:
            with pytest.raises(
                UserError, match=rf"^--json=.*: is a place of {taken}.* in .*run; give another name"
            ):
                check_outputs([output], [])
        else:
            check_outputs([output], [])
        # what an evaluation writes belongs there
        check_outputs([Output("--workdir", here / folder / name, belongs=True)], [])


def test_no_folder_is_one_of_records(here):
    for mark in ("dataset_info.json", "features.json"):
        (here / mark).write_text("{}")
    with pytest.raises(UserError, match=r"^--report=.*: is a place of the records in"):
        check_outputs([Output("--report", here, folder=True)], [])


@pytest.mark.parametrize(
    "marks, what",
    [
        (("about.json", "program.jaxexport"), "the served model"),
        (("config.json", "checkpoints"), "the run"),
        (("results.json", "results_scores.npz"), "the evaluation"),
        (("plans", "runs"), "the reproduced tables"),
    ],
)
def test_a_folder_of_pages_is_not_what_others_own_as_a_whole(here, marks, what):
    for mark in marks:
        (here / mark).touch()
    with pytest.raises(UserError, match=f"is a place of {what}"):
        check_outputs([Output("--report", here, folder=True)], [])
    # its owner may continue with it
    check_outputs([Output("--workdir", here, folder=True, whole=True)], [])


def test_configs_beside_weights_are_read_too(here):
    for name in ("model.safetensors", "config.json"):
        (here / name).write_text("{}")
    with pytest.raises(
        UserError, match=r"is .*config\.json, which is read with --model=.*, which would be"
    ):
        check_outputs(
            [Output("--json", here / "config.json")], weights_read("--model", "model.safetensors")
        )
    check_outputs([Output("--json", here / "config.json")], weights_read("--model", "tiny"))
    check_outputs([Output("--json", here / "config.json")], weights_read("--clip", None))


def test_what_a_benchmark_wrote(here):
    (here / "ours.json").write_text(
        '{"machine": {"device": "x", "platform": "cpu", "processor": "y"}}'
    )
    (here / "other.json").write_text('{"name": "x"}')
    (here / "empty.json").touch()
    os.mkfifo(here / "pipe.json")
    names = ("ours", "other", "empty", "pipe", "none")
    found = [is_measurement(here / f"{name}.json") for name in names]
    assert found == [True, False, True, False, False]
    assert not begins(here / "pipe.json", b"x")
