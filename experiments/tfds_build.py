"""TFDS's own `tfds build`, for machines without TensorFlow, which the `tfds` program asks for before it starts.

Examples:
  python -m experiments.tfds_build data/hmdb51 --config=video --manual_dir=hmdb51 --data_dir=records
  python -m experiments.tfds_build data/video_folder --manual_dir=my_videos --data_dir=records

Takes every flag of `tfds build`; the builders are the same. `experiments.build_data` does more: it measures storages,
adds lists, checks, and goes on after an interruption.
"""

import sys

from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils

from vtd_jax.errors import UserError


def main(arguments: build.Args) -> None:
    """Runs the command; bad input ends in one line and status 2."""
    try:
        arguments.execute()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=cli_utils.make_flags_parser(build.Args, description=__doc__))
