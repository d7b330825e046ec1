"""What every command does with its command line: help, version, config fields listed, and errors in
one clear line.
"""

import contextlib
import io
import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata

from absl import flags

import vtd_jax
from experiments.common import program
from vtd_jax.errors import UserError
from vtd_jax.printable import shown

# absl's message about a bad value -> ours
_WORDS = (
    (r"invalid literal for int\(\).*", "expected a whole number"),
    (r"could not convert string to float.*", "expected a number"),
    (r".*Non-boolean argument.*", "expected true or false"),
    (
        r"value should be one of <(.*)>",
        lambda found: f"expected one of {found[1].replace('|', ', ')}",
    ),
    (r"\S+ is not (an? .*?) in the range \[(.*), (.*)\]", r"expected \1 from \2 to \3"),
    (r"\S+ is not (an? .*)", r"expected \1"),
    (
        r"Failed to parse .* as a ConfigDict.*",
        "is a group of fields; set one of them, --print_config lists all",
    ),
)
_STDERR = 2


class Whole(UserError):
    """An error of a flag's parser whose message is complete without the flag's name.

    Attributes:
      see_help: whether the message points to `--help`.
    """

    see_help = True


class OfFile(Whole):
    """A bad file of settings. The message names the file, which no flag may have named."""

    see_help = False


class _Outlet(io.FileIO):
    """A pipe whose reader may leave, as `| head` does: later output is dropped, the work continues.

    On a full disk the first write to stdout fails with a named error; later output is dropped.
    """

    def write(self, data) -> int:
        """Writes or drops all of `data`."""
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError) or self.fileno() == _STDERR:
                return len(data)
            raise OSError(error.errno, error.strerror, "standard output") from None


def steady_output() -> None:
    """Makes stdout and stderr accept every character and outlive the reader of a pipe."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            # closed, or replaced by a test
            continue
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        pipe = io.BufferedWriter(_Outlet(stream.fileno(), "w", closefd=False))
        steady = io.TextIOWrapper(
            pipe, stream.encoding, "backslashreplace", line_buffering=name == "stderr"
        )
        setattr(sys, name, steady)


def parse(argv: Sequence[str]) -> list[str]:
    """Parses the flags; returns the program's name and the positional arguments.

    `-h` is `--help`, `--version` prints versions, `--print_config` the fields of `--config`; all
    three exit with status 0. A bad flag or config field is one line and status 2.
    """
    items = [*argv[:1], *("--help" if item == "-h" else item for item in argv[1:])]
    if "--version" in items[1:]:
        print(version())
        sys.exit(0)
    if "--help" in items[1:]:
        _show_help()
    try:
        rest = flags.FLAGS(items)
    except flags.Error as error:
        if _wants_listing() and "must have a value other than None" in str(error):
            _list_config()
        _refuse(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _refuse(error)
    except SystemExit:
        # absl exits with 1 after its help
        sys.stdout.flush()
        sys.exit(0)
    if _wants_listing():
        _list_config()
    for name in ("workdir", "out", "data_dir", "report", "json", "csv", "figures"):
        # an unset shell variable would silently mean the current folder
        if name in flags.FLAGS and flags.FLAGS[name].value == "":
            _refuse(flags.Error(f"flag --{name}=: is empty, expected {_meaning(name)}"))
    return rest


def _show_help() -> None:
    """Prints the command's docstring and its own flags, and exits; absl's own are in --helpfull."""
    # the first line is the path of the module
    _, _, own = flags.FLAGS.main_module_help().strip().partition("\n")
    print(f"{(sys.modules['__main__'].__doc__ or '').rstrip()}\n\nflags:\n")
    print(f"{program.respelled(own)}\n\nTry --helpfull to get a list of all flags.")
    sys.stdout.flush()
    sys.exit(0)


def version() -> str:
    """Our version, and those of the libraries that results depend on most."""
    versions = [f"Python {platform.python_version()}"]
    for name in ("jax", "flax", "numpy", "av"):
        # `benchmark --what=device` runs without some of them
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return f"vtd_jax {vtd_jax.__version__} ({', '.join(versions)})"


def describe(error: BaseException) -> str:
    """A parsing error of absl or a config file in plain words; it may be about several flags.

    absl raises one type for every mistake, so only its text tells them apart, here and in `_WORDS`.
    """
    if (own := _own(error)) is not None:
        return str(own)
    message = " ".join(str(error).split())
    lacking = re.findall(r"Flag --(\w+) must have a value other than None", message)
    if lacking:
        return "; ".join(f"--{name} is missing: {_meaning(name)}" for name in lacking)
    if unknown := re.match(
        r"Unknown command line flag '(.*?)'(?:\. Did you mean: (.*?) \?)?$", message
    ):
        return _unknown(unknown[1], unknown[2])
    if without := re.match(r"Missing value for flag (\S+)", message):
        return f"{without[1]}: a value is missing, expected {without[1]}=VALUE"
    if about := re.match(r"flag (--[\w.]+=.*?): (.*)$", message):
        return f"{about[1]}: {_plain(about[2])}"
    return message


def _meaning(name: str) -> str:
    """A flag's line in the help."""
    return program.respelled(flags.FLAGS[name].help or "")


def _own(error: BaseException) -> Whole | None:
    """The error that our parser raised; absl wraps it in its own."""
    return next((one for one in (error, error.__context__) if isinstance(one, Whole)), None)


def _plain(reason: str) -> str:
    for pattern, words in _WORDS:
        if re.fullmatch(pattern, reason):
            return re.sub(pattern, words, reason, count=1)
    return reason


def _unknown(name: str, close: str | None) -> str:
    """Message about an unknown flag; most often it is a config field without its `config.`."""
    if "config" in flags.FLAGS:
        from experiments.common.config_flag import fields_like

        if fields := fields_like(name):
            return (
                f"unknown flag --{name}: did you mean "
                f"{', '.join(f'--config.{field}' for field in fields)}?"
            )
    means = f": did you mean {', '.join(f'--{one}' for one in close.split(', '))}?" if close else ""
    return f"unknown flag --{name}{means}"


def _refuse(error: Exception) -> None:
    own = _own(error)
    see = "; see --help" if own is None or own.see_help else ""
    print(f"error: {shown(describe(error))}{see}", file=sys.stderr)
    sys.exit(2)


def _wants_listing() -> bool:
    return "print_config" in flags.FLAGS and bool(flags.FLAGS["print_config"].value)


def _list_config() -> None:
    from experiments.common.config_flag import show_fields

    if flags.FLAGS["config"].value is None:
        _refuse(
            flags.Error(
                "--print_config: give --config=NAME:ARGS too, whose fields are to be printed"
            )
        )
    show_fields()
    sys.stdout.flush()
    sys.exit(0)
