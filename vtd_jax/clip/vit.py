"""CLIP's vision transformer, with room for learnable prompt tokens."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen, LayerNorm, blocks, precision, run_block, zeros
from vtd_jax.errors import UserError


class VisionTransformer(nnx.Module):
    """Image tower of the ViT checkpoints: patches, class token, pre-LN blocks, projection of the class token.

    Attributes:
      patch_kernel: `[patch·patch·3, W]`, the patch convolution as one matrix product.
      class_embedding: `[W]`.
      positional_embedding: `[1 + grid², W]`.
      proj: `[W, D]`.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32"):
        width, patch = config.vision_width, config.vision_patch_size
        self.patch_kernel = zeros(patch * patch * 3, width)
        self.class_embedding = zeros(width)
        self.positional_embedding = zeros(1 + config.grid**2, width)
        self.ln_pre = LayerNorm(width)
        self.blocks = blocks(config, width, config.vision_head_width, config.vision_layers)
        self.ln_post = LayerNorm(width)
        self.proj: Frozen = zeros(width, config.embed_dim)
        self.patch, self.grid, self.dtype = patch, config.grid, jnp.dtype(dtype)
        self.remat = "none"

    def embed(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n tokens width"]:
        """Class token and patch tokens with positions, before `ln_pre`; images of another size are a `UserError`."""
        side = self.grid * self.patch
        if images.shape[1:3] != (side, side):
            raise UserError(f"images are {images.shape[1]}×{images.shape[2]}, this ViT takes {side}×{side}")
        patches = images.astype(self.dtype).reshape(-1, self.grid, self.patch, self.grid, self.patch, 3)
        patches = jnp.moveaxis(patches, 3, 2).reshape(images.shape[0], self.grid**2, -1)
        x = jnp.matmul(patches, self.patch_kernel[...].astype(self.dtype), precision=precision(patches))
        first = jnp.broadcast_to(self.class_embedding[...].astype(self.dtype), (x.shape[0], 1, x.shape[2]))
        return jnp.concatenate([first, x], axis=1) + self.positional_embedding[...].astype(self.dtype)

    def __call__(
        self, images: Float[Array, "n h w 3"], prompts: Float[Array, "depth p width"] | None = None
    ) -> Float[Array, "n d"]:
        """Image features, unnormalised float32.

        Args:
          images: normalised RGB at the tower's resolution.
          prompts: learnable tokens a layer. Row 0 is appended after the patch tokens, before `ln_pre`; row i takes
            the place of the last P activations before block i (VTD-CLIP's deep visual prompts).
        """
        x = self.embed(images)
        if prompts is not None:
            prompts = prompts.astype(self.dtype)
            x = jnp.concatenate([x, _rows(prompts[0], x)], axis=1)
        x = self.ln_pre(x)
        for i, block in enumerate(self.blocks):
            if prompts is not None and 0 < i < prompts.shape[0]:
                x = jnp.concatenate([x[:, : -prompts.shape[1]], _rows(prompts[i], x)], axis=1)
            x = run_block(block, x, None, self.remat)
        pooled = self.ln_post(x[:, 0]).astype(jnp.float32)
        return jnp.matmul(pooled, self.proj[...], precision=precision(pooled))


def _rows(prompt: Float[Array, "p width"], x: Float[Array, "n tokens width"]) -> Float[Array, "n p width"]:
    """One prompt for every image of the batch."""
    return jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
