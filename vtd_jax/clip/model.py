"""CLIP: an image tower and a text tower that share one space."""

from flax import nnx
from jaxtyping import Array, Float, Int

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import zeros
from vtd_jax.clip.resnet import ModifiedResNet
from vtd_jax.clip.text import TextTransformer
from vtd_jax.clip.vit import VisionTransformer


class CLIP(nnx.Module):
    """A frozen CLIP. Parameters are float32; towers compute in `dtype` ("float32" or "bfloat16").

    `layers` lays the blocks of transformers out, see `stack.layout`; a ResNet takes no notice of it.

    Built with zeros: `vtd_jax.clip.checkpoints.load_clip` or `vtd_jax.clip.params.clip_from_state` fill it.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        if config.is_resnet:
            self.visual = ModifiedResNet(config, dtype=dtype)
        else:
            self.visual = VisionTransformer(config, dtype=dtype, layers=layers)
        self.text = TextTransformer(config, dtype=dtype, layers=layers)
        self.logit_scale = zeros()
        self.config = config

    def encode_images(
        self, images: Float[Array, "n h w 3"], prompts: Float[Array, "depth p width"] | None = None
    ) -> Float[Array, "n d"]:
        """Image features `[N, D]`, unnormalised float32, of normalised images; see `VisionTransformer`."""
        return self.visual(images, prompts)

    def encode_text(
        self, tokens: Int[Array, "k l"], prompts: Float[Array, "depth p width"] | None = None
    ) -> Float[Array, "k d"]:
        """Text features `[K, D]`, unnormalised float32; see `TextTransformer`."""
        return self.text(tokens, prompts)
