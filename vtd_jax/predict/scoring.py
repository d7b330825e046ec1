"""Makes a prediction or an explanation of a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from vtd_jax.finite import check_finite
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Job
from vtd_jax.predict.results import Explanation, Prediction
from vtd_jax.video.clip import Clip


def score_clip(
    on_devices: DeviceModel,
    clip: Clip,
    features: Float32[np.ndarray, "t d"],
    job: Job,
    runner_ups: int | None,
) -> Prediction | Explanation:
    """Scores an encoded clip for the labels of a job.

    Args:
      on_devices: the model.
      clip: frames at the model's resolution.
      features: of its frames, raw.
      job: labels and vocabulary.
      runner_ups: None predicts; a number explains, with this many further words a frame.

    Raises:
      UserError: scores are not finite.
    """
    if runner_ups is None:
        logits = on_devices.logits(features[None], job.codebook, job.vocabulary)[0]
        return Prediction(**facts(clip, job.labels, logits, on_devices.logit_bias))
    words, config = job.vocabulary.words, on_devices.model.config
    found = job.vocabulary.nearest(features, 1 + runner_ups, config.assignment)
    tokens = job.vocabulary.video_tokens(features[None], found.ids[None, :, 0], config)
    parts = on_devices.explain(features, job.codebook, tokens.codes)
    fused = on_devices.model.fusion is not None
    return Explanation(
        **facts(clip, job.labels, parts.logits, on_devices.logit_bias),
        pictures=clip.frames,
        words=tuple(tuple(words[i] for i in row) for row in found.ids),
        similarity=found.similarity,
        video_token=tuple(words[i] for i in tokens.ids[0]),
        votes=tokens.votes[0],
        confidence=parts.confidence,
        frame_weight=parts.weight,
        contribution=parts.contribution,
        attention=parts.attention if fused else None,
        change=parts.change if fused else None,
        vocabulary_size=len(words),
        vocabulary_is_labels=job.vocabulary.is_labels,
        unit="score" if config.pooling == "softmax_mean" else "logit",
    )


def finite(logits: Float32[np.ndarray, "*any k"], video: str) -> Float32[np.ndarray, "*any k"]:
    """The logits; raises a `UserError` if one is NaN or infinite, so that no score is."""
    remedy = (
        "values of this model exceed the range of its dtype; try dtype=float32, or other weights"
    )
    return check_finite(logits, f"{video}: a row of scores", remedy)


def facts(
    clip: Clip,
    labels: Sequence[str],
    logits: Float32[np.ndarray, " k"],
    logit_bias: float | None = None,
) -> dict[str, Any]:
    """The fields of a `Prediction`; with a logit bias also `matches`."""
    finite(logits, clip.name)
    # a softmax in NumPy, which cannot overflow
    scores = np.exp(logits - logits.max())
    return {
        "video": clip.name,
        "labels": tuple(labels),
        "scores": (scores / scores.sum()).astype(np.float32),
        "logits": logits,
        "matches": None if logit_bias is None else _sigmoid(logits + np.float32(logit_bias)),
        "indices": clip.indices,
        "seconds": clip.seconds,
        "total": clip.total,
        "duration": clip.duration,
        "note": clip.note,
    }


def _sigmoid(x: Float32[np.ndarray, " k"]) -> Float32[np.ndarray, " k"]:
    # by a tanh, which cannot overflow
    return 0.5 + 0.5 * np.tanh(0.5 * x)
