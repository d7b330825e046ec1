"""The export command, and evaluating what it wrote: a run's table from its file, from the authors'
format, and back.
"""

import json
import shutil

import numpy as np
import pytest

from experiments.common.config_flag import config_path
from support import small_run
from vtd_jax.model.saved.tuned import load_tuned, read_tuned
from vtd_jax.train.checkpoints.checkpoint import Checkpoints

pytestmark = pytest.mark.command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records, a CLIP, and a trained run in `run`."""
    folder = small_run.build(tmp_path_factory.mktemp("small"))
    flags = [*small_run.flags(folder), f"--workdir={folder / 'run'}", "--config.optimizer.epochs=1"]
    done = small_run.command("train", *flags)
    assert done.returncode == 0, done.stderr
    return folder


def run(name, *flags):
    done = small_run.command(name, *flags)
    assert done.returncode == 0, done.stderr
    return done


def refused(name, *flags):
    """The one line that a refusal is."""
    done = small_run.command(name, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


def results(workdir, stem="results"):
    return json.loads((workdir / f"{stem}.json").read_text())


def test_a_run_as_one_file_and_back(folder, tmp_path):
    out, trained = tmp_path / "new" / "small.safetensors", results(folder / "run")
    done = run("export", f"--workdir={folder / 'run'}", "--checkpoint=best", f"--out={out}")
    info = read_tuned(out)
    assert done.stdout.splitlines()[-1].startswith(
        f"wrote {out}: step 3 of {folder / 'run'}, {small_run.SMALL.architecture} (weights "
        f"{info.clip.weights}) is its CLIP, 3 classes, "
    )
    assert [path.name for path in out.parent.iterdir()] == ["small.safetensors"]
    assert (info.class_names, info.step, info.run, info.frames) == (
        small_run.BASE,
        3,
        "video_folder",
        2,
    )
    assert info.learnt_on == {"origin": "given", "told": "base_train (given list; 10 videos)"}
    checkpoints = Checkpoints(folder / "run")
    assert info.clip.weights == checkpoints.progress(3)["clip"]
    checkpoints.close()
    model, _ = load_tuned(out)
    assert model.encode_classes(model.class_tokens(info.class_names)).shape == (3, 32)

    workdir = tmp_path / "evaluated"
    done = run("evaluate", f"--workdir={workdir}", f"--checkpoint={out}")
    assert f"learnt: {out} (step 3 of video_folder, config {info.fingerprint})" in done.stdout
    found = results(workdir)
    assert found["rows"] == trained["rows"]
    for key in ("training list", "lists", "config", "fusion", "frames"):
        assert found["about"][key] == trained["about"][key]
    with (
        np.load(workdir / "results_scores.npz") as ours,
        np.load(folder / "run" / "results_scores.npz") as theirs,
    ):
        np.testing.assert_array_equal(ours["val/scores"], theirs["val/scores"])

    # other videos and names, with the file's model and CLIP
    names = "--config=experiments/configs/zero_shot.py:hmdb51,lists=base_to_novel"
    data = f"--config.data.data_dir={folder / 'records'}"
    run(
        "evaluate",
        f"--workdir={folder / 'run'}",
        f"--checkpoint={out}",
        names,
        data,
        "--config.model.pooling=mean",
    )
    other = results(folder / "run", "results_small")
    assert [row["split"] for row in other["rows"]] == ["base", "novel", "HM"]
    message = [other["about"][key] for key in ("fusion", "frames", "pooling", "training list")]
    assert message == [True, 32, "mean", "base_train (given list; 10 videos)"]
    assert results(folder / "run") == trained, "the run's own table stays"


def test_the_authors_format_and_back(folder, tmp_path):
    own, theirs = tmp_path / "own.safetensors", tmp_path / "theirs.pth"
    theirs.write_bytes(b"an older one")
    flags = [f"--workdir={folder / 'run'}", f"--out={theirs}"]
    done = run("export", *flags, "--with_clip")
    assert "tensors in the authors' names, " in done.stdout.splitlines()[-1]
    assert "preprocess" not in done.stderr
    fitting = [flag for flag in small_run.flags(folder) if "text_prompts" not in flag]
    clip = "--config.clip.architecture="
    workdir = tmp_path / "evaluated"
    done = run(
        "evaluate", f"--workdir={workdir}", f"--checkpoint={theirs}", *small_run.flags(folder)
    )
    assert f"learnt: {theirs} (the authors' format, its CLIP is the one used)" in done.stdout
    assert results(workdir)["rows"] == results(folder / "run")["rows"]
    assert "training list" not in results(workdir)["about"]
    message = refused("evaluate", f"--workdir={workdir}", f"--checkpoint={theirs}", *fitting, clip)
    assert (
        message
        == f"{theirs}: was learnt with other settings, give --config.model.text_prompts=2 (here 4)"
    )

    done = run("export", f"--checkpoint={theirs}", f"--out={own}", *small_run.flags(folder))
    info = read_tuned(own)
    assert (info.step, info.class_names) == (None, ())
    assert info.learnt_on == {"told": "not known, theirs.pth does not say"}
    again = tmp_path / "again.pth"
    run("export", f"--checkpoint={own}", f"--out={again}", "--with_clip=false")
    run("export", *flags)
    assert again.read_bytes() == theirs.read_bytes()


def test_the_authors_format_does_not_say_how_frames_were_prepared(folder, tmp_path):
    flags = [flag for flag in small_run.flags(folder) if "normalization" not in flag]
    way = ["--config.data.preprocess=clip", "--config.model.normalization=clip"]
    workdir, out = tmp_path / "run", tmp_path / "x.pth"
    run("train", *flags, *way, f"--workdir={workdir}", "--config.optimizer.epochs=1")
    done = run("export", f"--workdir={workdir}", f"--out={out}")
    assert f"{out}: was learnt with preprocess=clip, which this format" in done.stderr
    assert f"give {' '.join(way)} where it is evaluated" in done.stderr
    # what it names is what gives the run's numbers again
    again = tmp_path / "again"
    run("evaluate", *flags, *way, f"--checkpoint={out}", f"--workdir={again}")
    assert results(again)["rows"] == results(workdir)["rows"]


def test_records_that_are_gone_cost_the_class_names_only(folder, tmp_path):
    gone = f"--config.data.data_dir={tmp_path / 'gone'}"
    out = tmp_path / "x.safetensors"
    done = run("export", f"--workdir={folder / 'run'}", f"--out={out}", gone)
    assert "warning: the class names are not known: " in done.stderr
    assert "there is no such data folder" in done.stderr
    assert read_tuned(out).class_names == ()
    message = refused("export", f"--checkpoint={out}", f"--out={tmp_path / 'x.pth'}", "--with_clip")
    assert message.endswith(
        "with the CLIP go the embeddings of the class names, and these are not known"
    )


def test_a_workdir_whose_name_has_a_colon(folder, tmp_path):
    evaluated, exported = (
        shutil.copytree(folder / "run", tmp_path / name) for name in ("run:2", "back\\slash:c")
    )
    trained = results(evaluated)
    (evaluated / "results.json").unlink()
    run("evaluate", f"--workdir={evaluated}")
    assert results(evaluated)["rows"] == trained["rows"]
    run("export", f"--workdir={exported}", f"--out={tmp_path / 'x:y.safetensors'}")
    assert run(
        "evaluate", f"--workdir={tmp_path / 'z'}", f"--checkpoint={tmp_path / 'x:y.safetensors'}"
    )


@pytest.mark.parametrize(
    ("argument", "file"),
    [
        ("a:b/config.json", "a:b/config.json"),
        ("a:b/x.safetensors", "a:b/x.safetensors"),
        ("c.py:hmdb51,shots=2", "c.py"),
        ("c.py", "c.py"),
        ("c.py:", "c.py"),
        ("a:b/c.py:hmdb51", "a:b/c.py"),
        ("c.py:templates=t.json", "c.py"),
        ("a.py:b/config.json", "a.py"),
    ],
)
def test_the_file_that_a_config_flag_names(argument, file):
    assert str(config_path(argument)) == file


def test_refusals(folder, tmp_path):
    workdir, out = f"--workdir={folder / 'run'}", f"--out={tmp_path / 'x.safetensors'}"
    pth = tmp_path / "x.pth"
    pth.write_bytes(b"PK\x03\x04")
    for flags, message in (
        (
            [workdir, f"--out={tmp_path / 'x.npz'}"],
            "the name must end in .safetensors, .pth or .served",
        ),
        (
            [workdir, out, "--with_clip"],
            "--with_clip is for the authors' format, .pth",
        ),
        ([out], "--workdir is needed: the folder of a run; or give --checkpoint=FILE"),
        ([f"--workdir={tmp_path}", out], "config.json: no such file; give the workdir of a run"),
        (
            [f"--checkpoint={pth}", out],
            "x.pth: has no settings; give the workdir of a run, or a .pth with the --con",
        ),
        (
            [f"--checkpoint={pth}", f"--out={pth}"],
            f"is --checkpoint={pth}, which would be overwritten",
        ),
        (
            [workdir, out, *small_run.flags(folder)[:1]],
            "--config: a run is exported with its own settings",
        ),
        ([workdir, out, "--config.clip.path=tiny"], "was learnt on another CLIP"),
    ):
        assert message in refused("export", *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]
