"""Published numbers for CLIP with ViT-B/16 at 224 px: whose, read where, and how sure they are."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from vtd_jax.errors import UserError
from vtd_jax.evaluate.published_rows import FROM_KINETICS, HALVES, SHOTS, SUPERVISED

# protocol -> columns of a row, in the order of `published_rows`
COLUMNS = {
    "base_to_novel": ("base", "novel", "HM"),
    "few_shot": ("2", "4", "8", "16"),
    "zero_shot": ("top-1",),
    "fully_supervised": ("top-1", "top-5"),
}
_TABLES = {
    "base_to_novel": HALVES,
    "few_shot": SHOTS,
    "zero_shot": FROM_KINETICS,
    "fully_supervised": SUPERVISED,
}
# printed by the method's authors; printed by others, who ran or cite it; no print is known
AUTHORS, OTHERS, UNVERIFIED = "authors", "third party", "unverified"

_CLIP = "CLIP, arXiv 2103.00020 (ICML 2021)"
_VIFI = "ViFi-CLIP, arXiv 2212.03640 (CVPR 2023)"
_TC = "TC-CLIP, arXiv 2404.09490 (ECCV 2024)"
_PAPERS = {
    "CLIP, class names": _CLIP,
    "CLIP, frozen": _CLIP,
    "ActionCLIP": "ActionCLIP, arXiv 2109.08472",
    "X-CLIP": "X-CLIP, arXiv 2208.02816 (ECCV 2022)",
    "ViFi-CLIP": _VIFI,
    "ViFi-CLIP prompts": _VIFI,
    "Open-VCLIP": "Open-VCLIP, arXiv 2302.00624 (ICML 2023)",
    "AIM": "AIM, arXiv 2302.03024 (ICLR 2023)",
    "ST-Adapter": "ST-Adapter, arXiv 2206.13559 (NeurIPS 2022)",
    "FROSTER": "FROSTER, arXiv 2402.03241 (ICLR 2024)",
    "TC-CLIP": _TC,
    "TC-CLIP (LLM)": _TC,
    "TC-CLIP (P)": _TC,
    "GA2-CLIP": "GA2-CLIP, arXiv 2511.22125",
    "T2L": "T2L, arXiv 2312.08010 (TMLR 2025)",
    "Vita-CLIP": "Vita-CLIP, arXiv 2304.03307 (CVPR 2023)",
    "VTD-CLIP": "VTD-CLIP, arXiv 2503.18407 (AAAI 2026)",
}

_FROSTER = "README.md of Visual-AI/FROSTER"
_VIFI_README = "README.md of muzairkhattak/ViFi-CLIP"
_TC_README = "README.md of naver-ai/tc-clip"
# method -> where its authors print its numbers
_OWN = {
    "X-CLIP": "X-CLIP/README.md of microsoft/VideoX",
    "ViFi-CLIP": _VIFI_README,
    "ViFi-CLIP prompts": _VIFI_README,
    "FROSTER": _FROSTER,
    "TC-CLIP": _TC_README,
    "TC-CLIP (LLM)": _TC_README,
    "TC-CLIP (P)": _TC_README,
    "GA2-CLIP": "README.md of BBYL9413/GA2-CLIP",
    "T2L": "README.md of Shahzadnit/T2L",
}
# (protocol, method) -> where else digits were read, and how sure they are
_ELSEWHERE = {
    **{
        ("base_to_novel", method): (_FROSTER, OTHERS)
        for method in ("CLIP, class names", "ActionCLIP", "X-CLIP", "Open-VCLIP")
    },
    **{
        ("zero_shot", method): (_FROSTER, OTHERS)
        for method in (
            "CLIP, frozen", "ActionCLIP", "AIM", "ST-Adapter", "Vita-CLIP", "Open-VCLIP"
        )
    },
    ("base_to_novel", "VTD-CLIP"): ("a note on Video-STAR, a later paper", OTHERS),
    ("fully_supervised", "Vita-CLIP"): ("this project's specification", UNVERIFIED),
}  # fmt: skip

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
    ("zero_shot", "CLIP, frozen"): "nothing",
    ("base_to_novel", "ViFi-CLIP prompts"): "Kinetics-400, then 16 shots a base class",
    ("base_to_novel", "TC-CLIP (P)"): "Kinetics-400, then 16 shots a base class",
    ("base_to_novel", "T2L"): "base classes; how many videos is not said",
    ("base_to_novel", "VTD-CLIP"): "not known",
    ("few_shot", "ViFi-CLIP prompts"): "Kinetics-400, then K shots a class",
    ("few_shot", "TC-CLIP (P)"): "Kinetics-400, then K shots a class",
}
# what a few-shot number is of, for tables
FEW_SHOT_LISTS = (
    "ViFi-CLIP's numbers on HMDB-51 and UCF-101 are means over the validation lists of 3 splits, "
    "TC-CLIP's are of split 1; what was learnt on is of split 1, and some of it is in the "
    "validation lists 2 and 3"
)
_REPHRASED = "with class names rephrased by a language model"
_THREE = "means over 3 validation splits, says its maintainer (ViFi-CLIP#11)"
_FIRST = "learnt on Kinetics-400 first"
# both as docs/TRAIN_EVAL.md of TC-CLIP's repository says
_BEST = "of the best epoch on the validation list (split 1's, where there are three)"
_BEST_BASE = "of the best epoch on the base validation list"
_BY_FROSTER = "run by FROSTER's authors"
_HM_ONLY = "only HM is known, of a weak source, whose own gains do not add up"
# (protocol, method), or with the data set -> what else a reader must know
_NOTES = {
    ("base_to_novel", "ViFi-CLIP prompts"): _FIRST,
    ("base_to_novel", "TC-CLIP"): _BEST_BASE,
    ("base_to_novel", "TC-CLIP (P)"): f"{_FIRST}; {_BEST_BASE}",
    # says TC-CLIP's README, and FROSTER's own training command shows it
    ("base_to_novel", "FROSTER"): _REPHRASED,
    ("base_to_novel", "TC-CLIP (LLM)"): f"{_REPHRASED}; {_BEST_BASE}",
    ("base_to_novel", "TC-CLIP (LLM)", "ssv2"): (
        f"SSv2's names are not rephrased: TC-CLIP's numbers, {_BEST_BASE}"
    ),
    ("base_to_novel", "T2L"): "8 frames; on arXiv as EZ-CLIP",
    ("base_to_novel", "VTD-CLIP", "hmdb51"): (
        f"{_HM_ONLY}; probably not of 16 shots: the release's config learns on all base videos"
    ),
    ("base_to_novel", "VTD-CLIP", "ssv2"): f"{_HM_ONLY}; shots are not said",
    ("few_shot", "X-CLIP"): "32 frames, 571 GFLOPs",
    ("few_shot", "ViFi-CLIP"): _THREE,
    ("few_shot", "ViFi-CLIP", "ssv2"): "",
    ("few_shot", "ViFi-CLIP prompts"): f"{_FIRST}; {_THREE}",
    ("few_shot", "ViFi-CLIP prompts", "ssv2"): _FIRST,
    ("few_shot", "TC-CLIP"): _BEST,
    ("few_shot", "TC-CLIP (P)"): f"{_FIRST}; {_BEST}",
    ("zero_shot", "CLIP, frozen"): f"{_BY_FROSTER}; templates are not said",
    ("zero_shot", "ActionCLIP"): _BY_FROSTER,
    ("zero_shot", "AIM"): _BY_FROSTER,
    ("zero_shot", "ST-Adapter"): _BY_FROSTER,
    ("zero_shot", "FROSTER"): _REPHRASED,
    ("zero_shot", "TC-CLIP (LLM)"): _REPHRASED,
    ("zero_shot", "T2L"): "8 frames; on arXiv as EZ-CLIP",
    ("fully_supervised", "X-CLIP"): "16 frames, 287 GFLOPs",
    ("fully_supervised", "ViFi-CLIP"): "281 GFLOPs",
    ("fully_supervised", "Vita-CLIP"): (
        "97 GFLOPs; its repository prints no numbers, possibly those of 8 frames"
    ),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of a published table.

    Attributes:
      method: its name in the paper.
      values: columns of the protocol (`COLUMNS`), in percent; None if unknown.
      learnt_on: training videos.
      source: the method's paper, with arXiv number and venue.
      read_in: where the digits were read: a file of a repository on GitHub, mostly.
      status: who printed them: "authors" of the method, a "third party", or "unverified".
      note: what else a reader must know; "" for nothing.
    """

    method: str
    values: Mapping[str, float | None]
    learnt_on: str
    source: str
    read_in: str
    status: str
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
    return tuple(_row(table, dataset, method) for method in _TABLES[table].get(dataset, {}))


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


def _row(table: str, dataset: str, method: str) -> Published:
    numbers = zip(COLUMNS[table], _TABLES[table][dataset][method], strict=True)
    place = _ELSEWHERE.get((table, method))
    read_in, status = (_OWN[method], AUTHORS) if place is None else place
    note = _NOTES.get((table, method, dataset), _NOTES.get((table, method), ""))
    learnt_on = _LEARNT_ELSE.get((table, method), _LEARNT_ON[table])
    values = MappingProxyType(dict(numbers))
    return Published(method, values, learnt_on, _PAPERS[method], read_in, status, note)
