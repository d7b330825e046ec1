"""The README's quick start prints what the README says."""

import re
from pathlib import Path

import pytest

from vtd_jax.scenes.render import write_mp4
from vtd_jax.scenes.sets import SceneSet

ROOT = Path(__file__).resolve().parents[2]
# printed with two digits or three: on another processor the last one may differ
_DIGIT = 0.011


@pytest.mark.slow
def test_the_quick_start_prints_what_it_says(tmp_path, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text().partition("## Quick start")[2]
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    # the one clip of `make demo` that it reads
    folder, file = re.search(r'"(demo_output/seed100/videos)/(\w+)\.mp4"', code).groups()
    *name, label, number = file.split("_")
    (tmp_path / folder).mkdir(parents=True)
    frames, _ = SceneSet(100).render(("_".join(name), int(label), int(number)))
    write_mp4(tmp_path / folder / f"{file}.mp4", frames)

    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})

    number = r"\d+\.\d*"
    shown = capsys.readouterr().out.strip()
    assert re.sub(number, "", shown).split() == re.sub(number, "", printed).split()
    expected = [float(one) for one in re.findall(number, printed)]
    found = [float(one) for one in re.findall(number, shown)]
    assert found == pytest.approx(expected, abs=_DIGIT)
