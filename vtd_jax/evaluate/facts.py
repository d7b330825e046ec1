"""What programs read of a table: fields of its `.json`, beside the text below the table, which is
for people.
"""

import re
from collections.abc import Mapping
from typing import Any, TypedDict

from vtd_jax.untrusted.json_text import Count

FACTS = "facts"
UNKNOWN = "not known"
# how earlier versions, whose tables have no facts, said of a list where it comes from
_ORIGINS = {"(official list": "official", "(given list": "given", "own split": "own split"}


class Facts(TypedDict):
    """What a table of a run is of.

    Attributes:
      step: of the run's checkpoint; None where another file, or nothing, was learnt.
      views: temporal and spatial views of a video; None where it is not known.
      training: origin of the training list; "" where nothing was learnt.
      lists: split -> origin of its list: "official", "given", "own split" or "not known".
    """

    step: Count | None
    views: tuple[Count, Count] | None
    training: str
    lists: dict[str, str]


def facts_of(saved: Mapping[str, Any]) -> Facts:
    """The facts of a table, as `outputs.read_table` gives it; of tables of earlier versions what
    their text says.
    """
    return saved[FACTS] if FACTS in saved else _of_text(saved["about"])


def _of_text(about: Mapping[str, Any]) -> Facts:
    """Only for files of earlier versions: nothing else may be read off text."""
    step = re.search(r"step (\d{1,15})", str(about.get("learnt", "")))
    views = re.fullmatch(r"(\d{1,9}) temporal × (\d{1,9}) spatial", str(about.get("views", "")))
    lists = about.get("lists")
    lists = lists if isinstance(lists, Mapping) else {}
    return Facts(
        step=int(step[1]) if step else None,
        views=(int(views[1]), int(views[2])) if views else None,
        training=_origin(about["training list"]) if "training list" in about else "",
        lists={split: _origin(told) for split, told in lists.items()},
    )


def _origin(told: Any) -> str:
    return next((origin for text, origin in _ORIGINS.items() if text in str(told)), UNKNOWN)
