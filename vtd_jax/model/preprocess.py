"""Which way frames are scaled for a model; `vtd_jax.video.scaling` does it."""

from typing import Any

from vtd_jax.clip.preprocessing import Preprocessing
from vtd_jax.errors import UserError, setting
from vtd_jax.fields import check_choice

# as the release does it, or as CLIP's own images were prepared
PREPROCESS = ("release", "clip")


def check_preprocess(preprocess: str, normalization: str, field: str = "preprocess") -> None:
    """Raises a `UserError` for frames that are scaled as CLIP's images were, but not normalised so.

    Args:
      preprocess: "release" or "clip".
      normalization: "imagenet" or "clip".
      field: what messages call `preprocess`.
    """
    check_choice(field, preprocess, PREPROCESS)
    if preprocess == "clip" and normalization != "clip":
        raise UserError(
            f"{field}=clip: is CLIP's own preprocessing, its mean and deviation included, but "
            f"model.normalization={normalization}; set {setting('model.normalization', 'clip')}, "
            f"or {setting(field, 'release')}"
        )


def squashes(normalization: str, preprocessing: Preprocessing) -> bool:
    """Whether frames are squashed to a square: with "clip" where this CLIP's images were."""
    return normalization == "clip" and preprocessing.squash


def scaling(preprocess: str, normalization: str, preprocessing: Preprocessing) -> dict[str, Any]:
    """How frames are scaled, as arguments of `vtd_jax.video.scaling.fit.Fit`."""
    return {
        "preprocess": preprocess,
        "squash": squashes(normalization, preprocessing),
        "interpolation": preprocessing.interpolation,
    }
