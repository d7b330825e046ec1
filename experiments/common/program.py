"""How the running command was started, and so how messages and help name commands.

By `vtd predict` or by `python -m experiments.predict`: the same code. Nothing here imports JAX.
"""

import re
import shlex
import sys
from pathlib import Path

from vtd_jax.errors import UserError
from vtd_jax.installed import extras

FOLDER = Path(__file__).resolve().parents[1]
# beside the data sets' builders: the table of copies whose fingerprints have names
KNOWN_COPIES = FOLDER.parent / "data" / "fingerprints.csv"
# command -> extras without which it does nothing
NEEDS = {
    "aot": ("train",),
    "app": ("app",),
    "build_data": ("data",),
    "demo": ("train", "figures"),
    "evaluate": ("train",),
    "reproduce": ("train", "figures"),
    "show_batch": ("train", "figures"),
    "tfds_build": ("data",),
    "train": ("train",),
    "vote_study": ("train",),
}
_SERVER = re.compile(r"https?://\S+", re.IGNORECASE)
_by_vtd = False


def started_by_vtd() -> None:
    """Messages say `vtd NAME` from now on."""
    global _by_vtd
    _by_vtd = True


def is_vtd() -> bool:
    """Whether messages say `vtd NAME`."""
    return _by_vtd


def commands() -> dict[str, Path]:
    """Name of each command, as a module, and its file; in alphabetical order."""
    files = {path.stem: path for path in FOLDER.glob("[a-z]*.py")}
    files |= {path.parent.name: path for path in FOLDER.glob("[a-z]*/__main__.py")}
    return dict(sorted(files.items()))


def running() -> str:
    """The module of the running command, such as `build_data`; "" for another program."""
    file = Path(sys.argv[0])
    name = file.parent.name if file.name == "__main__.py" else file.stem
    return name if FOLDER in file.resolve().parents and name in commands() else ""


def dashed(name: str) -> str:
    """A command's name as `vtd` lists it."""
    return name.replace("_", "-")


def spelled(name: str) -> str:
    """What a user types for a command, given as a module: `python -m experiments.build_data`."""
    return f"vtd {dashed(name)}" if _by_vtd else f"python -m experiments.{name}"


def line() -> str:
    """The command line of the running command, for a record of what was run.

    Addresses are without passwords and keys: records are passed on.
    """
    # ssl and others, which most commands do not need
    from vtd_jax.installed.transport import shown_url

    given = [_SERVER.sub(lambda found: shown_url(found[0]), one) for one in sys.argv[1:]]
    return shlex.join([*spelled(running()).split(), *given])


def config(name: str) -> str:
    """A shipped config as a user types it, with or without arguments behind a colon."""
    stem, colon, arguments = name.partition(":")
    return name if _by_vtd else f"experiments/configs/{stem}.py{colon}{arguments}"


def respelled(text: str) -> str:
    """Our own text, such as a docstring, with commands and configs as this program spells them."""
    if not _by_vtd:
        return text
    names = "|".join(commands())
    text = re.sub(
        rf"(?:python -m )?\bexperiments\.({names})\b", lambda found: spelled(found[1]), text
    )
    return re.sub(r"\bexperiments/configs/([a-z]\w*)\.py\b", r"\1", text)


def lacking(error: ModuleNotFoundError, command: str) -> str | None:
    """The line about an import of a command that failed for want of an extra; None for any other
    import.
    """
    found = extras.missing(error.name or "", NEEDS.get(command, ()))
    return found and f"{spelled(command)} needs {found}"


def check_needs() -> None:
    """Refuses to begin where an extra of the running command is missing.

    Raises:
      UserError: names the command, the package and the extra.
    """
    command = running()
    if wanted := NEEDS.get(command, ()):
        module = extras.lacking(wanted)
        if module is not None:
            raise UserError(f"{spelled(command)} needs {extras.missing(module, wanted)}")
