"""Every block of a page that a reader copies runs, on small files, as it is written.

The blocks of a page run in one folder, in order; `support.pages.world` has what they find there.
A block that needs more than this machine has carries a mark (`support.pages.blocks`).
"""

import doctest
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.pages import shell
from support.pages.blocks import LANGUAGES, REASONS, ROOT, Block, blocks_in, blocks_of, pages, typed
from support.pages.world import NAMES, World, substituted

# page -> what of `world.GIVEN` it takes for granted
BEFORE = {
    "README.md": (),
    "docs/getting-started.md": ("demo_output/seed100/run6",),
    "docs/train.md": ("records/hmdb51",),
    "docs/evaluation.md": (
        "runs/hmdb51", "runs/clip", "records/hmdb51", "records/ucf101", "authors.pth",
        "runs/a_s1", "runs/a_s2", "runs/b_s1", "runs/b_s2",
    ),
    "docs/reproduce.md": (
        "records/hmdb51", "runs/hmdb51", "runs/a_s1", "runs/a_s2", "runs/b_s1", "runs/b_s2",
        "runs/tables/runs/base_to_novel_hmdb51_16shot_s1",
        "runs/tables/runs/zero_shot_hmdb51_halves_mean",
    ),
    "docs/serve.md": ("runs/hmdb51",),
    "docs/commands.md": ("records/hmdb51",),
    "docs/scaling.md": ("records/kinetics400",),
    "docs/pods.md": ("records/kinetics400",),
}  # fmt: skip
# a mark is an exception: of all blocks at most this share
_MOST_MARKED = 0.4
_COMMAND = re.compile(r"^\s*(\S*/)?(vtd|make|pip|python3?|gcloud|srun) ", re.MULTILINE)


def _runs(page: Path) -> list[Block]:
    return [block for block in typed(page) if block.reason is None]


@pytest.mark.slow
@pytest.mark.command
@pytest.mark.parametrize(
    "page", [page for page in pages() if _runs(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_blocks_of_a_page_run(page, world, tmp_path, capsys):
    blocks = _runs(page)
    folder = world.copy(BEFORE.get(blocks[0].page, ()), tmp_path / "page")
    names = dict(NAMES, __name__="__main__")
    modules = set(sys.modules)
    with world.here(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        for block in blocks:
            _run(block, folder, world, names)
    # what a block imported from its folder is not there for the next page
    for name in set(sys.modules) - modules:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def _run(block: Block, folder: Path, world: World, names: dict) -> None:
    text = substituted(block.text)
    try:
        if block.language == "bash":
            shell.run(text, folder, world.env)
        elif block.language == "python":
            exec(compile(text, str(block), "exec"), names)
        else:
            _check_session(text, block, names)
    except BaseException as error:
        error.add_note(f"in the block {block}")
        raise


def _check_session(text: str, block: Block, names: dict) -> None:
    """A session of Python prints what it shows; `…` in it stands for anything."""
    found = doctest.DocTestParser().get_doctest(
        text.replace("…", "..."), names, str(block), block.page, block.line
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    runner.run(found, out=said.append, clear_globs=False)
    names.update(found.globs)
    assert not runner.failures, "".join(said)


def test_marks_are_few_and_known():
    blocks = [block for page in pages() for block in typed(page)]
    marked = [block for block in blocks if block.reason is not None]
    unknown = {str(block): block.reason for block in marked if block.reason not in REASONS}
    assert not unknown
    assert len(marked) <= _MOST_MARKED * len(blocks), Counter(block.reason for block in marked)
    # a mark that stands before no block excuses nothing
    text = "".join(page.read_text() for page in pages())
    assert len(re.findall(r"<!-- not run:", text)) == len(marked)


def test_commands_stand_in_blocks_that_run_or_are_marked():
    for page in pages():
        for block in blocks_of(page):
            if block.language not in LANGUAGES and block.language != "dockerfile":
                assert not _COMMAND.search(block.text), block


def test_pages_that_find_something_before_are_there():
    assert set(BEFORE) <= {page.relative_to(ROOT).as_posix() for page in pages()}


def test_blocks_are_read_with_their_marks():
    text = "a\n<!-- not run: the network -->\n```bash\npip x\n```\n  ```python\n  a = 1\n  ```\n"
    marked, plain = blocks_in(text, "page.md")
    assert (marked.reason, marked.line, marked.text) == ("the network", 3, "pip x\n")
    assert (plain.reason, plain.language, plain.text) == (None, "python", "a = 1\n")


@pytest.mark.command
def test_a_block_that_fails_is_noticed(world, tmp_path):
    folder = world.copy((), tmp_path / "page")
    failing = "vtd predict --video=missing.mp4 --labels=a,b"
    for wrong in (f"{failing}\ntrue", f"{failing} & wait", "pip install x", "false"):
        with pytest.raises(AssertionError, match="status"):
            _run(Block("page.md", 1, "bash", wrong, None), folder, world, {})
    with pytest.raises(NameError):
        _run(Block("page.md", 1, "python", "missing", None), folder, world, {})
    with pytest.raises(AssertionError):
        _run(Block("page.md", 1, "pycon", ">>> 1 + 1\n3\n", None), folder, world, {})
