"""FLOPs of matrix products by formula (docs/method.md, sections 2 to 4 and 7), to check the traced
counter (`vtd_jax.cost.hlo`) with.

`plain`: every layer computes every token. Otherwise the savings that change no result: prompts
whose outputs are thrown away are keys and values only, `[SOT] ctx` runs once for all classes, last
layers compute the one token that is read. Backward passes reach the prompts and the fusion block:
activations of frozen layers get gradients, their weights none.
"""

from typing import NamedTuple

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.model.config import ModelConfig


class Flops(NamedTuple):
    """Of matrix products and convolutions in the forward and in the backward pass."""

    forward: int
    backward: int

    @property
    def both(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def times(self, count: int) -> "Flops":
        """As often."""
        return Flops(self.forward * count, self.backward * count)


NOTHING = Flops(0, 0)


def image_features(config: CLIPConfig, settings: ModelConfig, images: int, *, plain: bool) -> Flops:
    """Frame features of `images` images by a transformer."""
    width, patches = config.vision_width, config.grid**2
    if plain:
        layers = _layer(1 + patches + settings.visual_prompts, width).times(config.vision_layers)
    else:
        layers = NOTHING
        for i in range(config.vision_layers):
            layers += _fast_image_layer(config, settings, i)
    embed = Flops(2 * patches * 3 * config.vision_patch_size**2 * width, 0)
    each = embed + layers + _linear(1, width, config.embed_dim)
    whole = each.times(images)
    if not plain:
        whole += _shared_prompts(config, settings)
    return whole if settings.visual_prompts else Flops(whole.forward, 0)


def codebook(
    config: CLIPConfig, settings: ModelConfig, classes: int, length: int, *, plain: bool
) -> Flops:
    """Text features of K classes; rows of `length` tokens, of which `plain` computes all in every
    row.
    """
    width, whole = config.text_width, _linear(1, config.text_width, config.embed_dim).times(classes)
    if plain:
        whole += _layer(length, width).times(config.text_layers * classes)
        return whole if settings.text_prompts else Flops(whole.forward, 0)
    prefix = 1 + settings.text_prompts if settings.text_prompts else 0
    for i in range(config.text_layers):
        last, first = i == config.text_layers - 1, i == 0
        rows = 1 if last else length - prefix
        # at the first layer names' tokens do not depend on anything that is learnt
        queries, keys = _linear(rows, width, width), _linear(length - prefix, width, 2 * width)
        if first:
            queries, keys = Flops(queries.forward, 0), Flops(keys.forward, 0)
        attention = _attention(rows, length, width, queries_learn=not first)
        whole += (queries + keys + attention + _rest(rows, width)).times(classes)
        # the prefix is projected once for the names, and in its own layer again
        whole += _linear(prefix, width, 3 * width) + (NOTHING if last else _layer(prefix, width))
    return whole if settings.text_prompts else Flops(whole.forward, 0)


def classification(
    settings: ModelConfig,
    width: int,
    videos: int,
    frames: int,
    classes: int,
    *,
    plain: bool,
    dropout: bool,
) -> Flops:
    """Discretization, fusion and logits on given features, of the released settings with one video
    token.

    Args:
      settings: says which of features and codes prompts can change.
      width: D.
      videos, frames, classes: B, T, K; so few classes that a fast path takes all of them at once.
      plain: a product for the cosines, one for the distances, one for the logits, and fusion frame
        by frame. Otherwise no frame may be nearly cancelled by what fusion adds, which costs one
        product more.
      dropout: whether fusion drops anything, so that frames of a video get different vectors.
    """
    rows, learns, codes = (
        videos * frames,
        bool(settings.visual_prompts),
        bool(settings.text_prompts),
    )
    similarity, one = 2 * rows * classes * width, 2 * width * width
    # pulled back to those of features and codes that prompts can change
    raw = Flops(similarity, similarity * (codes + learns))
    if not plain and not dropout:
        # one vector a video (gradients of weights and of inputs, the first being a code), and its
        # product with the codes, made again backwards
        vector, of_codes = 10 * videos * one, 2 * videos * classes * width
        backward = 2 * vector - (not codes) * videos * one + (2 + codes) * of_codes
        return raw + Flops(vector + of_codes, backward)
    assigned = Flops(similarity, 0) if plain else NOTHING
    query = Flops(rows * one, rows * one * (1 + learns))
    token = Flops(videos * one, videos * one * (1 + codes)).times(2)
    mixed = Flops(4 * rows * width, 8 * rows * width)
    # out (1), fc1 and fc2 (4 each)
    rest = Flops(9 * rows * one, 18 * rows * one)
    return (
        raw + assigned + query + token + mixed + rest + Flops(similarity, similarity * (1 + codes))
    )


def _linear(rows: int, n_in: int, n_out: int) -> Flops:
    """A frozen linear layer: the backward pass is one product as large."""
    return Flops(2 * rows * n_in * n_out, 2 * rows * n_in * n_out)


def _attention(queries: int, keys: int, width: int, queries_learn: bool = True) -> Flops:
    """Scores and mixing: two products forward; backward one for each operand of both, but queries
    may need none.
    """
    product = 2 * queries * keys * width
    return Flops(2 * product, (3 + queries_learn) * product)


def _rest(rows: int, width: int) -> Flops:
    """What of a layer comes after attention: its output projection and the MLP."""
    return _linear(rows, width, 9 * width)


def _layer(rows: int, width: int) -> Flops:
    """A whole layer in which all tokens are treated the same."""
    return _linear(rows, width, 3 * width) + _attention(rows, rows, width) + _rest(rows, width)


def keys_only(config: CLIPConfig, settings: ModelConfig, layer: int) -> bool:
    """Whether the outputs of the prompts of this image layer are never read."""
    return layer <= settings.visual_depth - 2 or layer == config.vision_layers - 1


def _fast_image_layer(config: CLIPConfig, settings: ModelConfig, layer: int) -> Flops:
    """What of an image layer is done for every image."""
    width, prompts, depth = config.vision_width, settings.visual_prompts, settings.visual_depth
    last, first = layer == config.vision_layers - 1, layer == 0
    own = 1 + config.grid**2
    if prompts and not keys_only(config, settings, layer):
        return _layer(own + prompts, width)
    # prompts of a layer with rows of its own are shared by the batch; those that came through a
    # layer are not
    tokens = own if layer < depth else own + prompts
    rows = 1 if last else own
    queries, keys = _linear(rows, width, width), _linear(tokens, width, 2 * width)
    if first:
        # nothing that is learnt has reached the patches yet
        queries, keys = Flops(queries.forward, 0), Flops(keys.forward, 0)
    return (
        queries
        + keys
        + _attention(rows, own + prompts, width, queries_learn=not first)
        + _rest(rows, width)
    )


def _shared_prompts(config: CLIPConfig, settings: ModelConfig) -> Flops:
    """Projections of prompts, once for the batch: their queries are made too, as cutting them out
    costs more.
    """
    shared = sum(
        keys_only(config, settings, i)
        for i in range(min(settings.visual_depth, config.vision_layers))
    )
    return _linear(settings.visual_prompts, config.vision_width, 3 * config.vision_width).times(
        shared
    )
