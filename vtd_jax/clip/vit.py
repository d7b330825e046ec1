"""CLIP's vision transformer, with room for learnable prompt tokens."""

import dataclasses
import functools

import jax.numpy as jnp
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from vtd_jax.clip.attention import cudnn
from vtd_jax.clip.block import Block
from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Frozen, LayerNorm, zeros
from vtd_jax.clip.matmul import precision, product
from vtd_jax.clip.stack import (
    attention_implementation,
    block_at,
    blocks,
    count,
    layout,
    recomputed,
    run_blocks,
)
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
          compute: all but `frame_chunks` is used.
        """
        x = self.ln_pre(self.embed(images))
        if prompts is not None:
            prompts = prompts.astype(self.dtype)
            # the first prompts enter before ln_pre, the deep ones after it
            prompts = jnp.concatenate([self.ln_pre(prompts[:1]), prompts[1:]])
        if compute.plain:
            x = self._every_token(x, prompts, compute)
        else:
            way = self.attention_implementation(compute, 0 if prompts is None else prompts.shape[1])
            tower = self._class_token_of_rows if way == "cudnn" else self._class_token
            x = tower(x, prompts, compute)
        pooled = self.ln_post(x[:, 0]).astype(jnp.float32)
        return jnp.matmul(pooled, self.proj[...], precision=precision(pooled))

    def attention_implementation(self, compute: Compute, prompts: int = 0) -> str:
        """How attention of frames with so many prompts is computed."""
        tokens = self.positional_embedding.shape[0] + prompts
        tokens += cudnn.padding(tokens)
        return attention_implementation(self.blocks, compute, tokens, self.dtype)

    def _every_token(
        self, x: Float[Array, "n t w"], prompts: Float[Array, "depth p w"] | None, compute: Compute
    ) -> Float[Array, "n m w"]:
        """All tokens after the last block: the reference, by XLA."""
        layers, remat = count(self.blocks), compute.remat
        compute = dataclasses.replace(compute, attention="xla")
        alone = functools.partial(_alone, compute)
        if prompts is None:
            return run_blocks(self.blocks, x, range(layers), alone, remat=remat)
        x = jnp.concatenate([x, _for_all(prompts[0], x)], axis=1)
        depth, length = prompts.shape[:2]

        def replacing(block: Block, x: Array, prompt: Array) -> Array:
            return jnp.concatenate([block(x, compute)[:, :-length], _for_all(prompt, x)], axis=1)

        x = run_blocks(self.blocks, x, range(depth - 1), replacing, prompts[1:], remat)
        return run_blocks(self.blocks, x, range(depth - 1, layers), alone, remat=remat)

    def _class_token(
        self, x: Float[Array, "n t w"], prompts: Float[Array, "depth p w"] | None, compute: Compute
    ) -> Float[Array, "n 1 w"]:
        """The class token after the last block.

        A block's output at the prompts is dropped where the next block replaces them, and after
        the last block. Such prompts are keys and values only, the same for all images. The last
        block computes only the class token.
        """
        last, remat = count(self.blocks) - 1, compute.remat
        replaced, context = 0, None
        if prompts is not None:
            replaced = prompts.shape[0] - 1

            def beside(block: Block, x: Array, prompt: Array) -> Array:
                return block(x, compute, context=prompt)

            x = run_blocks(self.blocks, x, range(replaced), beside, prompts[:replaced], remat)
            if replaced == last:
                context = prompts[last]
            else:
                # no block replaces these prompts, so they remain as tokens of every image
                x = jnp.concatenate([x, _for_all(prompts[replaced], x)], axis=1)
        alone = functools.partial(_alone, compute)
        x = run_blocks(self.blocks, x, range(replaced, last), alone, remat=remat)
        return self._last_block(x, context, compute)

    def _class_token_of_rows(
        self, x: Float[Array, "n t w"], prompts: Float[Array, "depth p w"] | None, compute: Compute
    ) -> Float[Array, "n 1 w"]:
        """The same for cuDNN, whose keys and values must be of the row.

        Prompts are tokens at the end of each row, which a block with prompts of its own overwrites:
        every array keeps its length, and nothing is copied to make room for them.
        """
        last, remat, images = count(self.blocks) - 1, compute.remat, x.shape[1]
        depth, length = (1, 0) if prompts is None else prompts.shape[:2]
        tokens = images + length
        padding = cudnn.padding(tokens)
        # else XLA puts images innermost, and transposes around every attention
        x = with_layout_constraint(x, Layout(tuple(range(x.ndim))))
        x = jnp.pad(x, ((0, 0), (0, length + padding), (0, 0)))
        is_prompt = (jnp.arange(x.shape[1]) >= images)[:, None]

        def overwritten(x: Array, prompt: Array) -> Array:
            row = jnp.pad(prompt, ((images, padding), (0, 0)))
            return jnp.where(is_prompt, row, x)

        def beside(block: Block, x: Array, prompt: Array) -> Array:
            return block(overwritten(x, prompt), compute, tokens=tokens)

        def alone(block: Block, x: Array, _: None) -> Array:
            return block(x, compute, tokens=tokens)

        replaced = 0
        if prompts is not None:
            replaced = min(depth, last)
            x = run_blocks(self.blocks, x, range(replaced), beside, prompts[:replaced], remat)
        x = run_blocks(self.blocks, x, range(replaced, last), alone, remat=remat)
        if prompts is not None and depth > last:
            x = overwritten(x, prompts[last])
        return self._last_block(x[:, :tokens], None, compute)

    def _last_block(
        self, x: Float[Array, "n t w"], context: Float[Array, "p w"] | None, compute: Compute
    ) -> Float[Array, "n 1 w"]:
        """The last block at the class token."""

        def final(x: Array, context: Array | None) -> Array:
            block = block_at(self.blocks, count(self.blocks) - 1)
            return block.of_rows(x, compute, lambda x: x[:, :1], context=context)

        return recomputed(final, compute.remat)(x, context)


def _alone(compute: Compute, block: Block, x: Float[Array, "n t w"], _: None) -> Array:
    """A block without prompts of its own."""
    return block(x, compute)


def _for_all(
    prompt: Float[Array, "p width"], x: Float[Array, "n tokens width"]
) -> Float[Array, "n p width"]:
    """One prompt for every image of the batch."""
    return jnp.broadcast_to(prompt, (x.shape[0], *prompt.shape))
