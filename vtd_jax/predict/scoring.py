"""Makes predictions or explanations of encoded clips."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float32

from vtd_jax.finite import check_finite
from vtd_jax.predict.device_model import DeviceModel
from vtd_jax.predict.job import Encoded, Failure, Job
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
        return _prediction(on_devices, clip, _started(on_devices, features, job), job)
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
        vote_unit="frames" if config.votes == "frames" else "confidence",
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


def score_videos(
    on_devices: DeviceModel,
    encoded: Generator[Encoded | Failure, None, None],
    job: Job,
    runner_ups: int | None,
    ahead: int,
) -> Generator[Prediction | Explanation | Failure, None, None]:
    """Scores encoded videos, in order.

    A device computes in order, and the next batch of frames is under way before a video of the last
    one is scored: so scores are started, and awaited only when `ahead` others are.

    Args:
      on_devices: the model.
      encoded: what it raises is raised after the results of all before.
      job, runner_ups: as for `score_clip`.
      ahead: most videos whose scores are under way.

    Raises:
      UserError: scores are not finite.
    """
    waiting: deque[_Scoring | Failure] = deque()
    raised = None
    with contextlib.closing(encoded):
        while raised is None:
            try:
                one = next(encoded)
            except StopIteration:
                break
            except Exception as error:
                raised = error
                break
            waiting.append(
                one if isinstance(one, Failure) else _Scoring(on_devices, one, job, runner_ups)
            )
            while waiting and (len(waiting) > ahead or _is_ready(waiting[0])):
                yield _result(waiting.popleft())
        for one in waiting:
            yield _result(one)
    if raised is not None:
        raise raised


class _Scoring:
    """A video whose scores are under way; explanations are made when they are asked for."""

    def __init__(self, on_devices: DeviceModel, one: Encoded, job: Job, runner_ups: int | None):
        self._logits: Any = None
        self.result: Callable[[], Prediction | Explanation]
        if runner_ups is None:
            self._logits = logits = _started(on_devices, one.features, job)
            self.result = lambda: _prediction(on_devices, one.clip, logits, job)
        else:
            self.result = lambda: score_clip(on_devices, one.clip, one.features, job, runner_ups)

    def is_ready(self) -> bool:
        return self._logits is None or bool(self._logits.is_ready())


def _is_ready(one: _Scoring | Failure) -> bool:
    return isinstance(one, Failure) or one.is_ready()


def _result(one: _Scoring | Failure) -> Prediction | Explanation | Failure:
    return one if isinstance(one, Failure) else one.result()


def _started(on_devices: DeviceModel, features: Float32[np.ndarray, "t d"], job: Job) -> Array:
    return on_devices.start_logits(features[None], job.codebook, job.vocabulary)


def _prediction(on_devices: DeviceModel, clip: Clip, logits: Array, job: Job) -> Prediction:
    found = np.asarray(logits)[0]
    return Prediction(**facts(clip, job.labels, found, on_devices.logit_bias))
