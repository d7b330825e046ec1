"""What the browser looks at: an explained clip and a long video's timeline, from seeded numbers or
real frames.
"""

import numpy as np

from vtd_jax.predict.results import Explanation, Segment, Timeline

LABELS = (
    "arm wrestling", "hugging", "shaking hands", "applying makeup", "cleaning pool",
    "playing cards", "clapping", "massaging back", "stretching arm", "tai chi", "side kick",
    "drinking beer", "eating cake", "juggling balls",
)  # fmt: skip
HOSTILE = (
    '</script><script>document.title="taken"</script>', '"><img src=x onerror="document.title=1">',
    "綱引き", "עֲרָבִית مرحبا", "👩‍🚒 & <b>bold</b>", "`${1+1}` \\u003c \u2028 end",
    "a-very-long-word-" * 8, "it's \"quoted\"",
)  # fmt: skip
# words too long for a narrow column
LONG_WORDS = (
    "playing basketball",
    "skateboarding",
    "cheerleading",
    "underwater photography",
    "snowboarding",
    "hugging",
)
NOTICE = "This CLIP is a toy."
ABOUT = {
    "date": "2026-11-28 14:05 UTC",
    "Model": "ViT-B/16, zero-shot",
    "Frames": "16 a clip",
    "Version": "vtd_jax 0.1.0",
}


def pictures(count: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """Frames with a bright square that moves over a gradient, uint8 `[count, side, side, 3]`."""
    ramp = np.linspace(40, 170, side)
    frames = np.stack([np.tile(ramp * shade, (side, 1)) for shade in (0.6, 0.8, 1.0)], -1)[
        None
    ].repeat(count, 0)
    for i in range(count):
        x = (seed * 7 + i * 5) % (side - 16)
        frames[i, side // 3 : side // 3 + 16, x : x + 16] = (240, 200, 90)
    return frames.astype(np.uint8)


def explanation(
    frames: np.ndarray,
    labels=LABELS,
    *,
    seed: int = 0,
    video: str = "clips/arm_wrestling.mp4",
    own=True,
):
    """An `Explanation` of the frames: the first label is the best, and the middle frames speak for
    it.
    """
    rng, t, k = np.random.default_rng(seed), len(frames), len(labels)
    cosine = 0.2 + 0.02 * rng.standard_normal((t, k))
    cosine[:, 0] += 0.06 * np.exp(-(((np.arange(t) - 0.55 * t) / (0.25 * t)) ** 2))
    cosine[:, 1] += 0.05 * np.exp(-((np.arange(t) / (0.2 * t)) ** 2))
    confidence = np.exp(cosine / 0.02)
    confidence /= confidence.sum(0)
    contribution = confidence * 25 * (cosine / cosine.mean()) - 0.12 * rng.random((t, k))
    logits = contribution.sum(0)
    scores = np.exp(logits - logits.max())
    near = np.argsort(-cosine, 1)[:, : min(5, k)]
    votes = np.array([(near[:, 0] == c) @ confidence[:, c] for c in range(k)])
    best = np.argsort(-votes, kind="stable")[: min(2, k)]
    return Explanation(
        video=video,
        labels=tuple(labels),
        scores=np.float32(scores / scores.sum()),
        logits=np.float32(logits),
        indices=np.arange(t) * 19 + 9,
        seconds=(np.arange(t) * 19 + 9) / 30,
        total=19 * t,
        duration=19 * t / 30,
        pictures=frames,
        words=tuple(tuple(labels[c] for c in row) for row in near),
        similarity=np.float32(np.take_along_axis(cosine, near, 1)),
        video_token=tuple(labels[c] for c in best),
        votes=np.float32(votes[best]),
        confidence=np.float32(confidence),
        frame_weight=np.float32(confidence),
        contribution=np.float32(contribution),
        attention=np.full((t, len(best)), 1 / len(best), np.float32),
        change=np.float32(rng.random(t) * 0.4),
        vocabulary_size=k if own else 10_000,
        vocabulary_is_labels=own,
    )


def timeline(
    frames: np.ndarray, labels=LABELS, *, windows: int = 240, stride: float = 5.0, seed: int = 0
):
    """A `Timeline` of `windows` windows, each the stride long: activities follow one another, some
    side by side.
    """
    rng, k = np.random.default_rng(seed), len(labels)
    scores = rng.random((windows, k)) * 0.3
    at = 0
    while at < windows:
        length = int(rng.integers(3, max(4, min(14, windows // 4))))
        scores[at : at + length, int(k * rng.random() ** 1.6)] += 1.2 + rng.random()
        scores[at + length // 2 : at + length, int(k * rng.random() ** 1.6)] += 0.8
        at += length
    scores = np.exp(2 * scores)
    scores /= scores.sum(1, keepdims=True)
    top = np.argsort(-scores, 1)[:, : min(5, k)]
    starts = np.arange(windows) * stride
    segments = []
    for c in range(k):
        on = np.r_[False, (scores[:, c] >= 0.3) | (top[:, 0] == c), False]
        for a, b in zip(np.flatnonzero(on[1:] & ~on[:-1]), np.flatnonzero(on[:-1] & ~on[1:])):
            part = scores[a:b, c]
            peak = a + int(part.argmax())
            segments.append(
                Segment(
                    labels[c],
                    float(starts[a]),
                    float(starts[a] + stride * (b - a)),
                    float(part.mean()),
                    float(part.max()),
                    float(starts[peak] + stride / 2),
                    bool((top[a:b, 0] == c).any()),
                )
            )
    duration = windows * stride
    return Timeline(
        video="hours/festival.mp4",
        labels=tuple(labels),
        duration=duration,
        window=2 * stride,
        stride=stride,
        frames=16,
        threshold=0.3,
        segments=tuple(sorted(segments, key=lambda s: (s.start, s.label))),
        starts=starts,
        ends=starts + stride,
        top=top,
        top_scores=np.float32(np.take_along_axis(scores, top, 1)),
        words=tuple(labels[c] for c in top[:, 0]),
        mean_scores=np.float32(scores.mean(0)),
        pictures=frames,
        pictures_at=(np.arange(len(frames)) + 0.5) * duration / len(frames),
    )
