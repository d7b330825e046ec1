"""The finished runs of a study, in one file that is replaced after every data set."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from vtd_jax.errors import UserError, setting
from vtd_jax.files import write_text
from vtd_jax.untrusted.json_text import Count, read_json

FILE = "runs.json"
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
# all that `Run` has beside its key
FIGURES = ("base", "novel", "HM", "token_right", "token_of_one", "both_right", "tied")


class Run(TypedDict):
    """One training, evaluated: what it was of, and `training.Measured`.

    `rule` is the one that it learnt with, `evaluated` the one that it was evaluated with.
    """

    condition: str
    rule: str
    evaluated: str
    seed: Count
    base: _Share
    novel: _Share
    HM: _Share
    token_right: _Share
    token_of_one: _Share
    both_right: _Share
    tied: _Share


class Study(TypedDict):
    """The file: how the runs were made, and the runs.

    `made` has what a run depends on beside its key: versions and device.
    """

    made: dict[str, str]
    runs: list[Run]


def read_study(path: Path) -> Study:
    """Reads a file of `write_study`.

    Raises:
      UserError: it is missing, damaged, or has a run twice.
    """
    study = read_json(path, Study, what="file of a study")
    keys = [key_of(run) for run in study["runs"]]
    if len(set(keys)) < len(keys):
        raise UserError(f"{path}: a run is there twice")
    return study


def begun(path: Path, made: dict[str, str]) -> list[Run]:
    """The runs of a study to resume; none where there is no file.

    Raises:
      UserError: the file cannot be read, or its runs were made otherwise.
    """
    if not path.exists():
        return []
    study = read_study(path)
    if study["made"] != made:
        differs = [
            key for key in {*made, *study["made"]} if study["made"].get(key) != made.get(key)
        ]
        raise UserError(
            f"{path}: its runs were made with another {', '.join(sorted(differs))}; give another "
            f"folder as {setting('workdir')}"
        )
    return study["runs"]


def write_study(path: Path, made: dict[str, str], runs: Iterable[Run]) -> None:
    """Writes the file whole or not at all, a run a line."""
    lines = ",\n".join(msgspec.json.encode(dict(run)).decode() for run in runs)
    head = msgspec.json.encode(made).decode()
    write_text(path, f'{{"made": {head},\n"runs": [\n{lines}\n]}}\n')


def key_of(run: Run) -> tuple[Any, ...]:
    """What a run is of."""
    return run["condition"], run["rule"], run["evaluated"], run["seed"]
