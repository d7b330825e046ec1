"""Published numbers for CLIP with ViT-B/16 at 224 px, with their sources."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vtd_jax.errors import UserError

# protocol -> columns of a row, in the order below
COLUMNS = {
    "base_to_novel": ("base", "novel", "HM"),
    "few_shot": ("2", "4", "8", "16"),
    "zero_shot": ("top-1", "top-5"),
    "fully_supervised": ("top-1", "top-5"),
}

# the paper of each method; notes say where a later one printed the numbers
_PAPERS = {
    "CLIP, class names": "CLIP, arXiv 2103.00020 (ICML 2021)",
    "ActionCLIP": "ActionCLIP, arXiv 2109.08472",
    "X-CLIP": "X-CLIP, arXiv 2208.02816 (ECCV 2022)",
    "ViFi-CLIP": "ViFi-CLIP, arXiv 2212.03640 (CVPR 2023)",
    "ViFi-CLIP prompts": "ViFi-CLIP, arXiv 2212.03640 (CVPR 2023)",
    "Open-VCLIP": "Open-VCLIP, arXiv 2302.00624 (ICML 2023)",
    "FROSTER": "FROSTER, arXiv 2402.03241 (ICLR 2024)",
    "TC-CLIP": "TC-CLIP, arXiv 2404.09490 (ECCV 2024)",
    "Vita-CLIP": "Vita-CLIP, arXiv 2304.03307 (CVPR 2023)",
    "VTD-CLIP": "VTD-CLIP, arXiv 2503.18407 (AAAI 2026)",
}
_NO_TOP5 = None

_HALVES = {
    "kinetics400": {
        "CLIP, class names": (62.3, 53.4, 57.5),
        "ActionCLIP": (61.0, 46.2, 52.6),
        "X-CLIP": (74.1, 56.4, 64.0),
        "ViFi-CLIP": (76.4, 61.1, 67.9),
        "Open-VCLIP": (76.5, 62.6, 68.9),
        "FROSTER": (77.8, 64.3, 70.4),
        "TC-CLIP": (78.9, 63.6, 70.4),
    },
    "hmdb51": {
        "CLIP, class names": (53.3, 46.8, 49.8),
        "ActionCLIP": (69.1, 37.3, 48.5),
        "X-CLIP": (69.4, 45.5, 55.0),
        "ViFi-CLIP": (73.8, 53.3, 61.9),
        "ViFi-CLIP prompts": (77.1, 54.9, 64.1),
        "Open-VCLIP": (70.3, 50.4, 58.7),
        "FROSTER": (74.1, 58.0, 65.1),
        "TC-CLIP": (73.3, 54.1, 62.2),
        "VTD-CLIP": (None, None, 70.0),
    },
    "ucf101": {
        "CLIP, class names": (78.5, 63.6, 70.3),
        "ActionCLIP": (90.1, 58.1, 70.7),
        "X-CLIP": (89.9, 58.9, 71.2),
        "ViFi-CLIP": (92.9, 67.7, 78.3),
        "ViFi-CLIP prompts": (95.9, 74.1, 83.6),
        "Open-VCLIP": (94.8, 77.5, 85.3),
        "FROSTER": (95.3, 80.0, 87.0),
        "TC-CLIP": (95.5, 78.0, 85.9),
    },
    "ssv2": {
        "CLIP, class names": (4.9, 5.3, 5.1),
        "ActionCLIP": (13.3, 10.1, 11.5),
        "X-CLIP": (8.5, 6.6, 7.4),
        "ViFi-CLIP": (16.2, 12.1, 13.9),
        "ViFi-CLIP prompts": (15.8, 11.5, 13.3),
        "Open-VCLIP": (16.0, 11.0, 13.0),
        "FROSTER": (18.3, 12.2, 14.6),
        "TC-CLIP": (17.5, 13.4, 15.2),
        "VTD-CLIP": (None, None, 15.4),
    },
}
_SHOTS = {
    "hmdb51": {
        "X-CLIP": (53.0, 57.3, 62.8, 64.0),
        "ViFi-CLIP": (57.2, 62.7, 64.5, 66.8),
        "ViFi-CLIP prompts": (63.0, 65.1, 69.6, 72.0),
        "TC-CLIP": (57.3, 62.3, 67.3, 68.6),
    },
    "ucf101": {
        "X-CLIP": (76.4, 83.4, 88.3, 91.4),
        "ViFi-CLIP": (80.7, 85.1, 90.0, 92.7),
        "ViFi-CLIP prompts": (91.0, 93.7, 95.0, 96.4),
        "TC-CLIP": (85.9, 89.9, 92.5, 94.6),
    },
    "ssv2": {
        "ViFi-CLIP": (6.2, 7.4, 8.5, 12.4),
        "ViFi-CLIP prompts": (6.7, 7.9, 10.2, 13.5),
        "TC-CLIP": (7.3, 8.6, 9.3, 14.0),
    },
}
_FROM_KINETICS = {
    "hmdb51": {
        "ViFi-CLIP": (51.3, _NO_TOP5),
        "FROSTER": (54.8, _NO_TOP5),
        "TC-CLIP": (54.2, _NO_TOP5),
        "X-CLIP": (44.6, _NO_TOP5),
    },
    "ucf101": {
        "ViFi-CLIP": (76.8, _NO_TOP5),
        "FROSTER": (84.8, _NO_TOP5),
        "TC-CLIP": (82.9, _NO_TOP5),
        "X-CLIP": (72.0, _NO_TOP5),
    },
    "kinetics600": {
        "ViFi-CLIP": (71.2, _NO_TOP5),
        "FROSTER": (74.8, _NO_TOP5),
        "TC-CLIP": (75.8, _NO_TOP5),
        "X-CLIP": (65.2, _NO_TOP5),
    },
}
_SUPERVISED = {
    "kinetics400": {
        "X-CLIP": (84.7, _NO_TOP5),
        "ViFi-CLIP": (83.9, _NO_TOP5),
        "TC-CLIP": (85.2, _NO_TOP5),
        "Vita-CLIP": (81.8, _NO_TOP5),
    }
}
_TABLES = {
    "base_to_novel": _HALVES,
    "few_shot": _SHOTS,
    "zero_shot": _FROM_KINETICS,
    "fully_supervised": _SUPERVISED,
}
_LEARNT_ON = {
    "base_to_novel": "16 shots a base class",
    "few_shot": "K shots a class",
    "zero_shot": "Kinetics-400",
    "fully_supervised": "all training videos",
}
# what papers print for base-to-novel, and how to do the same
_MEANS = "means over 3 lists of 16 (shots=16 with split=1, 2 and 3)"
# (protocol, method) -> training videos, if they differ from those of the protocol
_LEARNT_ELSE = {
    ("base_to_novel", "CLIP, class names"): "nothing",
    ("base_to_novel", "ViFi-CLIP prompts"): "Kinetics-400, then 16 shots a base class",
    ("base_to_novel", "VTD-CLIP"): "not known",
    ("few_shot", "ViFi-CLIP prompts"): "Kinetics-400, then K shots a class",
}
# numbers that the papers' own repositories do not have
_COLLECTED = "as collected in this project's specification"
_BY_FROSTER = "as printed in FROSTER's table, arXiv 2402.03241"
_NOTES = {
    ("base_to_novel", "CLIP, class names"): _BY_FROSTER,
    ("base_to_novel", "ActionCLIP"): _BY_FROSTER,
    ("base_to_novel", "X-CLIP"): _BY_FROSTER,
    ("base_to_novel", "Open-VCLIP"): _BY_FROSTER,
    ("few_shot", "X-CLIP"): _COLLECTED,
    ("base_to_novel", "ViFi-CLIP prompts"): "learnt on Kinetics-400 first",
    ("few_shot", "ViFi-CLIP prompts"): "learnt on Kinetics-400 first",
    # says TC-CLIP's README, and FROSTER's own training command shows it
    ("base_to_novel", "FROSTER"): "with class names rephrased by a language model",
    ("zero_shot", "FROSTER"): "with class names rephrased by a language model",
    ("base_to_novel", "VTD-CLIP"): "only HM is known, as cited by a later paper",
    ("fully_supervised", "X-CLIP"): "16 frames, 287 GFLOPs",
    ("fully_supervised", "ViFi-CLIP"): "281 GFLOPs",
    ("fully_supervised", "Vita-CLIP"): "97 GFLOPs",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of a published table.

    Attributes:
      method: its name in the paper.
      values: columns of the protocol (`COLUMNS`), in percent; None if unknown.
      learnt_on: training videos.
      source: the method's paper, with arXiv number and venue.
      note: what else a reader must know; "" for nothing.
    """

    method: str
    values: Mapping[str, float | None]
    learnt_on: str
    source: str
    note: str = ""


