"""The part of a model behind its towers, in NumPy: any labels, frames and temperature at once.

A program of JAX is compiled for one number of labels and frames and one temperature, which takes
longer than a person waits for an edit. These are the same sums (docs/method.md, sections 3 to 7),
and tests compare them with the model's own.
"""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Float32, Int, Int32

from vtd_jax.model.config import ModelConfig
from vtd_jax.model.ties import TIE
from vtd_jax.model.vtd_clip import VTDCLIP


class Words(NamedTuple):
    """Words of frames, nearest first, the lowest id first among equals.

    Attributes:
      ids: `[N, top]`, places in the vocabulary.
      similarity: `[N, top]`, cosines, -1..1.
    """

    ids: Int32[np.ndarray, "n top"]
    similarity: Float32[np.ndarray, "n top"]


class Token(NamedTuple):
    """The video token: its words, most votes first.

    Attributes:
      ids: `[n]`, places in the vocabulary.
      votes: `[n]`, 0..T.
    """

    ids: Int32[np.ndarray, " n"]
    votes: Float32[np.ndarray, " n"]


class HostParts(NamedTuple):
    """What the logits of a video are made of; see `vtd_jax.predict.programs.Parts`."""

    logits: Float32[np.ndarray, " k"]
    confidence: Float32[np.ndarray, "t k"]
    weight: Float32[np.ndarray, "t k"]
    contribution: Float32[np.ndarray, "t k"]
    attention: Float32[np.ndarray, "t n"] | None
    change: Float32[np.ndarray, " t"] | None


