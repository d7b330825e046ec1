"""CLIP's text tower in NumPy, for a CPU: texts of any number and length, and nothing is compiled.

XLA takes seconds to compile a program for each number and length of texts, pads texts to them, and
takes twice the CPU time of a BLAS for products as small as these. Here every text has its own
length, and what all texts begin with, a start token and learnt prompts, is computed once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int32

from vtd_jax.app.host_model import softmax
from vtd_jax.clip.tokenizer import SOT
from vtd_jax.model.vtd_clip import VTDCLIP

# tokens of a batch: their hidden channels fit into a core's cache
_TOKENS = 512


class Batch(NamedTuple):
    """Texts that are encoded at once.

    Attributes:
      texts: that are encoded.
      tokens: of these texts.
    """

    texts: tuple[str, ...]
    tokens: Int32[np.ndarray, "..."]


class _Block(NamedTuple):
    """The arrays of a block: LayerNorms, then kernels and biases of its linear layers."""

    ln_1: tuple[np.ndarray, np.ndarray]
    ln_2: tuple[np.ndarray, np.ndarray]
    qkv: tuple[np.ndarray, np.ndarray]
    out: tuple[np.ndarray, np.ndarray]
    c_fc: tuple[np.ndarray, np.ndarray]
    c_proj: tuple[np.ndarray, np.ndarray]


class HostTexts:
    """Encodes texts as `VTDCLIP.encode_classes`, to float32 rounding. Takes what `takes` says."""

    def __init__(self, model: VTDCLIP):
        """
        Args:
          model: read only; its arrays are used where they are.
        """
        self._model, tower, config = model, model.clip.text, model.clip.config
        self._eps, self._activation = config.design.norm_eps, config.activation
        assert isinstance(tower.blocks, nnx.List)
        self._heads = tower.blocks[0].attn.heads
        self._blocks = [_block(one) for one in tower.blocks]
        self._embedding, self._positions = map(
            _array, (tower.token_embedding, tower.positional_embedding)
        )
        self._final = _pair(tower.ln_final, "scale")
        self._projection = _array(tower.text_projection)
        bias = tower.text_projection_bias
        self._projection_bias = 0 if bias is None else _array(bias)
        self._start = 1 + model.config.text_prompts
        self._prefix = self._seen_of_prefix()

    @staticmethod
    def takes(model: VTDCLIP) -> bool:
        """Whether the model's texts are encoded here: a causal tower in float32 on a CPU."""
        clip = model.clip
        return (
            jax.default_backend() == "cpu"
            and clip.config.design.causal
            and clip.config.design.tokenizer == "clip"
            and clip.text.dtype == np.float32
            and isinstance(clip.text.blocks, nnx.List)
        )

    def batches(self, texts: Sequence[str]) -> list[Batch]:
        """What has to be encoded for these texts: those of about one length at once.

        Args:
          texts: all different.

        Raises:
          UserError: a text that is too long.
        """
        tokens = self._model.class_tokens(texts)
        # of a class the longest of its templates
        lengths = tokens.argmax(axis=-1).reshape(len(texts), -1).max(axis=1) + 1
        templates, found, first = int(np.prod(tokens.shape[1:-1])), [], 0
        order = np.argsort(lengths, kind="stable")
        while first < len(order):
            # those of about one length, padded to the longest of them
            own = lengths[order[first:]] - self._start
            size = int((np.arange(1, len(own) + 1) * own * templates <= _TOKENS).sum()) or 1
            chosen = order[first : first + size]
            rows = np.ascontiguousarray(tokens[chosen, ..., : lengths[chosen].max()])
            found.append(Batch(tuple(texts[i] for i in map(int, chosen)), rows))
            first += size
        return found

    def encode(self, batch: Batch) -> Float32[np.ndarray, "n d"]:
        """The codes of a batch, raw."""
        tokens = batch.tokens
        if tokens.ndim == 2:
            return self._features(tokens)
        count, templates, length = tokens.shape
        found = self._features(tokens.reshape(-1, length)).reshape(count, templates, -1)
        # see `codebook.ensemble`
        lengths = np.linalg.norm(found, axis=-1, keepdims=True)
        mean = (found / np.maximum(lengths, np.float32(1e-12))).mean(axis=1)
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), np.float32(1e-12))
        return mean * lengths.mean(axis=1)

    def warm_up(self) -> None:
        """There is nothing to compile."""

    def _features(self, tokens: np.ndarray) -> np.ndarray:
        """Features of texts `[n, l]`, some of which may end before the others."""
        start, length = self._start, tokens.shape[1]
        x = self._embedding[tokens[:, start:]] + self._positions[start:length]
        ends = tokens.argmax(axis=1) - start
        last = len(self._blocks) - 1
        for place, (block, seen) in enumerate(zip(self._blocks, self._prefix, strict=True)):
            x = self._through(block, x, seen, ends if place == last else None)
        pooled = _normalized(x[:, 0], self._final, self._eps)
        return pooled @ self._projection + self._projection_bias

    def _through(
        self,
        block: _Block,
        x: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray] | None,
        ends: np.ndarray | None = None,
    ) -> np.ndarray:
        """A block over `[n, l, W]`, or only over the positions `ends`.

        Args:
          seen: keys and values of what comes before, `[h, p, c]`; None for nothing.
        """
        texts, length, width = x.shape
        h = _normalized(x, block.ln_1, self._eps)
        k, v = (self._split(h, block, part) for part in (1, 2))
        # scores [n, h, q, l]: a position sees itself and those before
        sees = np.tri(length, dtype=bool)
        if ends is None:
            q, sees = self._split(h, block, 0), sees[None]
        else:
            rows = np.arange(texts)
            q, x = self._split(h[rows, ends][:, None], block, 0), x[rows, ends][:, None]
            sees = sees[ends][:, None]
        scores = np.where(sees[:, None], np.einsum("nqhc,nlhc->nhql", q, k), -np.inf)
        scale = np.float32(q.shape[-1] ** -0.5)
        if seen is not None:
            before = np.einsum("nqhc,hpc->nhqp", q, seen[0], optimize=True)
            scores = np.concatenate([before, scores], axis=-1)
        weights = softmax(scores * scale, 3)
        inside = weights[..., -length:]
        mixed = np.einsum("nhql,nlhc->nqhc", inside, v)
        if seen is not None:
            mixed += np.einsum("nhqp,hpc->nqhc", weights[..., :-length], seen[1], optimize=True)
        x = x + _linear(mixed.reshape(*x.shape[:2], width), block.out)
        hidden = _linear(_normalized(x, block.ln_2, self._eps), block.c_fc)
        return x + _linear(_gelu(self._activation, hidden), block.c_proj)

    def _split(self, x: np.ndarray, block: _Block, part: int) -> np.ndarray:
        """Queries, keys or values of every head, `[n, l, h, c]`."""
        width = x.shape[-1]
        columns = slice(part * width, (part + 1) * width)
        kernel, bias = block.qkv
        return _linear(x, (kernel[:, columns], bias[columns])).reshape(
            *x.shape[:2], self._heads, -1
        )

    def _seen_of_prefix(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys and values of the start token and the prompts in every block, `[h, p, c]`."""
        prompts = self._model.text_prompts
        learnt = None if prompts is None else np.asarray(prompts[...], np.float32)
        x = self._embedding[[SOT]]
        x = x if learnt is None else np.concatenate([x, learnt[0]])
        x = (x + self._positions[: self._start])[None]
        found = []
        for place, block in enumerate(self._blocks):
            h = _normalized(x, block.ln_1, self._eps)
            k, v = (self._split(h, block, part)[0].transpose(1, 0, 2) for part in (1, 2))
            found.append((np.ascontiguousarray(k), np.ascontiguousarray(v)))
            x = self._through(block, x, None)
            if learnt is not None and place + 1 < len(learnt):
                x[:, 1:] = learnt[place + 1]
        return found


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable[...])


def _pair(layer: Any, name: str = "kernel") -> tuple[np.ndarray, np.ndarray]:
    return _array(getattr(layer, name)), _array(layer.bias)


def _block(block: Any) -> _Block:
    norms = (_pair(one, "scale") for one in (block.ln_1, block.ln_2))
    linear = (block.attn.qkv, block.attn.out, block.c_fc, block.c_proj)
    return _Block(*norms, *map(_pair, linear))


def _linear(x: np.ndarray, layer: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    flat = x.reshape(-1, x.shape[-1]) @ layer[0]
    flat += layer[1]
    return flat.reshape(*x.shape[:-1], -1)


def _normalized(x: np.ndarray, norm: tuple[np.ndarray, np.ndarray], eps: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(eps)) * norm[0] + norm[1]


def _gelu(name: str, x: np.ndarray) -> np.ndarray:
    """See `vtd_jax.clip.layers.activation`; a sigmoid by a tanh, which cannot overflow."""
    if name == "quick_gelu":
        return x * (0.5 + 0.5 * np.tanh(np.float32(0.851) * x))
    if name == "gelu_tanh":
        inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
        return 0.5 * x * (1 + np.tanh(inner))
    # imported here: only some towers have it
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x * np.float32(np.sqrt(0.5))))
