"""Clips that a search found, and the scores that found them."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float16, Float32

from vtd_jax.errors import UserError
from vtd_jax.predict.predictor import Predictor
from vtd_jax.predict.programs import Vocabulary
from vtd_jax.printable import utf8
from vtd_jax.retrieval import scan


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
      video: its path when it was indexed.
      score: how well it fits, -1..1, see `Index.search` and `Index.similar`.
      second: of the best frame, from the first frame on.
      frame: index of the best frame in the video.
      duration: of the video, seconds.
      words: that name its T frames; None where no vocabulary was given.
    """

    video: str
    score: float
    second: float
    frame: int
    duration: float
    words: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        found = {
            "video": utf8(self.video),
            "score": round(self.score, 6),
            "second": round(self.second, 3),
            "frame": self.frame,
            "duration": round(self.duration, 3),
        }
        return found if self.words is None else found | {"words": list(self.words)}


def words_of_fusion(predictor: Predictor, words: Vocabulary | None) -> Vocabulary | None:
    """The words that make video tokens, the class names by default; None without fusion.

    Raises:
      UserError: fusion, and neither words nor class names.
    """
    if predictor.model.fusion is None:
        return None
    if words is not None:
        return words
    if not predictor.class_names:
        raise UserError(
            f"{predictor.description}: fuses words into frames, and its own are not known; give a "
            "vocabulary"
        )
    return predictor.encode_vocabulary(predictor.class_names)


def text_score(
    predictor: Predictor, codes: Float32[Array, "q d"], words: Vocabulary | None
) -> scan.Score:
    """The function that scores blocks for texts.

    Args:
      predictor: the model.
      codes: raw codes of the texts, on its devices.
      words: of `words_of_fusion`.
    """
    config, on_host = predictor.model.config, np.asarray(codes)

    def unfused(features: Float16[np.ndarray, "b t d"]) -> tuple[Any, Any]:
        return scan.text_scores(
            features, on_host, temperature=config.temperature, confidence=config.confidence,
            pooling=config.pooling,
        )  # fmt: skip

    if words is None:
        return unfused
    scale = float(jnp.exp(predictor.model.logit_scale[...]))

    def fused(features: Float16[np.ndarray, "b t d"]) -> tuple[Any, Any]:
        logits = predictor.on_devices.logits(features.astype(np.float32), codes, words)
        return logits / scale, unfused(features)[1]

    return fused
