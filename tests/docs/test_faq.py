"""The error lines of the FAQ are those that the commands print."""

import ast
import re
import sys
from collections.abc import Iterator

import pytest

from support.pages import shell
from support.pages.blocks import ROOT
from support.pages.world import substituted

FAQ = ROOT / "docs" / "faq.md"
# a part of a line is of the code if one text of the code has this share of its letters
_SHARE = 0.5
_SHORT = 4

_PREDICT = "vtd predict --model=tiny --video=clip.mp4 --frames=2"
_TRAIN = (
    "vtd train --config=base_to_novel:hmdb51 --workdir=runs/hmdb51 --config.clip.path=ViT-B/16 "
    "--config.data.data_dir=records/hmdb51"
)
# without `import grain`
_NO_GRAIN = (
    'python -c "import runpy, sys; [sys.modules.__setitem__(name, None) for name in '
    "['grain', *sys.modules] if name.partition('.')[0] == 'grain']; "
    "sys.argv = ['vtd', 'train']; runpy.run_module('vtd_jax.installed.vtd', run_name='__main__')\""
)
_NO_DEVICE = f"JAX_PLATFORMS=cuda {sys.executable} -m vtd_jax.installed.vtd"
# how each line begins, after its first blank or `…` -> what makes a command print it
PROVOKED = {
    "unknown command predic": "vtd predic",
    "unknown flag --vido": "vtd predict --vido=clip.mp4",
    "--config=base_to_nove": "vtd train --config=base_to_nove:hmdb51 --workdir=x",
    "unknown config field": "vtd train --config=scenes --workdir=x --config.optimizer.lrr=1",
    "vtd train needs grain": _NO_GRAIN,
    "JAX_PLATFORMS=cuda": f"{_NO_DEVICE} predict --video=clip.mp4 --labels=a,b",
    "ViT-B/16: not on": (
        'VTD_JAX_CACHE="$PWD/empty" vtd predict --model=ViT-B/16 --video=clip.mp4 --labels=a,b'
    ),
    "not a checkpoint": "vtd predict --model=labels.txt --video=clip.mp4 --labels=a,b",
    "truncated or damaged: …": (
        "head -c 90000 ViT-B-16.pt > half.pt; "
        "vtd predict --model=half.pt --video=clip.mp4 --labels=a,b"
    ),
    "--video=…: no such": "vtd predict --model=tiny --video=missing.mp4 --labels=a,b",
    "--video=…: no video": "vtd predict --model=tiny --video='missing/*.mp4' --labels=a,b",
    "cannot be read as a video (Invalid": (
        "head -c 1000 clip.mp4 > cut.mp4; vtd predict --model=tiny --video=cut.mp4 --labels=a,b"
    ),
    "cannot be read as a video (it is": "vtd predict --model=tiny --video=labels.txt --labels=a,b",
    "the file is truncated": (
        "head -c 6000 another.avi > half.avi; vtd predict --video=half.avi --labels=a,b"
    ),
    "--labels: entry 2": f"{_PREDICT} --labels=a,A",
    "… has 88 tokens": f"{_PREDICT} --labels=\"a,$(yes b | head -88 | paste -sd ' ')\"",
    "… is not UTF-8": f"printf 'caf\\xe9\\nb\\n' > latin.txt; {_PREDICT} --labels=latin.txt",
    "a zero byte": f"printf 'a\\0\\nb\\0\\n' > wide.txt; {_PREDICT} --labels=wide.txt",
    "there is no such file; …": f"{_PREDICT} --labels=missing.txt",
    "found no CLASS": "vtd build-data --dataset=hmdb51 --source=clips --data_dir=out",
    "there is no such data folder": _TRAIN.replace("=records", "=missing"),
    "holds checkpoints": f"{_TRAIN} --config.optimizer.lr=1",
    "leave … out": f"{_TRAIN} --noresume",
}


def _lines() -> list[str]:
    """Every text in the first column of the FAQ's tables."""
    cells = re.findall(r"^\| (.*?) \| ", FAQ.read_text(), re.MULTILINE)
    return [line for cell in cells for line in re.findall(r"`([^`]+)`", cell)]


def _texts() -> Iterator[list[str]]:
    """The fixed parts of every text in the code."""
    for folder in ("vtd_jax", "experiments"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield [one.value for one in node.values if isinstance(one, ast.Constant)]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield [node.value]


def _covered(part: str, fixed: list[str]) -> float:
    """The share of a line's part that the fixed parts of one text have."""
    spelled = [" ".join(text.split()) for text in fixed]
    if any(part in text for text in spelled):
        return 1.0
    found = [text for text in spelled if len(text) >= _SHORT and text in part]
    return sum(map(len, found)) / len(part)


@pytest.mark.slow
def test_lines_that_are_not_provoked_are_texts_of_the_code():
    texts = list(_texts())
    for line in _lines():
        if any(line.startswith(start) for start in PROVOKED):
            continue
        for part in (part.strip(" ;,:") for part in line.split("…")):
            if len(part) >= _SHORT:
                best = max(texts, key=lambda fixed: _covered(part, fixed))
                assert _covered(part, best) >= _SHARE, (line, part, best)


def test_every_provoked_line_is_in_the_faq():
    assert len(PROVOKED) > len(_lines()) / 2
    for start in PROVOKED:
        assert sum(line.startswith(start) for line in _lines()) == 1, start


@pytest.mark.slow
def test_a_line_of_no_code_is_noticed():
    texts = list(_texts())
    assert max(_covered("the video is far too beautiful", one) for one in texts) < _SHARE


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """Records, a run, and the files of the pages."""
    wanted = ("records/hmdb51", "runs/hmdb51")
    return world.copy(wanted, tmp_path_factory.mktemp("faq") / "page")


@pytest.mark.slow
@pytest.mark.command
@pytest.mark.parametrize("start", PROVOKED)
def test_a_command_prints_the_line(start, world, folder):
    line = next(line for line in _lines() if line.startswith(start))
    expected = ".*".join(re.escape(part.strip()) for part in line.split("…"))
    done = shell.start(substituted(PROVOKED[start]), folder, world.env)
    assert done.returncode == 2, done.stderr
    assert re.search(expected, done.stderr), f"{line}\n{done.stderr}"
