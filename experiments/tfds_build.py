"""TFDS's `tfds build` for machines without TensorFlow, which the `tfds` program imports.

Examples:
  python -m experiments.tfds_build data/hmdb51 --config=video --manual_dir=hmdb51 --data_dir=records
  python -m experiments.tfds_build data/video_folder --manual_dir=my_videos --data_dir=records

Takes every flag of `tfds build`; the builders are the same. `experiments.build_data` does more: it
measures storages, adds lists, checks, and resumes after an interruption.
"""

import sys

from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils

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
            arguments.execute()
    except UserError as error:
        say(f"error: {error}", sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    steady_output()
    if "--version" in sys.argv[1:]:
        print(version())
        sys.exit(0)
    app.run(main, flags_parser=cli_utils.make_flags_parser(build.Args, description=__doc__))
