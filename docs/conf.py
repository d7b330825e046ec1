"""The site of the documentation: Sphinx, with MyST for Markdown and furo as the theme.

`make docs` builds it offline; every warning is an error, so a link or an anchor that leads nowhere
fails the build. Pages are plain Markdown that GitHub shows as well.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
# the reference imports modules, none of which may wait for a TPU or GPU
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from docutils import nodes  # noqa: E402
from latex2mathml.converter import convert  # noqa: E402
from sphinx.errors import ExtensionError  # noqa: E402

import vtd_jax  # noqa: E402

project = "vtd_jax"
author = "The vtd_jax authors"
project_copyright = author
version = release = vtd_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "measured"]
html_theme = "furo"
html_title = f"vtd_jax {release}"
html_show_sphinx = False
suppress_warnings = ["misc.highlighting_failure"]

# equations are MathML, which browsers show by themselves; Sphinx's default fetches MathJax
myst_fence_as_directive = ["math"]
html_math_renderer = "mathml"

# anchors as GitHub makes them
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# else fields of named tuples are described twice
napoleon_use_ivar = True
# docstrings are Markdown: `x` is code
default_role = "code"

# the menu: a page -> captions and the pages below each
MENU = {
    "index": {
        "Start": "getting-started commands faq",
        "Use": "predict app retrieval weights encoders serve",
        "Data": "data datasets/hmdb51 datasets/ucf101 datasets/ssv2 datasets/kinetics400 "
        "datasets/own beam",
        "Train and evaluate": "train evaluation mteb reproduce results published",
        "Scale": "scaling parallel pods chips benchmark",
        "Background": "method differences security contributing api/index",
    },
    "results": {
        "": "scenes/base_to_novel scenes/base_to_novel_paired scenes/few_shot scenes/zero_shot "
        "scenes/fully_supervised scenes/ablations scenes/irrelevant",
    },
    "api/index": {"": "prediction retrieval model clip video training base"},
}

# an address like https://github.com/OWNER/vtd_jax/blob/main; without one, files of the code that
# pages link to are copied into the site
SOURCES = os.environ.get("VTD_JAX_DOCS_SOURCES", "").rstrip("/")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def _added(app: Any, name: str, content: list[str]) -> None:
    """What GitHub would show as code: the menu, and the docstrings of modules."""
    for caption, pages in MENU.get(name, {}).items():
        options = f":hidden:\n:caption: {caption}" if caption else ":hidden:"
        content[0] += f"\n```{{toctree}}\n{options}\n\n" + "\n".join(pages.split()) + "\n```\n"
    if name.startswith("api/"):
        content[0] = re.sub(
            r"^## (vtd_jax\.\S+)$",
            r"\g<0>\n\n```{eval-rst}\n.. automodule:: \1\n   :members:\n```\n",
            content[0],
            flags=re.MULTILINE,
        )
    if name == "contributing":
        # one file for GitHub, which expects it in the root, and the site
        guide = (ROOT / "CONTRIBUTING.md").read_text().partition("\n")[2]
        content[0] += re.sub(r"\]\((?=[\w.])(?!https?:)", "](../", guide).replace(
            "](../docs/", "]("
        )


def _outside(app: Any, name: str, content: list[str]) -> None:
    """Links that leave docs/: to the code's address, as downloads, or as plain text."""
    folder = (DOCS / name).parent

    def replaced(match: re.Match[str]) -> str:
        text, path = match[1], (folder / match[2]).resolve()
        if path.is_relative_to(DOCS):
            return match[0]
        if SOURCES:
            return f"[{text}]({SOURCES}/{path.relative_to(ROOT).as_posix()}{match[3] or ''})"
        if path.is_file():
            return f"{{download}}`{text} <{os.path.relpath(path, folder)}>`"
        return text

    # marks of blocks that no test runs
    content[0] = re.sub(r"^ *<!-- not run: .* -->\n", "", content[0], flags=re.MULTILINE)
    content[0] = _LINK.sub(replaced, content[0])


_LITERAL = re.compile(r"(?<![`:\w])`([^`\n]+)`(?![`_])")


def _in_block(lines: list[str], number: int) -> bool:
    """Whether the nearest line above that is not set in is the mark of a literal block."""
    above = (line for line in reversed(lines[:number]) if line and not line.startswith("    "))
    return next(above, "") == "::"


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turns code of docstrings into literals: `x`, and paragraphs that are set in."""
    for number in range(len(lines) - 1, 1, -1):
        above = lines[number - 2]
        if lines[number].startswith("    ") and not lines[number - 1] and above[:1].strip():
            lines[number:number] = ["::", ""]
    for number, line in enumerate(lines):
        if line.startswith("    ") and _in_block(lines, number):
            continue
        # a norm's bars are no substitution
        parts = re.split(r"(``.*?``)", _LITERAL.sub(r"``\1``", line))
        lines[number] = "".join(
            part if part.startswith("``") else part.replace("|", r"\|") for part in parts
        )


def _mathml(writer: Any, node: Any) -> None:
    """A formula in LaTeX as MathML."""
    if isinstance(node, nodes.math_block):
        formula = convert(node.astext(), display="block")
        # without room above and below, the theme shows scroll bars beside tall formulas
        writer.body.append(f'<div style="padding-block: 0.7em">{formula}</div>')
    else:
        writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


# what a browser fetches by itself; a link may lead anywhere
_FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^>]*>"
)


def _check_offline(app: Any, error: Exception | None) -> None:
    """No page loads anything from the network."""
    for page in Path(app.outdir).rglob("*.html") if error is None else ():
        if found := _FETCHED.search(page.read_text(encoding="utf-8")):
            raise ExtensionError(f"{page}: fetches from the network: {found[0]}")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("build-finished", _check_offline)
    app.connect("source-read", _added, priority=400)
    app.connect("source-read", _outside)
    app.connect("autodoc-process-docstring", _docstring, priority=100)
