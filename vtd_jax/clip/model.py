"""CLIP: an image tower and a text tower that share one space."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import zeros
from vtd_jax.clip.resnet import ModifiedResNet
from vtd_jax.clip.text import TextTransformer
from vtd_jax.clip.vit import VisionTransformer

if TYPE_CHECKING:
    # a benchmark on a bare machine has no tokenizer
    from vtd_jax.clip.tokenizing.gemma import GemmaTokenizer


class CLIP(nnx.Module):
    """A frozen CLIP. Parameters are float32; towers compute in `dtype` ("float32" or "bfloat16").

    `layers` says how transformers store their blocks (see `stack.layout`); a ResNet ignores it. All
    parameters are zeros until `load_clip` or `clip_from_state` fills them.

    Example:
      >>> import jax.numpy as jnp
      >>> import vtd_jax
      >>> clip = vtd_jax.load_clip("tiny")
      >>> isinstance(clip, vtd_jax.CLIP)
      True
      >>> clip.encode_text(jnp.asarray(vtd_jax.tokenize(["a red star", "a blue ring"]))).shape
      (2, 128)
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        if config.is_resnet:
            self.visual = ModifiedResNet(config, dtype=dtype)
        else:
            self.visual = VisionTransformer(config, dtype=dtype, layers=layers)
        self.text = TextTransformer(config, dtype=dtype, layers=layers)
        self.logit_scale = zeros()
        self.logit_bias = zeros() if config.design.sigmoid else None
        self.config = config
        # set by `load_clip` where it comes with the weights
        self.tokenizer: GemmaTokenizer | None = None

    def rounded(self) -> "CLIP":
        """The same CLIP for inference programs: transformer kernels in the dtype of the products.

        In bfloat16 they take half the memory and are not rounded at every call. The features are
        the same, bit for bit.
        """
        dtype = self.text.dtype
        if dtype == jnp.float32:
            return self
        graphdef, state = nnx.split(self)
        flat = {
            path: variable.replace(variable[...].astype(dtype))
            if self._is_kernel(path)
            else variable
            for path, variable in nnx.to_flat_state(state)
        }
        return nnx.merge(graphdef, nnx.from_flat_state(flat))

    def _is_kernel(self, path: tuple[Any, ...]) -> bool:
        # a ResNet scales its convolutions in float32 before it uses them
        return path[-1] in ("kernel", "patch_kernel") and not (
            path[0] == "visual" and self.config.is_resnet
        )

    def encode_images(
        self,
        images: Float[Array, "n h w 3"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "n d"]:
        """Unnormalised float32 features of normalised images; see `VisionTransformer`."""
        return self.visual(images, prompts, compute)

    def encode_text(
        self,
        tokens: Int[Array, "k l"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "k d"]:
        """Text features `[K, D]`, unnormalised float32; see `TextTransformer`."""
        return self.text(tokens, prompts, compute)
