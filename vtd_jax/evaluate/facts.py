"""Fields of a table's `.json` for programs, beside the lines of text for people."""

import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from vtd_jax.untrusted.json_text import Count
from vtd_jax.video.copies.data_copy import DataCopy

FACTS = "facts"
UNKNOWN = "not known"
# origins of lists in the text of earlier versions, whose tables have no facts
_ORIGINS = {"(official list": "official", "(given list": "given", "own split": "own split"}


class Facts(TypedDict):
    """What the numbers of a run's table are of.

    Attributes:
      step: of the run's checkpoint; None for another file, or if nothing was learnt.
      views: temporal and spatial views of a video; None if unknown.
      training: origin of the training list; "" if nothing was learnt.
      lists: split -> origin of its list: "official", "given", "own split" or "not known".
      data: split -> the copy of the data; tables of earlier versions have none.
    """

    step: Count | None
    views: tuple[Count, Count] | None
    training: str
    lists: dict[str, str]
    data: NotRequired[dict[str, DataCopy]]


def facts_of(saved: Mapping[str, Any]) -> Facts:
    """The facts of a table of `outputs.read_table`; for earlier versions, parsed from its text."""
    return saved[FACTS] if FACTS in saved else _of_text(saved["about"])


def _of_text(about: Mapping[str, Any]) -> Facts:
    """For files of earlier versions only: no other text is parsed."""
    step = re.search(r"step (\d{1,15})", str(about.get("learnt", "")))
    views = re.fullmatch(r"(\d{1,9}) temporal × (\d{1,9}) spatial", str(about.get("views", "")))
    lists = about.get("lists")
    lists = lists if isinstance(lists, Mapping) else {}
    return Facts(
        step=int(step[1]) if step else None,
        views=(int(views[1]), int(views[2])) if views else None,
        training=_origin(about["training list"]) if "training list" in about else "",
        lists={split: _origin(text) for split, text in lists.items()},
    )


def _origin(text: Any) -> str:
    return next((origin for mark, origin in _ORIGINS.items() if mark in str(text)), UNKNOWN)
