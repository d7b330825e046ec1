"""CLIP's vision transformer, with room for learnable prompt tokens."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Block, Frozen, LayerNorm, zeros
from vtd_jax.clip.matmul import precision, product
from vtd_jax.clip.stack import block_at, blocks, count, layout, recomputed, run_blocks
from vtd_jax.errors import UserError


class VisionTransformer(nnx.Module):
    """Image tower of the ViT checkpoints: patches, class token, pre-LN blocks, projection of the
    class token.

    Attributes:
      patch_kernel: `[patch·patch·3, W]`, the patch convolution as one matrix product.
      class_embedding: `[W]`.
      positional_embedding: `[1 + grid², W]`.
      proj: `[W, D]`.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32", layers: str = "auto"):
        width, patch, depth = config.vision_width, config.vision_patch_size, config.vision_layers
        # `CLIP` builds another tower for a ResNet, which has no patches and four depths
        assert isinstance(patch, int)
        assert isinstance(depth, int)
        self.patch_kernel = zeros(patch * patch * 3, width)
        self.class_embedding = zeros(width)
        self.positional_embedding = zeros(1 + config.grid**2, width)
        self.ln_pre = LayerNorm(width)
        self.blocks = blocks(config, "vision", depth, layout(layers))
        self.ln_post = LayerNorm(width)
        self.proj: Frozen = zeros(width, config.embed_dim)
        self.patch, self.grid, self.dtype = patch, config.grid, jnp.dtype(dtype)

    def embed(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n tokens width"]:
        """Class and patch tokens with positions; a `UserError` for images of another size."""
        side = self.grid * self.patch
        if images.shape[1:3] != (side, side):
            raise UserError(
                f"images are {images.shape[1]}×{images.shape[2]}, this ViT takes {side}×{side}"
            )
        # stride and kernel size are equal, so the convolution is one matrix product of patches
        patches = images.astype(self.dtype).reshape(
            -1, self.grid, self.patch, self.grid, self.patch, 3
        )
        patches = jnp.moveaxis(patches, 3, 2).reshape(images.shape[0], self.grid**2, -1)
        x = product("npi,iw->npw", patches, self.patch_kernel[...].astype(self.dtype))
        first = jnp.broadcast_to(self.class_embedding[...], (x.shape[0], 1, x.shape[2]))
        return (jnp.concatenate([first, x], axis=1) + self.positional_embedding[...]).astype(
            self.dtype
        )

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
            deep visual prompts).
          compute: `plain` and `remat` are used.
        """
        x = self.ln_pre(self.embed(images))
        if prompts is not None:
            prompts = prompts.astype(self.dtype)
            # the first prompts enter before ln_pre, the deep ones after it
            prompts = jnp.concatenate([self.ln_pre(prompts[:1]), prompts[1:]])
        tower = self._every_token if compute.plain else self._class_token
        pooled = self.ln_post(tower(x, prompts, compute.remat)[:, 0]).astype(jnp.float32)
        return jnp.matmul(pooled, self.proj[...], precision=precision(pooled))

    def _every_token(
        self, x: Float[Array, "n t w"], prompts: Float[Array, "depth p w"] | None, remat: str
    ) -> Float[Array, "n m w"]:
        """All tokens after the last block: the reference."""
        layers = count(self.blocks)
        if prompts is None:
            return run_blocks(self.blocks, x, range(layers), _alone, remat=remat)
        x = jnp.concatenate([x, _for_all(prompts[0], x)], axis=1)
        depth, length = prompts.shape[:2]

        def replacing(block: Block, x: Array, prompt: Array) -> Array:
            return jnp.concatenate([block(x)[:, :-length], _for_all(prompt, x)], axis=1)

        x = run_blocks(self.blocks, x, range(depth - 1), replacing, prompts[1:], remat)
        return run_blocks(self.blocks, x, range(depth - 1, layers), _alone, remat=remat)

    def _class_token(
        self, x: Float[Array, "n t w"], prompts: Float[Array, "depth p w"] | None, remat: str
    ) -> Float[Array, "n 1 w"]:
        """The class token after the last block.

        A block's output at the prompts is dropped where the next block replaces them, and after
        the last block. Such prompts are keys and values only, the same for all images. The last
        block computes only the class token.
        """
        last = count(self.blocks) - 1
        replaced, context = 0, None
        if prompts is not None:
            replaced = prompts.shape[0] - 1
            x = run_blocks(
                self.blocks, x, range(replaced), _beside_prompt, prompts[:replaced], remat
            )
            if replaced == last:
                context = prompts[last]
            else:
                # no block replaces these prompts, so they remain as tokens of every image
                x = jnp.concatenate([x, _for_all(prompts[replaced], x)], axis=1)
        x = run_blocks(self.blocks, x, range(replaced, last), _alone, remat=remat)

        def final(x: Array, context: Array | None) -> Array:
            return block_at(self.blocks, last)(x, context=context, rows=lambda x: x[:, :1])

        return recomputed(final, remat)(x, context)


def _alone(block: Block, x: Float[Array, "n t w"], _: None) -> Float[Array, "n t w"]:
    """A block without prompts of its own."""
    return block(x)


def _beside_prompt(
    block: Block, x: Float[Array, "n t w"], prompt: Float[Array, "p w"]
) -> Float[Array, "n t w"]:
    """A block whose prompts are keys and values only."""
    return block(x, context=prompt)


def _for_all(
    prompt: Float[Array, "p width"], x: Float[Array, "n tokens width"]
) -> Float[Array, "n p width"]:
    """One prompt for every image of the batch."""
    return jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
