"""VTD-CLIP: composition only; the ideas are in the files beside this one."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Int32, Key, UInt8

from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.model import CLIP
from vtd_jax.clip.vit import VisionTransformer
from vtd_jax.errors import UserError
from vtd_jax.model import discretize, fast_discretize, fast_fusion, fusion, ties
from vtd_jax.model.axes import WHOLE, Axes
from vtd_jax.model.codebook import class_tokens, ensemble, template_tokens, trim
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.normalization import as_images
from vtd_jax.model.output import Output
from vtd_jax.model.preprocess import check_preprocess, scaling
from vtd_jax.model.prompts import Prompt, text_prompts, visual_prompts

Frames = (
    UInt8[Array, "b t h w 3"]
    | UInt8[np.ndarray, "b t h w 3"]
    | Float[Array, "b t h w 3"]
    | Float[np.ndarray, "b t h w 3"]
)
ClassTokens = (
    Int[Array, "k l"] | Int[np.ndarray, "k l"] | Int[Array, "k m l"] | Int[np.ndarray, "k m l"]
)


class VTDCLIP(nnx.Module):
    """A frozen CLIP with learnable prompts, discretization and confidence-aware fusion (arXiv
    2503.18407).

    The codebook is an argument, not state: base, novel and users' own classes differ only in the
    encoded names. Learnable variables are `nnx.Param` (prompts its subclass `Prompt`), frozen ones
    `vtd_jax.clip.layers.Frozen`. Settings are given here and never change: `with_compute` and
    `with_pooling` return another model.

    Example:
      >>> import numpy as np
      >>> import vtd_jax
      >>> from flax import nnx
      >>> config = vtd_jax.ModelConfig(text_depth=2, visual_depth=2)
      >>> model = vtd_jax.VTDCLIP(vtd_jax.load_clip("tiny"), config, rngs=nnx.Rngs(0))
      >>> codebook = model.encode_classes(model.class_tokens(["red star", "blue ring"]))
      >>> videos = np.zeros((1, 2, 64, 64, 3), np.uint8)
      >>> model(videos, codebook).confidence.shape
      (1, 2, 2)
    """

    def __init__(
        self,
        clip: CLIP,
        config: ModelConfig,
        *,
        rngs: nnx.Rngs,
        compute: Compute = DEFAULT,
        preprocess: str = "release",
    ):
        """
        Args:
          clip: frozen.
          config: of the method.
          rngs: of what is learnt.
          compute: how.
          preprocess: what its frames go through before: "release" or "clip" (docs/method.md,
            section 6). Read by whoever makes the frames.
        """
        check_preprocess(preprocess, config.normalization)
        self.clip, self.config, self.compute = clip, config, compute
        self.preprocess = preprocess
        self.text_prompts = self._text_prompts(rngs)
        self.visual_prompts = self._visual_prompts(rngs)
        self.fusion = self._fusion(rngs)
        self.logit_scale = nnx.Param(clip.logit_scale[...])

    def with_compute(self, compute: Compute) -> "VTDCLIP":
        """The same model, computed in another way; its arrays are those of this one."""
        model = nnx.merge(*nnx.split(self))
        model.compute = compute
        return model

    def with_pooling(self, pooling: str) -> "VTDCLIP":
        """The same model with another `ModelConfig.pooling`; its arrays are those of this one."""
        model = nnx.merge(*nnx.split(self))
        model.config = dataclasses.replace(self.config, pooling=pooling)
        return model

    def with_temperature(self, temperature: float) -> "VTDCLIP":
        """The same model with another `ModelConfig.temperature`; its arrays are those of this one.

        Raises:
          UserError: a temperature out of range.
        """
        model = nnx.merge(*nnx.split(self))
        model.config = dataclasses.replace(self.config, temperature=temperature)
        return model

    @property
    def clip_settings(self) -> str:
        """Settings of the CLIP that no weight shows, as text. A run resumes only with the same."""
        clip = self.clip.config
        heads = f"{clip.vision_head_width} and {clip.text_head_width}"
        images = str(clip.preprocessing)
        if self.preprocess == "clip":
            images += f", preprocess=clip ({clip.preprocessing.interpolation})"
        design = f", {clip.design.differences}" if clip.design.differences else ""
        design += f", {self.clip.tokenizer}" if self.clip.tokenizer else ""
        return (
            f"activation {clip.activation}, attention heads of {heads}, images of {images}{design}"
        )

    @property
    def scaling(self) -> dict[str, Any]:
        """How its frames are scaled, as arguments of `vtd_jax.video.scaling.fit.Fit`."""
        return scaling(self.preprocess, self.config.normalization, self.clip.config.preprocessing)

    def attention_implementations(self, length: int) -> dict[str, str]:
        """How each tower computes attention here: "texts" and, of a ViT, "frames" -> "xla",
        "pallas" or "cudnn".

        Args:
          length: L, tokens of the texts.
        """
        clip, config, visual, how = self.clip, self.config, self.clip.visual, {}
        if isinstance(visual, VisionTransformer):
            how["frames"] = visual.attention_implementation(self.compute, config.visual_prompts)
        text = clip.text.attention_implementation(self.compute, length, config.text_prompts)
        return how | {"texts": text}

    def rounded(self) -> "VTDCLIP":
        """The same model for inference programs: see `CLIP.rounded`."""
        model = nnx.merge(*nnx.split(self))
        model.clip = self.clip.rounded()
        return model

    def _text_prompts(self, rngs: nnx.Rngs) -> Prompt | None:
        length, depth = self.config.text_prompts, self.config.text_depth
        return Prompt(text_prompts(self.clip, length, depth, rngs.params())) if length else None

    def _visual_prompts(self, rngs: nnx.Rngs) -> Prompt | None:
        length, depth = self.config.visual_prompts, self.config.visual_depth
        return Prompt(visual_prompts(self.clip, length, depth, rngs.params())) if length else None

    def _fusion(self, rngs: nnx.Rngs) -> fusion.Fusion | None:
        config, width = self.config, self.clip.config.embed_dim
        if not config.fusion:
            return None
        if width % config.fusion_heads:
            raise UserError(
                f"model.fusion_heads={config.fusion_heads}: expected a divisor of the embedding "
                f"width {width}"
            )
        return fusion.Fusion(
            width, config.fusion_heads, dropout=config.dropout, init=config.fusion_init, rngs=rngs
        )

    def class_tokens(
        self, names: Sequence[str]
    ) -> Int32[np.ndarray, "k l"] | Int32[np.ndarray, "k m l"]:
        """Token ids of the class prompts: `[K, L]`, with M templates `[K, M, L]`.

        Trimmed behind the longest text where nothing there can reach a result.
        """
        # imported late: a benchmark on a bare machine has no tokenizer
        from vtd_jax.clip.tokenizer import EOT

        clip = self.clip.config
        given, least, whose = self.clip.tokenizer, EOT + 1, "CLIP's"
        if clip.design.tokenizer != "clip":
            if given is None:
                raise UserError(
                    "this CLIP was made without its tokenizer, which comes with the weights: use "
                    "load_clip"
                )
            least, whose = given.vocab_size, "its"
        if clip.vocab_size < least:
            raise UserError(
                f"this CLIP has {clip.vocab_size} tokens, {whose} tokenizer has {least}: it "
                "was trained with another one, which is not supported"
            )
        how: Any = dict(tokenizer=given, context_length=clip.context_length)
        if self.config.templates:
            tokens = template_tokens(names, self.config.templates, **how)
        else:
            tokens = class_tokens(names, self.config.text_prompts, **how)
        return trim(tokens) if clip.design.causal else tokens

    def encode_classes(self, tokens: ClassTokens) -> Float[Array, "k d"]:
        """The codebook: raw text features of `class_tokens(names)` behind the learned context.

        Args:
          tokens: `[K, L]`; or `[K, M, L]`, of which the M texts of a class become one code. These
            are encoded one text a class at a time, so memory is that of K texts.
        """
        tokens = jnp.asarray(tokens)
        prompts = None if self.text_prompts is None else self.text_prompts[...]

        def encode(texts: Array) -> Array:
            return self.clip.encode_text(texts, prompts, self.compute)

        if tokens.ndim == 2:
            return encode(tokens)
        return ensemble(jax.lax.map(encode, jnp.moveaxis(tokens, 1, 0)))

    def encode_frames(self, frames: Frames) -> Float[Array, "b t d"]:
        """Raw frame features.

        Args:
          frames: `[B, T, H, W, 3]` RGB at the tower's resolution: uint8 (normalised here, on the
            device), or floating and already normalised.
        """
        frames = jnp.asarray(frames)
        if self.compute.frame_chunks == 1:
            return self._encode(frames)
        batch, count, *image = frames.shape
        chunks = frames.reshape(batch, self.compute.frame_chunks, -1, *image)
        # one chunk after another: only one has activations in memory
        features = jax.lax.map(jax.checkpoint(self._encode), jnp.moveaxis(chunks, 1, 0))
        return jnp.moveaxis(features, 0, 1).reshape(batch, count, -1)

    def _encode(self, frames: Array) -> Array:
        """All of `[B, T, H, W, 3]` at once."""
        prompts = None if self.visual_prompts is None else self.visual_prompts[...]
        images = frames.reshape(-1, *frames.shape[2:])
        if self.compute.device == "tpu":
            # else the layout of merged axes is made of float32, four times the bytes
            images = jax.lax.optimization_barrier(images)
        images = as_images(images, self.config.normalization, self.clip.config.preprocessing)
        features = self.clip.encode_images(images, prompts, self.compute)
        return features.reshape(*frames.shape[:2], -1)

    def __call__(
        self,
        frames: Frames,
        codebook: Float[Array, "k d"],
        *,
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> Output:
        """Frames and codebook to logits; `dropout_keys` (one a video) in training only."""
        return self.classify(self.encode_frames(frames), codebook, dropout_keys=dropout_keys)

    def classify(
        self,
        features: Float[Array, "b t d"],
        codebook: Float[Array, "k d"],
        *,
        dropout_keys: Key[Array, " b"] | None = None,
        axes: Axes = WHOLE,
    ) -> Output:
        """The part behind the towers: discretization, fusion, logits.

        Args:
          features: raw features of all frames.
          codebook: raw codes; this device's share of them where `axes` splits the codebook.
          dropout_keys: one a video, in training only.
          axes: how classes are split; `k` is this device's share in everything that comes back.
        """
        # several video tokens may be codes without votes, which only counting every code finds
        if self.compute.plain or self.config.top_n > 1:
            return self._classify_plainly(features, codebook, dropout_keys, axes)
        config = self.config
        named = fast_discretize.name_frames(features, codebook, config, axes)
        codes = named.codebook
        if named.compared is not None:
            weights = named.compared.weights
        else:
            # XLA drops this where a program does not return the confidence
            weights = discretize.confidence(
                discretize.cosine(features, codes), config.temperature, config.confidence
            )
        if config.pooling == "confidence":
            fused = self._fuse(features, named.token, dropout_keys)
            logits = jnp.exp(self.logit_scale[...]) * fast_fusion.mean_cosines(fused, named, config)
        else:
            logits, _ = self.score(
                features, codes, weights, named.token, dropout_keys=dropout_keys, axes=axes
            )
        votes = fast_discretize.votes_of_classes(named, axes)
        return Output(logits, weights, named.assignment, votes, named.token, features, named.tied)

    def _classify_plainly(
        self, features: Array, codebook: Array, keys: Array | None, axes: Axes
    ) -> Output:
        """The plain reference of `classify`."""
        config, worth = self.config, self.config.votes
        similarity = discretize.cosine(features, codebook)
        weights = discretize.confidence(similarity, config.temperature, config.confidence)
        assignment = discretize.assign(features, codebook, similarity, config.assignment, axes)
        votes = discretize.count_votes(assignment, weights, axes, worth)
        tally = discretize.tally(assignment, weights, axes)
        rule = tally if config.ties == "frames" else None
        tokens = discretize.video_tokens(votes, codebook, config.top_n, axes, rule, worth)
        logits, _ = self.score(features, codebook, weights, tokens, dropout_keys=keys, axes=axes)
        tied = ties.tied(tally, axes, worth)
        return Output(logits, weights, assignment, votes, tokens, features, tied)

    def _fuse(self, features: Array, token: Array, dropout_keys: Array | None) -> fast_fusion.Fused:
        """Frames with their video token in them: without dropout one vector a video."""
        if self.fusion is None:
            return fast_fusion.unfused(features)
        if dropout_keys is not None and self.fusion.dropout > 0:
            return fast_fusion.given(features, self.fusion(features, token, dropout_keys))
        return fast_fusion.shifted(features, self.fusion.shift(token))

    def score(
        self,
        features: Float[Array, "b t d"],
        codebook: Float[Array, "k d"],
        weights: Float[Array, "b t k"],
        tokens: Float[Array, "b n d"],
        *,
        dropout_keys: Key[Array, " b"] | None = None,
        axes: Axes = WHOLE,
    ) -> tuple[Float[Array, "b k"], Float[Array, "b t d"]]:
        """The part behind discretization: logits, and the fused frames that they are of.

        Args:
          features, codebook, dropout_keys, axes: as for `classify`.
          weights: confidence of every frame for every class.
          tokens: raw video tokens, of this codebook or of any other words.
        """
        config = self.config
        fused = features if self.fusion is None else self.fusion(features, tokens, dropout_keys)
        scale = jnp.exp(self.logit_scale[...])
        if config.pooling == "confidence":
            logits = fusion.confidence_logits(fused, codebook, weights, scale)
        elif config.pooling == "mean":
            logits = fusion.mean_logits(fused, codebook, scale)
        else:
            logits = fusion.softmax_mean_logits(fused, codebook, scale, axes)
        return logits, fused


def learnable(model: VTDCLIP) -> nnx.State:
    """The learnable variables only."""
    return nnx.state(model, nnx.Param)


def learnable_count(model: VTDCLIP) -> int:
    """How many learnable numbers there are."""
    return sum(x.size for x in jax.tree.leaves(learnable(model)))
