"""Shared by all config files: the fields of a run, and the parser of `FILE.py:ARGS`."""

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
      usage: the expected form, for errors.
      needed: a key that must be there.
      **known: key -> converter of its value; the first key is the one that may be left out.

    Raises:
      UserError: an unknown key, a value that the converter refuses, or the needed key is missing.
    """
    first, found = next(iter(known), ""), {}
    for i, item in enumerate(filter(None, text.split(","))):
        key, equals, value = item.partition("=")
        if not equals and i == 0:
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
    """A converter's error without Python's terms."""
    return "is no whole number" if "invalid literal for int()" in str(error) else str(error)


def one_of(*allowed: str) -> Callable[[str], str]:
    """A converter for `read_args` that accepts these words only."""

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return convert


def locked(run: RunConfig) -> ConfigDict:
    """The fields of a run for config files and flags; locked, so a misspelt one is an error."""
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
) -> Any:
    """A locked `ConfigDict` of the release's settings that no protocol changes.

    Args:
      name: of the run, in tables.
      protocol: "base_to_novel", "few_shot", "zero_shot" or "fully_supervised".
      data_dir: what `experiments.build_data --data_dir` wrote, or the folder of a data set in it.
      train: name of the training list there; "" where nothing is learnt.
      evaluate: split -> name of its list.
      shots: training videos a class, 0 for all; printed in tables, without other effect.
    """
    # typed Any, because type checkers cannot see the fields of a ConfigDict
    data = DataConfig(data_dir=data_dir, train=train, evaluate=dict(evaluate))
    return locked(RunConfig(name=name, protocol=protocol, shots=shots, data=data))


def prompts(config: Any, count: int, depth: int) -> None:
    """Sets `count` prompts in `depth` layers of both towers."""
    config.model.update(
        text_prompts=count, text_depth=depth, visual_prompts=count, visual_depth=depth
    )


def nothing_learnt(config: Any) -> None:
    """Plain CLIP: no prompts, no fusion."""
    config.model.update(
        text_prompts=0, text_depth=0, visual_prompts=0, visual_depth=0, fusion=False, dropout=0.0
    )