@dataclasses.dataclass(frozen=True)
class HostModel:
    """The numbers of a model that scores need once frames and texts are encoded.

    Attributes:
      config: of the method; its temperature is that of the confidence.
      scale: of the logits.
      fusion: the arrays of the fusion block by name, such as "q.kernel"; None without one.
    """

    config: ModelConfig
    scale: np.float32
    fusion: dict[str, Float32[np.ndarray, "..."]] | None

    @classmethod
    def of(cls, model: VTDCLIP) -> "HostModel":
        """Of a model, whose arrays are copied from the device."""
        fusion = None
        if model.fusion is not None:
            leaves = jax.device_get(nnx.to_pure_dict(nnx.state(model.fusion, nnx.Param)))
            fusion = {
                f"{layer}.{name}": np.asarray(array, np.float32)
                for layer, arrays in leaves.items()
                for name, array in arrays.items()
            }
        return cls(model.config, np.exp(np.float32(model.logit_scale[...])), fusion)

    def at(self, temperature: float | None) -> "HostModel":
        """The same model with another temperature of the confidence; None for its own."""
        if temperature is None:
            return self
        config = dataclasses.replace(self.config, temperature=temperature)
        return dataclasses.replace(self, config=config)

    def nearest(
        self,
        features: Float32[np.ndarray, "n d"],
        codes: Float32[np.ndarray, "v d"],
        top: int,
    ) -> Words:
        """The nearest words of frames, as `vtd_jax.model.vocabulary.nearest` finds them.

        Args:
          features: raw.
          codes: of V words, raw.
          top: words a frame; of a smaller vocabulary all.
        """
        if self.config.assignment == "cosine":
            closeness = unit(features) @ unit(codes).T
        else:
            closeness = 2 * (features @ codes.T) - np.square(codes).sum(axis=1)
        if top == 1:
            ids = closeness.argmax(axis=1)[:, None].astype(np.int32)
        else:
            ids = np.stack([_best(row, min(top, len(codes))) for row in closeness])
        chosen = unit(codes[ids])
        return Words(ids, np.einsum("nd,nkd->nk", unit(features), chosen, dtype=np.float32))

    def confidence(
        self, features: Float32[np.ndarray, "t d"], codes: Float32[np.ndarray, "k d"]
    ) -> Float32[np.ndarray, "t k"]:
        """How much every frame counts for every class; sums to 1 over the frames."""
        if self.config.confidence == "uniform":
            return np.full((len(features), len(codes)), 1 / len(features), np.float32)
        return softmax(unit(features) @ unit(codes).T / np.float32(self.config.temperature), 0)

    def token(
        self,
        features: Float32[np.ndarray, "t d"],
        ids: Int32[np.ndarray, " t"],
        codes: Float32[np.ndarray, "v d"],
    ) -> Token:
        """The words with the most votes, as by `ModelConfig.votes` and `ModelConfig.ties`.

        Args:
          features: of a video's frames, raw.
          ids: the word of every frame.
          codes: of all V words, raw.
        """
        found = np.unique(ids)
        named = ids[:, None] == found
        weights = self.confidence(features, codes[found])
        frames = named.sum(axis=0).astype(np.float32)
        by_frames = self.config.votes == "frames"
        votes = frames if by_frames else np.where(named, weights, 0).sum(axis=0)
        count = min(self.config.top_n, len(codes))
        if self.config.ties == "frames":
            lacking = np.where(named, 0, weights).sum(axis=0)
            places = _ranked(lacking, frames, min(count, len(found)), by_frames)
            fill = _others(found, count - len(places), len(codes))
            chosen = np.concatenate([found[places], fill])
            return Token(chosen, np.concatenate([votes[places], np.zeros(len(fill), np.float32)]))
        fill = _others(found, count, len(codes))
        words = np.concatenate([found, fill])
        votes = np.concatenate([votes, np.zeros(len(fill), np.float32)])
        order = np.lexsort((words, -votes))[:count]
        return Token(words[order], votes[order])

    def parts(
        self,
        features: Float32[np.ndarray, "t d"],
        codes: Float32[np.ndarray, "k d"],
        tokens: Float32[np.ndarray, "n d"],
    ) -> HostParts:
        """Logits of a video and what they are made of.

        Args:
          features: of its frames, raw.
          codes: of the K classes, raw.
          tokens: codes of the video token, raw.
        """
        confidence, pooling = self.confidence(features, codes), self.config.pooling
        fused, attention = self._fused(features, tokens)
        even = np.full(confidence.shape, 1 / len(features), np.float32)
        if pooling == "confidence":
            weight = confidence / confidence.sum(axis=0)
            contribution = self.scale * weight * (unit(fused) @ unit(codes).T)
            logits = contribution.sum(axis=0)
        elif pooling == "mean":
            mean, weight = fused.mean(axis=0, keepdims=True), even
            length = np.linalg.norm(mean)
            contribution = self.scale * even * (fused @ unit(codes).T) / length
            logits = self.scale * (unit(mean) @ unit(codes).T)[0]
        else:
            cosines, weight = self.scale * (unit(fused) @ unit(codes).T), even
            logs = cosines - log_sum(cosines, 1)[:, None]
            contribution = even * np.exp(logs)
            logits = log_sum(logs, 0) - np.log(np.float32(len(features)))
        change = None
        if attention is not None:
            moved = np.linalg.norm(fused - features, axis=1)
            change = moved / np.linalg.norm(features, axis=1)
        return HostParts(logits, confidence, weight, contribution, attention, change)

    def fused(
        self,
        features: Float32[np.ndarray, "n d"],
        words: Float32[np.ndarray, "v d"],
        where: Int[np.ndarray, "w t"],
        tokens: Int[np.ndarray, "w m"],
    ) -> Float32[np.ndarray, "w t d"]:
        """Frames of several windows with the video tokens in them.

        Args:
          features: of frames, raw.
          words: codes of words, raw.
          where: the frames of every window.
          tokens: the words of every window's video token.
        """
        # of a frame and of a word once, in however many windows they are
        k, v = (self._heads(name, words) for name in "kv")
        if tokens.shape[1] == 1:
            # all of the attention is at one word, which is the same for all frames
            return features[where] + self._behind(v.reshape(len(v), -1))[tokens]
        q = self._heads("q", features)[where]
        scores = np.einsum("wthc,wnhc->whtn", q, k[tokens], optimize=True)
        attention = softmax(scores * np.float32(q.shape[-1] ** -0.5), 3)
        mixed = np.einsum("whtn,wnhc->wthc", attention, v[tokens], optimize=True)
        flat = self._behind(mixed.reshape(-1, features.shape[1]))
        return features[where] + flat.reshape(*where.shape, -1)

    def _fused(
        self, features: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Frames with their video token in them, and their attention to its words."""
        if self.fusion is None:
            return features, None
        q, k, v = self._heads("q", features), *(self._heads(name, tokens) for name in "kv")
        scores = np.einsum("thc,nhc->htn", q, k) * np.float32(q.shape[-1] ** -0.5)
        attention = softmax(scores, 2)
        mixed = np.einsum("htn,nhc->thc", attention, v).reshape(features.shape)
        return features + self._behind(mixed), attention.mean(axis=0)

    def _heads(self, name: str, x: np.ndarray) -> np.ndarray:
        return self._dense(name, x).reshape(len(x), self.config.fusion_heads, -1)

    def _behind(self, mixed: np.ndarray) -> np.ndarray:
        """What fusion adds, of what the attention mixed."""
        return self._dense("fc2", np.maximum(self._dense("fc1", self._dense("out", mixed)), 0))

    def _dense(self, name: str, x: np.ndarray) -> np.ndarray:
        assert self.fusion is not None
        return x @ self.fusion[f"{name}.kernel"] + self.fusion[f"{name}.bias"]


def unit(x: Float32[np.ndarray, "*any d"]) -> Float32[np.ndarray, "*any d"]:
    """Unit length over the last axis; a zero vector stays zero."""
    squares = np.square(x).sum(axis=-1, keepdims=True)
    return x / np.sqrt(np.maximum(squares, np.float32(1e-24)))


def softmax(x: Float[np.ndarray, "*any"], axis: int) -> Float[np.ndarray, "*any"]:
    """Over one axis, without overflow."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def log_sum(x: Float[np.ndarray, "*any"], axis: int) -> Float[np.ndarray, "*fewer"]:
    """The log of the sum of powers over one axis, without overflow."""
    most = x.max(axis=axis, keepdims=True)
    return np.squeeze(most, axis) + np.log(np.exp(x - most).sum(axis=axis))


def _best(closeness: np.ndarray, top: int) -> np.ndarray:
    """Places of the `top` greatest, greatest first, the lowest place first among equals."""
    least = np.partition(closeness, -top)[-top]
    places = np.flatnonzero(closeness >= least)
    return places[np.argsort(-closeness[places], kind="stable")][:top].astype(np.int32)


def _ranked(lacking: np.ndarray, frames: np.ndarray, count: int, by_frames: bool) -> list[int]:
    """See `vtd_jax.model.ties.rank`; of words in the order of their ids."""
    lacking, frames, found = lacking.copy(), frames.copy(), []
    for _ in range(count):
        part = np.where(frames == frames.max(), lacking, np.inf) if by_frames else lacking
        near = part <= part.min() + np.float32(TIE)
        # the first of the most frames has the lowest id
        found.append(int(np.where(near, frames, -1).argmax()))
        lacking[found[-1]], frames[found[-1]] = np.inf, -1
    return found


def _others(taken: np.ndarray, count: int, words: int) -> np.ndarray:
    """The first `count` ids of a vocabulary that are not taken."""
    first = np.arange(min(words, len(taken) + max(count, 0)), dtype=np.int32)
    return first[~np.isin(first, taken)][: max(count, 0)]