def published(table: str, dataset: str) -> tuple[Published, ...]:
    """The published rows of a protocol on a data set, in the order of the papers' tables.

    Args:
      table: one of `COLUMNS`.
      dataset: "hmdb51", "ucf101", "ssv2", "kinetics400" or "kinetics600"; others have no rows.

    Raises:
      UserError: an unknown protocol.
    """
    if table not in _TABLES:
        raise UserError(
            f"table {table!r}: nothing is published of it, expected one of {', '.join(_TABLES)}"
        )
    return tuple(
        _row(table, method, numbers) for method, numbers in _TABLES[table].get(dataset, {}).items()
    )


def learnt_otherwise(table: str, dataset: str, shots: int) -> str:
    """How a run's training differs from that of published numbers; "" if it does not.

    Args:
      table: the protocol.
      dataset: a text with the name of the data set, such as a path.
      shots: training videos of a class, 0 for all.
    """
    if table != "base_to_novel" or not any(name in dataset for name in _TABLES[table]):
        return ""
    ours = f"one list of {shots} videos a base class" if shots else "all base videos"
    return f"learnt on {ours}; published numbers are {_MEANS}"


def _row(table: str, method: str, numbers: Sequence[float | None]) -> Published:
    values = MappingProxyType(dict(zip(COLUMNS[table], numbers, strict=True)))
    learnt_on = _LEARNT_ELSE.get((table, method), _LEARNT_ON[table])
    return Published(method, values, learnt_on, _PAPERS[method], _NOTES.get((table, method), ""))
