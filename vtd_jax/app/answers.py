"""What encoded frames and texts say: the results of `Predictor.explain`, and JSON.

Nothing here is compiled, so that an edit of labels is answered at once.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from vtd_jax.app.host_model import HostModel
from vtd_jax.predict.results import Explanation, rounded
from vtd_jax.predict.scoring import facts
from vtd_jax.predict.timeline import Pictures
from vtd_jax.report.clip_page import keyframes
from vtd_jax.video.clip import Clip
from vtd_jax.video.codec.wholeness import VideoInfo

# further words of a frame
RUNNER_UPS = 4


class Texts(NamedTuple):
    """Encoded labels and words.

    Attributes:
      labels: K texts.
      codes: of the labels, raw.
      words: V texts that name frames; the labels if no others are given.
      word_codes: of these words, raw.
      own: whether these words are the labels.
    """

    labels: tuple[str, ...]
    codes: Float32[np.ndarray, "k d"]
    words: tuple[str, ...]
    word_codes: Float32[np.ndarray, "v d"]
    own: bool


class Moments(NamedTuple):
    """The encoded frames of a timeline, in order.

    Attributes:
      name: of the video.
      features: raw.
      pictures: some of the frames.
      info: what the file showed.
    """

    name: str
    features: Float32[np.ndarray, "n d"]
    pictures: Pictures
    info: VideoInfo


def explanation(
    model: HostModel,
    clip: Clip,
    features: Float32[np.ndarray, "t d"],
    texts: Texts,
    logit_bias: float | None = None,
) -> Explanation:
    """What `Predictor.explain` gives of a video.

    Args:
      model: the part behind the towers.
      clip: frames at the model's resolution.
      features: of its frames, raw.
      texts: labels and vocabulary.
      logit_bias: see `DeviceModel.logit_bias`.

    Raises:
      UserError: scores are not finite.
    """
    found = model.nearest(features, texts.word_codes, 1 + RUNNER_UPS)
    token = model.token(features, found.ids[:, 0], texts.word_codes)
    parts = model.parts(features, texts.codes, texts.word_codes[token.ids])
    return Explanation(
        **facts(clip, texts.labels, parts.logits, logit_bias),
        pictures=clip.frames,
        words=tuple(tuple(texts.words[i] for i in row) for row in found.ids),
        similarity=found.similarity,
        video_token=tuple(texts.words[i] for i in token.ids),
        votes=token.votes,
        confidence=parts.confidence,
        frame_weight=parts.weight,
        contribution=parts.contribution,
        attention=parts.attention,
        change=parts.change,
        vocabulary_size=len(texts.words),
        vocabulary_is_labels=texts.own,
        unit="score" if model.config.pooling == "softmax_mean" else "logit",
        vote_unit="frames" if model.config.votes == "frames" else "confidence",
    )


def explanation_json(result: Explanation, shown: int) -> dict[str, Any]:
    """An explanation without pictures: all scores, and what frames have for the best labels.

    Args:
      result: of a video.
      shown: labels whose columns are given; the best ones.
    """
    order = result.order(shown)

    def columns(values: Float[np.ndarray, "t k"]) -> list[list[float]]:
        return rounded(values[:, order])

    rivals = [result.rival(int(k)) for k in order]
    return {
        "label": result.label,
        "score": result.score,
        "scores": rounded(result.scores),
        "logits": rounded(result.logits),
        "matches": rounded(result.matches),
        "order": order.tolist(),
        "frames": [
            {"words": [[word, near] for word, near in zip(words, row)]}
            for words, row in zip(result.words, rounded(result.similarity))
        ],
        "confidence": columns(result.confidence),
        "weight": columns(result.frame_weight),
        "contribution": columns(result.contribution),
        "lead": rounded(np.stack([result.lead(int(k)) for k in order], axis=1)),
        "rivals": ["" if k is None else result.labels[k] for k in rivals],
        "keyframes": [keyframes(result, int(k)) for k in order],
        "unit": result.unit,
        "video_token": [
            {"word": word, "votes": votes}
            for word, votes in zip(result.video_token, rounded(result.votes))
        ],
        "change": rounded(result.change),
        "attention": rounded(result.attention),
        "vocabulary_size": result.vocabulary_size,
        "vocabulary_is_labels": result.vocabulary_is_labels,
        "vote_unit": result.vote_unit,
    }
