"""CLIP's text tower in NumPy, for a CPU: texts of any number and length, and nothing is compiled.

XLA takes seconds to compile a program for each number and length of texts, pads texts to them, and
takes twice the CPU time of a BLAS for products as small as these. Here nothing is padded, and what
texts begin with is computed once: the start token and learnt prompts, which are those of all texts,
and the words of a template or of labels such as "playing chess" and "playing cards". The tower is
causal: a token's states depend on nothing behind it.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32, Int, Int32

from vtd_jax.app.host_model import softmax
from vtd_jax.clip.tokenizer import SOT
from vtd_jax.model.vtd_clip import VTDCLIP

# texts of a batch, and tokens at once: of fewer the products take a seventh longer
_TEXTS, _TOKENS = 200, 1024


class Batch(NamedTuple):
    """Texts that are encoded at once.

    Attributes:
      texts: that are encoded.
      tokens: of these texts.
    """

    texts: tuple[str, ...]
    tokens: Int32[np.ndarray, "..."]


class _Tree(NamedTuple):
    """Texts as a tree of their tokens: each beginning is there once.

    Attributes:
      tokens: of M nodes, those of one depth after those of the one before.
      depths: of nodes, 0 for what follows the common beginning.
      paths: of every depth, the nodes from there to the root and themselves, `[nodes, depth + 1]`.
      ends: the last node of every text.
    """

    tokens: Int[np.ndarray, " m"]
    depths: Int[np.ndarray, " m"]
    paths: tuple[Int[np.ndarray, "n d"], ...]
    ends: Int[np.ndarray, " t"]


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
        """What has to be encoded for these texts: those that begin alike at once.

        Args:
          texts: all different.

        Raises:
          UserError: a text that is too long.
        """
        tokens, found = self._model.class_tokens(texts), []
        order = self.arranged(tokens.reshape(len(texts), -1))
        for start in range(0, len(order), _TEXTS):
            chosen = order[start : start + _TEXTS]
            found.append(Batch(tuple(texts[i] for i in map(int, chosen)), tokens[chosen]))
        return found

    @staticmethod
    def arranged(tokens: Int[np.ndarray, "n l"]) -> Int[np.ndarray, " n"]:
        """An order of texts in which those that begin alike are neighbours."""
        return np.lexsort(tokens.T[::-1])

    def encode(self, batch: Batch) -> Float32[np.ndarray, "n d"]:
        """The codes of a batch, raw."""
        tokens = batch.tokens
        rows = tokens.reshape(-1, tokens.shape[-1])
        # texts of one template begin alike
        order = self.arranged(rows)
        found = np.empty((len(rows), self._projection.shape[1]), np.float32)
        lengths = rows.argmax(axis=1)[order] - self._start + 1
        for some in _portions(lengths):
            chosen = order[some]
            found[chosen] = self._features(_tree(rows[chosen, self._start :], lengths[some]))
        if tokens.ndim == 2:
            return found
        found = found.reshape(*tokens.shape[:2], -1)
        # see `codebook.ensemble`
        lengths = np.linalg.norm(found, axis=-1, keepdims=True)
        mean = (found / np.maximum(lengths, np.float32(1e-12))).mean(axis=1)
        mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), np.float32(1e-12))
        return mean * lengths.mean(axis=1)

    def warm_up(self) -> None:
        """There is nothing to compile."""

    def _features(self, tree: _Tree) -> np.ndarray:
        """Features of the texts of a tree."""
        x = self._embedding[tree.tokens] + self._positions[self._start + tree.depths]
        last = len(self._blocks) - 1
        for place, (block, seen) in enumerate(zip(self._blocks, self._prefix, strict=True)):
            x = self._through(block, x, tree, seen, place == last)
        pooled = _normalized(x, self._final, self._eps)
        return pooled @ self._projection + self._projection_bias

    def _through(
        self,
        block: _Block,
        x: np.ndarray,
        tree: _Tree,
        seen: tuple[np.ndarray, np.ndarray] | None,
        is_last: bool,
    ) -> np.ndarray:
        """A block over the nodes of a tree `[m, W]`; the last one only over ends of texts.

        Args:
          seen: keys and values of what comes before, `[h, p, c]`; None for nothing.
        """
        width, heads = x.shape[1], self._heads
        qkv = _linear(_normalized(x, block.ln_1, self._eps), block.qkv)
        q, k, v = (part.reshape(len(x), heads, -1) for part in np.split(qkv, 3, axis=1))
        scale = np.float32(q.shape[-1] ** -0.5)
        before = None if seen is None else np.einsum("mhc,hpc->mhp", q, seen[0], optimize=True)
        mixed, first = np.empty_like(q), 0
        for path in tree.paths:
            # a node sees itself and those before, not what else begins as it does
            nodes = slice(first, first + len(path))
            first += len(path)
            scores = np.einsum("nhc,nlhc->nhl", q[nodes], k[path])
            if before is not None:
                scores = np.concatenate([before[nodes], scores], axis=-1)
            weights = softmax(scores * scale, 2)
            mixed[nodes] = np.einsum("nhl,nlhc->nhc", weights[..., -path.shape[1] :], v[path])
            if before is not None:
                before[nodes] = weights[..., : -path.shape[1]]
        if seen is not None and before is not None:
            mixed += np.einsum("mhp,hpc->mhc", before, seen[1], optimize=True)
        mixed = mixed.reshape(len(x), width)
        if is_last:
            mixed, x = mixed[tree.ends], x[tree.ends]
        x = x + _linear(mixed, block.out)
        hidden = _linear(_normalized(x, block.ln_2, self._eps), block.c_fc)
        x += _linear(_gelu(self._activation, hidden), block.c_proj)
        return x

    def _seen_of_prefix(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys and values of the start token and the prompts in every block, `[h, p, c]`."""
        prompts = self._model.text_prompts
        learnt = None if prompts is None else np.asarray(prompts[...], np.float32)
        x = self._embedding[[SOT]]
        x = x if learnt is None else np.concatenate([x, learnt[0]])
        x = x + self._positions[: self._start]
        # one text
        chain = tuple(np.arange(depth + 1)[None] for depth in range(len(x)))
        whole, found = _Tree(np.arange(len(x)), np.arange(len(x)), chain, np.arange(len(x))), []
        for place, block in enumerate(self._blocks):
            qkv = _linear(_normalized(x, block.ln_1, self._eps), block.qkv)
            _, k, v = (part.reshape(len(x), self._heads, -1) for part in np.split(qkv, 3, axis=1))
            found.append((_by_head(k), _by_head(v)))
            x = self._through(block, x, whole, None, False)
            if learnt is not None and place + 1 < len(learnt):
                x[1:] = learnt[place + 1]
        return found


