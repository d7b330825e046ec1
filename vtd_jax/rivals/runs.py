"""The settings of a run that evaluates a rival: its model, its frames' scaling, our videos."""

import dataclasses
import os

from vtd_jax.errors import UserError
from vtd_jax.rivals.files import read_settings
from vtd_jax.train.config import RunConfig


def rival_run(config: RunConfig, path: str | os.PathLike, name: str) -> RunConfig:
    """A config that evaluates a rival's file on the videos and names of another config.

    Model and scaling of the frames are the rival's; videos, frames, views and CLIP the config's.

    Args:
      config: whose videos are evaluated.
      path, name: as for `read_settings`.

    Raises:
      UserError: as `read_settings`; or the config has templates, which the rival's would replace.
    """
    if config.model.templates:
        raise UserError(
            f"config {config.name}: its {len(config.model.templates)} templates are for zero-shot "
            f"CLIP, but {path} has texts of its own; leave templates=… out"
        )
    data = dataclasses.replace(
        config.data, train="", preprocess="release", stored_views=0, features=""
    )
    model = read_settings(path, name)
    return dataclasses.replace(config, shots=0, model=model, data=data)
