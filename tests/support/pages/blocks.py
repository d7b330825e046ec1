"""The fenced blocks that a reader copies, and the marks of those that no test runs.

A mark stands on the line before the fence, and a browser does not show it:

    <!-- not run: the network -->
    ```bash
    pip install vtd-jax
    ```
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LANGUAGES = ("bash", "python", "pycon")
# why no test of `make slow` runs a block: what it needs. Nothing else excuses one
REASONS = (
    "the network",
    "a TPU or GPU",
    "several machines",
    "an environment of its own",
    "minutes or hours",
    "a shell",
    "a server",
    "Docker",
)
_FENCE = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
      page: its path below the root, `docs/predict.md`.
      line: of its fence, from 1.
      language: the word behind the fence; "" for none.
      text: the lines between the fences.
      reason: what a mark says that it needs; None without a mark.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README.md, CONTRIBUTING.md and the site's pages."""
    built = ROOT / "docs" / "_build"
    found = (page for page in (ROOT / "docs").rglob("*.md") if not page.is_relative_to(built))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(found)]


def blocks_of(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    yield from blocks_in(page.read_text(), page.relative_to(ROOT).as_posix())


def blocks_in(text: str, page: str) -> Iterator[Block]:
    """All fenced blocks of a text."""
    for found in _FENCE.finditer(text):
        line = 1 + text.count("\n", 0, found.start("indent"))
        width = len(found["indent"])
        inner = "".join(row[width:] for row in found["text"].splitlines(keepends=True))
        yield Block(page, line, found["language"], inner, found["reason"])


def typed(page: Path) -> list[Block]:
    """The blocks of a page that a reader copies."""
    return [block for block in blocks_of(page) if block.language in LANGUAGES]
