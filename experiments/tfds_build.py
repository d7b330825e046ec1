"""TFDS's `tfds build` for machines without TensorFlow, which the `tfds` program imports.

Examples:
  python -m experiments.tfds_build data/hmdb51 --config=video --manual_dir=hmdb51 --data_dir=records
  python -m experiments.tfds_build data/video_folder --manual_dir=my_videos --data_dir=records

Takes every flag of `tfds build`; the builders are the same, and data/NAME are those of this
project. `experiments.build_data` does more: it measures storages, adds lists, checks, and resumes
after an interruption.
"""

import dataclasses
import sys
from pathlib import Path

from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils

from experiments.common import program
from experiments.common.command_line import steady_output, version
from experiments.common.spelling import flag_names
from vtd_jax.errors import UserError, named_by
from vtd_jax.terminal import say

# TFDS's flags that our messages name
_FLAGS = ("data_dir", "overwrite")


def main(arguments: build.Args) -> None:
    """Runs the command; bad input ends in one line and status 2."""
    try:
        with named_by(flag_names(_FLAGS)):
            given = list(map(located, [*arguments.positional_datasets, *arguments.datasets]))
            dataclasses.replace(arguments, positional_datasets=given, datasets=[]).execute()
    except UserError as error:
        say(f"error: {error}", sys.stderr)
        sys.exit(2)


def located(dataset: str) -> str:
    """`data/NAME` where the builders are, if the current folder has none; others stay."""
    path = Path(dataset)
    ours = program.FOLDER.parent / path
    return (
        str(ours)
        if path.parent == Path("data") and ours.is_dir() and not path.exists()
        else dataset
    )


if __name__ == "__main__":
    steady_output()
    if "--version" in sys.argv[1:]:
        print(version())
        sys.exit(0)
    app.run(
        main,
        flags_parser=cli_utils.make_flags_parser(
            build.Args, description=program.respelled(__doc__ or "")
        ),
    )
