"""The vision transformer of CLIP, SigLIP and PE, with room for learnable prompt tokens."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.attention import cudnn
from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen, LayerNorm, zeros
from vtd_jax.clip.matmul import precision, product
from vtd_jax.clip.stack import attention_implementation, blocks, layout
from vtd_jax.clip.towers.pooling import AttentionPool
from vtd_jax.clip.towers.rotary import grid_rotation
from vtd_jax.clip.towers.rows import every_token, wanted_tokens
from vtd_jax.errors import UserError


class VisionTransformer(nnx.Module):
    """Image tower of the ViT checkpoints: patches, class token, pre-LN blocks, pooling, projection.

    What a `Design` leaves out is None.

    Attributes:
      patch_kernel: `[patch·patch·3, W]`, the patch convolution as one matrix product.
      patch_bias: `[W]`.
      class_embedding: `[W]`.
      positional_embedding: `[1 + grid², W]`, without a class token `[grid², W]`.
      proj: `[W, D]`.
      proj_bias: `[D]`.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        width, patch, depth = config.vision_width, config.vision_patch_size, config.vision_layers
        design = config.design
        # `CLIP` builds another tower for a ResNet, which has no patches and four depths
        assert isinstance(patch, int)
        assert isinstance(depth, int)
        self.patch_kernel = zeros(patch * patch * 3, width)
        self.patch_bias = zeros(width) if design.patch_bias else None
        self.class_embedding = zeros(width) if design.class_token else None
        self.positional_embedding = zeros(design.class_token + config.grid**2, width)
        self.ln_pre = LayerNorm(width, design.norm_eps) if design.pre_norm else None
        self.blocks = blocks(config, "vision", depth, layout(layers))
        self.ln_post = LayerNorm(width, design.norm_eps)
        self.pool = _pool(config)
        projected = design.image_projection
        self.proj: Frozen | None = zeros(width, config.embed_dim) if projected else None
        self.proj_bias = zeros(config.embed_dim) if design.image_projection_bias else None
        self.patch, self.grid, self.dtype = patch, config.grid, jnp.dtype(dtype)
        self.side, self.filled = config.image_resolution, config.filled
        self.rotary_width = config.vision_head_width if design.rotary else 0

    def embed(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n tokens width"]:
        """Class and patch tokens with positions; a `UserError` for images of another size."""
        if images.shape[1:3] != (self.side, self.side):
            raise UserError(
                f"images are {images.shape[1]}×{images.shape[2]}, this ViT takes "
                f"{self.side}×{self.side}"
            )
        # a convolution without padding leaves out what fills no patch
        images = images[:, : self.filled, : self.filled].astype(self.dtype)
        # stride and kernel size are equal, so it is one matrix product of patches
        patches = images.reshape(-1, self.grid, self.patch, self.grid, self.patch, 3)
        patches = jnp.moveaxis(patches, 3, 2).reshape(images.shape[0], self.grid**2, -1)
        x = product("npi,iw->npw", patches, self.patch_kernel[...].astype(self.dtype))
        if self.patch_bias is not None:
            x = x + self.patch_bias[...]
        if self.class_embedding is not None:
            first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([first, x], axis=1)
        return (x + self.positional_embedding[...]).astype(self.dtype)

    def __call__(
        self,
        images: Float[Array, "n h w 3"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "n d"]:
        """Image features, unnormalised float32.

        Args:
          images: normalised RGB at the tower's resolution.
          prompts: learnable tokens a layer. Row 0 is appended after the patch tokens, before
            `ln_pre`; row i takes the place of the last P activations before block i (VTD-CLIP's
            deep visual prompts). Attention pooling looks at the image's own tokens only.
          compute: all but `frame_chunks` is used.
        """
        x = self._normalized(self.embed(images))
        if prompts is not None:
            prompts = prompts.astype(self.dtype)
            # the first prompts enter before ln_pre, the deep ones after it
            prompts = jnp.concatenate([self._normalized(prompts[:1]), prompts[1:]])
        rotation = None
        if self.rotary_width:
            class_token = self.class_embedding is not None
            rotation = grid_rotation(self.grid, self.rotary_width, class_token)
        if compute.plain:
            x = every_token(self.blocks, x, prompts, compute, rotation)
        else:
            rows = _first if self.pool is None else None
            x = wanted_tokens(self.blocks, x, prompts, compute, rows, rotation)
        if self.pool is None:
            pooled = self.ln_post(x[:, 0])
        else:
            pooled = self.pool(self.ln_post(x), plain=compute.plain, device=compute.device)
        return self._projected(pooled.astype(jnp.float32))

    def _normalized(self, x: Float[Array, "n t w"]) -> Float[Array, "n t w"]:
        return x if self.ln_pre is None else self.ln_pre(x)

    def attention_implementation(self, compute: Compute, prompts: int = 0) -> str:
        """How attention of frames with so many prompts is computed."""
        tokens = self.positional_embedding.shape[0] + prompts
        tokens += cudnn.padding(tokens)
        return attention_implementation(self.blocks, compute, tokens, self.dtype)

    def _projected(self, pooled: Float[Array, "n w"]) -> Float[Array, "n d"]:
        if self.proj is None:
            return pooled
        features = jnp.matmul(pooled, self.proj[...], precision=precision(pooled))
        return features if self.proj_bias is None else features + self.proj_bias[...]


def _pool(config: CLIPConfig) -> AttentionPool | None:
    design = config.design
    if design.pooling == "class":
        return None
    return AttentionPool(
        config.vision_width,
        design.pooling_heads,
        design.pooling_mlp_width,
        config.activation,
        design.norm_eps,
    )


def _first(x: Float[Array, "n t w"]) -> Float[Array, "n 1 w"]:
    """The class token."""
    return x[:, :1]
