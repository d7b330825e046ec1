"""The README's quick start prints what the README says; the first command after the demo runs."""

import re
import shlex
from pathlib import Path

import pytest

from support import warm
from vtd_jax.scenes.render import write_mp4
from vtd_jax.scenes.sets import SceneSet

ROOT = Path(__file__).resolve().parents[2]
# printed with two digits or three: on another processor the last one may differ
_DIGIT = 0.011


def _of_the_demo(folder: Path, file: str) -> None:
    """Writes one clip of `make demo`, and the labels, where the demo does."""
    *name, label, number = file.split("_")
    seed = folder / "demo_output" / "seed100"
    (seed / "videos").mkdir(parents=True)
    frames, _ = SceneSet(100).render(("_".join(name), int(label), int(number)))
    write_mp4(seed / "videos" / f"{file}.mp4", frames)
    rows = "".join(f"{i},{one}\n" for i, one in enumerate(SceneSet(100).names()["novel"]))
    (seed / "novel_labels.csv").write_text("id,name\n" + rows)


@pytest.mark.slow
def test_the_quick_start_prints_what_it_says(tmp_path, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text().partition("## Quick start")[2]
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    _of_the_demo(tmp_path, re.search(r"/(novel_val_\w+)\.mp4", code)[1])
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})

    number = r"\d+\.\d*"
    shown = capsys.readouterr().out.strip()
    assert re.sub(number, "", shown).split() == re.sub(number, "", printed).split()
    expected = [float(one) for one in re.findall(number, printed)]
    found = [float(one) for one in re.findall(number, shown)]
    assert found == pytest.approx(expected, abs=_DIGIT)


@pytest.mark.command
def test_the_first_command_after_the_demo_runs(tmp_path):
    page = (ROOT / "docs" / "getting-started.md").read_text()
    line = re.search(r"^vtd predict (--video='demo_output.*)$", page, re.MULTILINE)[1]
    # a process of `warm` starts in the checkout
    line = re.sub("demo_output|(?<=--report=)", lambda path: f"{tmp_path}/{path[0]}", line)
    _of_the_demo(tmp_path, "novel_val_003_000")
    done = warm.run(["-m", "experiments.predict", *shlex.split(line)])
    assert done.returncode == 0, done.stderr
    assert "orange solid star" in (tmp_path / "report" / "index.html").read_text()
