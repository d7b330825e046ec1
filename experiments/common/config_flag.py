"""The `--config` flag: a config file or a run's saved config; `--config.FIELD=…` sets a field."""

import difflib
import re
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments.common.command_line import OfFile, Whole
from experiments.configs._base import locked
from vtd_jax.console.consent import note_saved
from vtd_jax.errors import UserError
from vtd_jax.fields import close_fields, described, flatten
from vtd_jax.model.saved.tuned import SUFFIX, read_tuned
from vtd_jax.terminal import columns_of_terminal, counted, show_entries, show_table
from vtd_jax.train.config import CONFIG_FILE, RunConfig, former_field, no_such_field
from vtd_jax.train.learnt import exported_config
from vtd_jax.train.workdir import config_file

_CONFIGS = Path(__file__).parents[1] / "configs"
# files of these suffixes are data: nothing in them is executed, and they take no arguments
_SAVED = (".json", SUFFIX)
# columns of a terminal that type, value and meaning need beside the longest name of a field
_BESIDE = 60


def shipped() -> list[str]:
    """Names of the configs that are part of this package."""
    return sorted(path.stem for path in _CONFIGS.glob("[!_]*.py"))


_HELP = (
    "config by name, NAME:ARGS with NAME one of "
    f"{', '.join(shipped())}; or a file, FILE.py:ARGS "
    "or a saved .json; change a field with --config.group.field=value"
)


class ConfigParser(flags.ArgumentParser):
    """Reads `NAME:ARGS`, `FILE.py:ARGS`, a `.json` or an exported model; checks overridden
    fields.
    """

    def __init__(self, inner: flags.ArgumentParser):
        self.inner, self.syntactic_help = inner, inner.syntactic_help

    def parse(self, argument: str) -> Any:
        argument = located(argument)
        file = config_path(argument)
        if not file.is_file():
            raise UserError(_unknown(file))
        if file.suffix not in _SAVED and ":" in str(file):
            raise UserError(
                "a config file's path cannot have a : in it, what follows one are arguments; "
                "move the file"
            )
        config = _read_saved(file) if file.suffix in _SAVED else self._load(argument)
        known = list(flatten(config.to_dict()))
        for override in re.findall(r"(?m)^--?(?:no)?config\.([\w.]+)", "\n".join(sys.argv[1:])):
            if override not in known and not any(
                field.startswith(f"{override}.") for field in known
            ):
                raise Whole(no_such_field(override, known))
        return config

    def _load(self, argument: str) -> ConfigDict:
        """The config of a config file; its errors are raised without ml_collections' traceback."""
        try:
            return self.inner.parse(argument)
        except Exception as error:
            # the innermost error: ml_collections wraps it in text about the file
            cause, reported = error, error
            while cause is not None:
                reported = cause if isinstance(cause, UserError) else reported
                cause = cause.__cause__ or cause.__context__
            # for a renamed field, ml_collections says only that the config is locked
            former = isinstance(reported, AttributeError | KeyError) and former_field(str(reported))
            raise (UserError(former) if former else reported) from None


def define(name: str = "config") -> flags.FlagHolder:
    """Defines the flag; its value is a locked `ConfigDict`, or None by default."""
    holder = config_flags.DEFINE_config_file(name, None, _HELP, lock_config=True)
    flags.FLAGS[name].parser = ConfigParser(flags.FLAGS[name].parser)
    flags.DEFINE_bool(
        "print_config",
        False,
        "print every field of --config with its type, value and meaning, then exit",
    )
    return holder


def fields_like(name: str) -> list[str]:
    """Full names of the config fields that a flag without `config.` may have meant."""
    return close_fields(name, described(RunConfig))