def _portions(lengths: Int[np.ndarray, " n"]) -> Iterator[slice]:
    """Parts of texts in their order, of about `_TOKENS` tokens each."""
    part = np.cumsum(lengths) // _TOKENS
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(lengths)]
    yield from (slice(first, end) for first, end in itertools.pairwise(edges))


def _tree(rows: Int[np.ndarray, "t l"], lengths: Int[np.ndarray, " t"]) -> _Tree:
    """The tree of texts of these lengths."""
    tokens, depths, paths = [], [], []
    ends, nodes, count = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64), 0
    above = np.zeros((1, 0), np.int64)
    for depth in range(int(lengths.max())):
        alive = np.flatnonzero(lengths > depth)
        # `nodes`: of every text its place among those of the depth above
        pairs = nodes[alive] * (1 + int(rows.max())) + rows[alive, depth]
        _, firsts, places = np.unique(pairs, return_index=True, return_inverse=True)
        chosen = alive[firsts]
        own = np.arange(count, count + len(firsts))
        above = np.concatenate([above[nodes[chosen]], own[:, None]], axis=1)
        paths.append(above)
        tokens.append(rows[chosen, depth])
        depths.append(np.full(len(firsts), depth))
        nodes[alive] = places
        is_end = lengths[alive] == depth + 1
        ends[alive[is_end]] = own[places[is_end]]
        count += len(firsts)
    return _Tree(np.concatenate(tokens), np.concatenate(depths), tuple(paths), ends)


def _by_head(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(1, 0, 2))


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable[...])


def _pair(layer: Any, name: str = "kernel") -> tuple[np.ndarray, np.ndarray]:
    return _array(getattr(layer, name)), _array(layer.bias)


def _block(block: Any) -> _Block:
    norms = (_pair(one, "scale") for one in (block.ln_1, block.ln_2))
    linear = (block.attn.qkv, block.attn.out, block.c_fc, block.c_proj)
    return _Block(*norms, *map(_pair, linear))


def _linear(x: np.ndarray, layer: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    found = x @ layer[0]
    found += layer[1]
    return found


def _normalized(x: np.ndarray, norm: tuple[np.ndarray, np.ndarray], eps: float) -> np.ndarray:
    found = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("nd,nd->n", found, found) / np.float32(x.shape[1])
    found *= (1 / np.sqrt(variance + np.float32(eps)))[:, None]
    found *= norm[0]
    found += norm[1]
    return found


def _gelu(name: str, x: np.ndarray) -> np.ndarray:
    """See `vtd_jax.clip.layers.activation`; a sigmoid by a tanh, which cannot overflow.

    Overwrites its argument, of which most of the time at many texts would be spent.
    """
    if name == "quick_gelu":
        return _half(x, np.float32(0.851) * x, np.tanh)
    if name == "gelu_tanh":
        inner = np.square(x)
        inner *= np.float32(0.044715)
        inner += 1
        inner *= x
        inner *= np.float32(np.sqrt(2 / np.pi))
        return _half(x, inner, np.tanh)
    # imported here: only some towers have it
    from scipy.special import erf

    return _half(x, x * np.float32(np.sqrt(0.5)), erf)


def _half(x: np.ndarray, inner: np.ndarray, function: Any) -> np.ndarray:
    """`x / 2 · (1 + function(inner))`, in place."""
    function(inner, out=inner)
    inner += 1
    inner *= np.float32(0.5)
    x *= inner
    return x
