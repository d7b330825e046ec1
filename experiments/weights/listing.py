"""The table of weights that have a name of their own."""

from pathlib import Path

from experiments.common import program
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.hub.names import OF_OPEN_CLIP, TINY
from vtd_jax.clip.hub.open_clip import OPEN_CLIP
from vtd_jax.clip.hub.openai import OPENAI
from vtd_jax.clip.hub.resolve import held
from vtd_jax.clip.weights.checkpoints import TINY_CLIP
from vtd_jax.console.consent import amount
from vtd_jax.errors import UserError
from vtd_jax.terminal import counted, show_table

COLUMNS = ("name", "here", "size", "activation", "from")


def show_list() -> str:
    """Prints the table; returns a line about it."""
    size = amount(TINY_CLIP.stat().st_size)
    rows = [(TINY, "yes", size, CLIPConfig.named(TINY).activation, "this package")]
    for name, one in OPENAI.items():
        here = _held(f"openai:{name}")
        size = f"about {amount(one.about_bytes)}" if here is None else _size(here)
        rows.append((name, _shown(here), size, "quick_gelu", "OpenAI"))
    for name, row in OPEN_CLIP.items():
        here = _held(f"{OF_OPEN_CLIP}{name}")
        size = "" if here is None else _size(here)
        place = f"hf:{row.repository}"
        rows.append((f"{OF_OPEN_CLIP}{name}", _shown(here), size, row.activation, place))
    title = "weights by name; any other of the Hugging Face Hub is hf:ORG/MODEL[@REVISION][/FILE]"
    show_table(
        title, COLUMNS, rows, numbers=("size",), whole=("name", "here"), less=("from", "activation")
    )
    present = sum(row[1] == "yes" for row in rows)
    weights = program.spelled("weights")
    return (
        f"{counted(len(rows), 'name')}, {present} on this machine; {weights} get NAME downloads "
        f"one, {weights} where NAME prints its path"
    )


def _held(name: str) -> Path | str | None:
    try:
        return held(name)
    except UserError:
        # get says how; the list continues
        return "damaged"


def _size(here: Path | str) -> str:
    return amount(Path(here).stat().st_size) if isinstance(here, Path) else ""


def _shown(here: Path | str | None) -> str:
    return "no" if here is None else "damaged" if isinstance(here, str) else "yes"
