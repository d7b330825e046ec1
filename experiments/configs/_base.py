"""What every protocol's config shares: the fields of a run, and the reading of `FILE.py:ARGS`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from vtd_jax.errors import UserError
from vtd_jax.train.config import RunConfig
from vtd_jax.train.groups import DataConfig


def read_args(
    text: str, *, usage: str, needed: str = "", **known: Callable[[str], Any]
) -> dict[str, Any]:
    """Reads `name,key=value,…`, the part of a config's path after the colon.

    Args:
      text: that part; the first item may come without its key.
      usage: what the error says was expected.
      needed: a key that must be there.
      **known: key -> converter of its value; the first key is the one that may be left out.

    Raises:
      UserError: an unknown key, a value that the converter refuses, or the needed key is missing.
    """
    first, found = next(iter(known), ""), {}
    for place, item in enumerate(filter(None, text.split(","))):
        key, equals, value = item.partition("=")
        if not equals and place == 0:
            key, value = first, item
        if key not in known or not value:
            raise UserError(f"config argument {item!r} is not known, expected {usage}")
        try:
            found[key] = known[key](value)
        except UserError:
            raise
        except (ValueError, KeyError) as error:
            raise UserError(
                f"config argument {item!r}: {_plain(error)}; expected {usage}"
            ) from None
    if needed and needed not in found:
        raise UserError(f"config argument {needed} is missing: expected {usage}")
    return found


def _plain(error: Exception) -> str:
    """What a converter says, in words for people."""
    return "is no whole number" if "invalid literal for int()" in str(error) else str(error)


def one_of(*allowed: str) -> Callable[[str], str]:
    """A converter for `read_args` that admits these words only."""

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return convert


def locked(run: RunConfig) -> ConfigDict:
    """The fields of a run, to be changed by a config file or by flags; a misspelt one is an error.

    Tuples stay tuples, so that a flag can replace them.
    """
    # not `DEFINE_config_dataclass`: it sets fields one by one, which frozen dataclasses refuse, and
    # has no `FILE.py:ARGS`
    return ConfigDict(dataclasses.asdict(run)).lock()


def base_config(
    *,
    name: str,
    protocol: str,
    data_dir: str,
    train: str,
    evaluate: Mapping[str, str],
    shots: int = 0,
) -> ConfigDict:
    """The release's settings that no protocol changes, locked: the defaults of `RunConfig`.

    Args:
      name: of the run, in tables.
      protocol: "base_to_novel", "few_shot", "zero_shot" or "fully_supervised".
      data_dir: what `experiments.build_data --data_dir` wrote, or the folder of a data set in it.
      train: name of the training list there; "" where nothing is learnt.
      evaluate: split -> name of its list.
      shots: training videos a class, 0 for all; only told in tables.
    """
    data = DataConfig(data_dir=data_dir, train=train, evaluate=dict(evaluate))
    return locked(RunConfig(name=name, protocol=protocol, shots=shots, data=data))


def prompts(config: ConfigDict, count: int, depth: int) -> None:
    """Sets `count` prompts in `depth` layers of both towers, and has the backward pass compute
    blocks again.

    With visual prompts, gradients go through the image tower: what it keeps for them fills an
    accelerator's memory.
    """
    config.memory.remat = "block"
    config.model.update(
        text_prompts=count, text_depth=depth, visual_prompts=count, visual_depth=depth
    )


def nothing_learnt(config: ConfigDict) -> None:
    """Bare class names, no prompts, no fusion: CLIP as it is."""
    config.model.update(
        text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False, dropout=0.0
    )