def show_fields() -> None:
    """Prints the fields of the config as the command line set them."""
    known = described(RunConfig)
    rows = []
    for field, value in flatten(flags.FLAGS["config"].value.to_dict()).items():
        # the names of splits come from the config: describe the group instead
        about = known[field if field in known else field.rpartition(".")[0]]
        text = value if value and isinstance(value, str) else repr(value)
        rows.append((field, about.kind, text, about.help))
    title = f"{filename()}: {counted(len(rows), 'field')}; set any with --config.FIELD=VALUE"
    width = columns_of_terminal()
    if width is not None and width < _BESIDE + max(len(row[0]) for row in rows):
        entries = [(f"{field} = {value}", f"{kind}: {text}") for field, kind, value, text in rows]
        show_entries(title, entries)
    else:
        show_table(title, ("field", "type", "value", "meaning"), rows, whole=("field",))


def read_json(path: Path) -> ConfigDict:
    """The locked config of a run or an exported model; fields it lacks get their defaults."""
    return locked(
        exported_config(read_tuned(path), path) if path.suffix == SUFFIX else config_file(path)
    )


def _read_saved(path: Path) -> ConfigDict:
    """As `read_json`; an error names the file instead of the flag."""
    try:
        config = read_json(path)
    except UserError as error:
        raise OfFile(str(error)) from None
    # consent to download is for what the command line names, not for what a file says
    if not re.search(r"(?m)^--?config\.clip\.path\b", "\n".join(sys.argv[1:])):
        note_saved(path, config.to_dict()["clip"]["path"])
    return config


def located(argument: str) -> str:
    """`--config` with the file of a shipped config in the place of its name.

    `base_to_novel:ARGS` is the file `experiments/configs/base_to_novel.py:ARGS`, which is found
    where the commands are when it is not in the current folder. Everything else stays as it is.
    """
    name, colon, arguments = argument.partition(":")
    path = Path(name)
    bare = path.stem in shipped() and name in (path.stem, path.name)
    in_checkout = path.parent == Path("experiments/configs") and path.stem in shipped()
    if (bare and not (path.suffix and path.is_file())) or (in_checkout and not path.is_file()):
        return f"{_CONFIGS / path.stem}.py{colon}{arguments}"
    return argument


def _unknown(file: Path) -> str:
    """What is wrong with a config that is not there: a misspelt name, or a file."""
    name, known = str(file).partition(":")[0], shipped()
    if file.suffix or "/" in name:
        return f"no such file; give one, or a config by name: {', '.join(known)}"
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}? There are " if close else "there are "
    return f"no such config; {meant}{', '.join(known)}, and files FILE.py:ARGS"


def config_path(argument: str) -> Path:
    """The file that `--config` names, without its `:ARGS`."""
    argument = located(argument)
    file, arguments, _ = argument.partition(".py:")
    # the arguments may end like saved settings: FILE.py:some.json is a .json only if it exists
    whole = not arguments or (argument.endswith(_SAVED) and Path(argument).is_file())
    return Path(argument.removesuffix(":") if whole else f"{file}.py")


def use_saved() -> None:
    """Defaults `--config` to an exported `--checkpoint`, else to the config of `--workdir`.

    Call it before flags are parsed.
    """
    checkpoint, workdir = argument("checkpoint") or "", argument("workdir")
    own = Path(checkpoint) if checkpoint.endswith(SUFFIX) else Path(workdir or "") / CONFIG_FILE
    if argument("config") is None and (workdir or own.suffix == SUFFIX) and own.is_file():
        sys.argv.insert(1, f"--config={own}")


def overrides() -> dict[str, Any]:
    """Full field name -> value, of the fields that the command line set."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def filename() -> str:
    """The value of `--config` as written."""
    return config_flags.get_config_filename(flags.FLAGS["config"])


def given_file() -> tuple[str, Path | None]:
    """The file of `--config` as `check_outputs` takes it: flag and path, None without one."""
    file = None if flags.FLAGS["config"].value is None else config_path(filename())
    return f"--config={file}", file


def argument(name: str) -> str | None:
    """The value of a flag on the command line, before flags are parsed."""
    found = None
    for i, item in enumerate(sys.argv[1:], 1):
        key, equals, value = item.lstrip("-").partition("=")
        if item.startswith("-") and key == name:
            found = value if equals else next(iter(sys.argv[i + 1 : i + 2]), None)
    return found
