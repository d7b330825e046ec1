"""Other methods: how each is told by the names of its tensors, and what of it is computed here."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

from vtd_jax.errors import UserError

# of the tensors that a training script saves as `module.…`
WRAPPER = "module."


@dataclasses.dataclass(frozen=True)
class Rival:
    """A method whose authors publish checkpoints.

    Attributes:
      name: in settings and file names.
      title: as its authors write it.
      marks: patterns of tensor names, one of which every file of it has.
      published: where its authors publish the files.
      lacking: what its checkpoints need that is not computed here; "" for a rival that is.
      evaluated: protocol -> frames, temporal and spatial views of its authors; its keys are the
        protocols that they publish files for.
      datasets: those of base-to-novel and few-shot that they publish files for.
    """

    name: str
    title: str
    marks: Sequence[str]
    published: str
    lacking: str = ""
    evaluated: Mapping[str, tuple[int, int, int]] = dataclasses.field(default_factory=dict)
    datasets: Sequence[str] = ()


_VIFI = "https://github.com/muzairkhattak/ViFi-CLIP, section Model Zoo"
_ONE_VIEW = (32, 1, 1)
# the first whose mark a file has is what it is: what is told by a part of its own comes before what
# is told by the parts that it shares
RIVALS = (
    Rival(
        "xclip",
        "X-CLIP",
        (r"(^|\.)mit\.", r"(^|\.)prompts_generator\.", r"\.message_(fc|attn)\."),
        "https://github.com/microsoft/VideoX, folder X-CLIP",
        "message tokens that frames exchange in every image layer, the multi-frame integration "
        "transformer, and text prompts made from the video",
    ),
    Rival(
        "tc_clip",
        "TC-CLIP",
        (r"\.prompt_generation_layer\.", r"\.local_global_bias_table$"),
        "https://github.com/naver-ai/tc-clip",
        "context tokens merged from all frames as further keys of every image layer, and text "
        "prompts made from the video",
    ),
    Rival(
        "ga2_clip",
        "GA2-CLIP",
        (r"(^|\.)prompt_learner\.(proj_b2n_VPT\.|ctx_VPT$)",),
        "https://huggingface.co/BBLY9413/GA2-CLIP",
        "the layer that mixes learnt text prompts with frozen ones of another training, which are "
        "in a file of their own",
    ),
    Rival(
        "froster",
        "FROSTER",
        (r"(^|\.)projector_[vt]\.",),
        "https://github.com/Visual-AI/FROSTER",
        "image layers whose frames attend to the frames before and behind, and class names "
        "rephrased by a language model",
    ),
    Rival(
        "open_vclip",
        "Open-VCLIP",
        (r"^model\.visual\.",),
        "https://github.com/wengzejia1/Open-VCLIP",
        "image layers whose frames attend to the frames before and behind (no tensor shows it), "
        "and the mean of its weights with CLIP's",
    ),
    Rival(
        "vtd",
        "VTD-CLIP",
        (r"^lrf\.",),
        "",
        "no rival's way: it is what this package evaluates where no rival is named",
    ),
    Rival(
        "vifi_prompts",
        "ViFi-CLIP prompts",
        (r"^prompt_learner\.ctx$", r"^(text|image)_encoder\..*VPT", r"^image_encoder\.VPT$"),
        _VIFI,
        evaluated={"base_to_novel": _ONE_VIEW, "few_shot": _ONE_VIEW},
        datasets=("hmdb51", "ucf101", "ssv2"),
    ),
    Rival(
        "vifi",
        "ViFi-CLIP",
        (r"^prompt_learner\.complete_text_embeddings$", r"^image_encoder\.", r"^text_encoder\."),
        _VIFI,
        evaluated={
            "base_to_novel": _ONE_VIEW,
            "few_shot": _ONE_VIEW,
            "zero_shot": _ONE_VIEW,
            "fully_supervised": (16, 4, 3),
        },
        datasets=("hmdb51", "ucf101", "ssv2", "kinetics400"),
    ),
)
# in the order in which they are listed for people
COMPUTED = ("vifi", "vifi_prompts")


def rival(name: str, where: str) -> Rival:
    """The rival of this name, which is computed here.

    Args:
      name: of it.
      where: the setting that names it, for messages.

    Raises:
      UserError: there is none of this name, or it is not computed here.
    """
    found = next((one for one in RIVALS if one.name == name), None)
    if found is None:
        raise UserError(f"{where}: no rival of this name, expected one of {', '.join(COMPUTED)}")
    if found.lacking:
        raise UserError(f"{where}: {refusal(found)}")
    return found


def refusal(found: Rival) -> str:
    """Why a rival is not evaluated, in one line."""
    if found.name == "vtd":
        return f"{found.title}, which needs {found.lacking}"
    return (
        f"{found.title}, which is not computed here: it needs {found.lacking}; computed here: "
        f"{', '.join(COMPUTED)}"
    )


def recognised(names: Collection[str]) -> Rival | None:
    """The method whose file has tensors of these names, without `module.`; None if none is known.

    Told by names alone, as the order of `RIVALS` says: it names files, and checks none.
    """
    for one in RIVALS:
        if any(re.search(mark, name) for mark in one.marks for name in names):
            return one
    return None
