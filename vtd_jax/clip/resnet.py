"""CLIP's ResNet image tower: three-convolution stem, anti-aliased strides, attention pooling."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vtd_jax.clip.compute import DEFAULT, Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.layers import Linear, zeros
from vtd_jax.clip.matmul import precision
from vtd_jax.errors import UserError

# a bottleneck's output has this many times the channels of its 3×3 convolution
EXPANSION = 4


class ConvNorm(nnx.Module):
    """Convolution without bias, then batch normalisation with frozen statistics.

    Attributes:
      kernel: `[h, w, in, out]`.
      scale, bias, mean, var: `[out]`, the normalisation's.
    """

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1):
        self.kernel = zeros(size, size, n_in, n_out)
        self.scale, self.bias, self.mean, self.var = (zeros(n_out) for _ in range(4))
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        """Computes in the dtype of `x`; the normalisation is folded into the kernel in float32."""
        padding = self.kernel.shape[0] // 2
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + 1e-5)
        y = jax.lax.conv_general_dilated(
            x,
            (self.kernel[...] * scale).astype(x.dtype),
            (self.stride, self.stride),
            [(padding, padding), (padding, padding)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision(x),
        )
        return y + (self.bias[...] - self.mean[...] * scale).astype(x.dtype)


class Bottleneck(nnx.Module):
    """Three convolutions added to the input; a stride is an average pool before the last one."""

    def __init__(self, n_in: int, planes: int, stride: int):
        n_out = planes * EXPANSION
        self.convs = nnx.List(
            [ConvNorm(n_in, planes, 1), ConvNorm(planes, planes, 3), ConvNorm(planes, n_out, 1)]
        )
        self.downsample = ConvNorm(n_in, n_out, 1) if stride > 1 or n_in != n_out else None
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        """Returns `4 · planes` channels at `1/stride` of the resolution."""
        first, second, third = self.convs
        y = third(_pool(jax.nn.relu(second(jax.nn.relu(first(x)))), self.stride))
        identity = x if self.downsample is None else self.downsample(_pool(x, self.stride))
        return jax.nn.relu(y + identity)


class AttentionPool(nnx.Module):
    """Multi-head attention whose one query is the mean of the feature map, which is also a key."""

    def __init__(self, grid: int, width: int, head_width: int, n_out: int):
        self.positional_embedding = zeros(1 + grid**2, width)
        self.q_proj, self.k_proj, self.v_proj = (Linear(width, width) for _ in range(3))
        self.c_proj = Linear(width, n_out)
        self.heads = width // head_width

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Returns float32: softmax and last projection are computed in it."""
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        # a bfloat16 sum over all positions would lose digits
        mean = x.astype(jnp.float32).mean(1, keepdims=True).astype(x.dtype)
        x = jnp.concatenate([mean, x], axis=1) + self.positional_embedding[...].astype(x.dtype)
        q, k, v = (
            self._heads(y.astype(x.dtype))
            for y in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        scores = jnp.einsum(
            "bnhc,bmhc->bhnm", q, k, precision=precision(q), preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores * k.shape[-1] ** -0.5, axis=-1)
        mixed = jnp.einsum(
            "bhnm,bmhc->bnhc", weights, v.astype(jnp.float32), precision=precision(weights)
        )
        return self.c_proj(mixed.reshape(x.shape[0], -1))

    def _heads(self, x: Float[Array, "n m c"]) -> Float[Array, "n m heads width"]:
        return x.reshape(*x.shape[:2], self.heads, -1)


class ModifiedResNet(nnx.Module):
    """Image tower of the RN50, RN101, RN50x4, RN50x16 and RN50x64 checkpoints (Radford et al. 2021,
    section 2.4).

    Attributes:
      stem: three 3×3 convolutions, the first of stride 2; an average pool of 2 follows them.
      layers: four stages of bottlenecks; all but the first halve the resolution.
      attnpool: features of the last map, at 1/32 of the resolution.
    """

    def __init__(self, config: CLIPConfig, *, dtype: str = "float32"):
        self.stem = nnx.List(
            [ConvNorm(n_in, n_out, 3, stride) for n_in, n_out, stride in stem(config)]
        )
        self.layers = nnx.List(
            [nnx.List([Bottleneck(*size) for size in stage]) for stage in stages(config)]
        )
        self.attnpool = AttentionPool(
            config.grid, config.vision_width * 32, config.vision_head_width, config.embed_dim
        )
        self.size, self.dtype = config.image_resolution, jnp.dtype(dtype)

    def __call__(
        self,
        images: Float[Array, "n h w 3"],
        prompts: Float[Array, "depth p width"] | None = None,
        compute: Compute = DEFAULT,
    ) -> Float[Array, "n d"]:
        """Image features, unnormalised float32.

        Args:
          images: normalised RGB at the tower's resolution.
          prompts: must be None; both kinds of tower have the same arguments.
          compute: not used: no gradient passes through this tower.

        Raises:
          UserError: prompts are given, or images are of another size.
        """
        if prompts is not None:
            raise UserError(
                "a ResNet takes no visual prompts: set visual_prompts=0, or choose a ViT checkpoint"
            )
        if images.shape[1:3] != (self.size, self.size):
            raise UserError(
                f"images are {images.shape[1]}×{images.shape[2]}, this ResNet takes "
                f"{self.size}×{self.size}"
            )
        x = images.astype(self.dtype)
        for conv in self.stem:
            x = jax.nn.relu(conv(x))
        x = _pool(x, 2)
        for stage in self.layers:
            for block in stage:
                x = block(x)
        return self.attnpool(x)


def stem(config: CLIPConfig) -> list[tuple[int, int, int]]:
    """`(input channels, output channels, stride)` of the three first convolutions, of 3×3 each."""
    width = config.vision_width
    return [(3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1)]


def stages(config: CLIPConfig) -> list[list[tuple[int, int, int]]]:
    """`(input channels, planes, stride)` of every bottleneck, by stage."""
    assert isinstance(config.vision_layers, tuple)
    stages, n_in = [], config.vision_width
    for stage, blocks in enumerate(config.vision_layers):
        planes = config.vision_width * 2**stage
        n_out = planes * EXPANSION
        stages.append(
            [(n_in, planes, 1 if stage == 0 else 2)] + [(n_out, planes, 1)] * (blocks - 1)
        )
        n_in = n_out
    return stages


def _pool(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    return x if size == 1 else nnx.avg_pool(x, (size, size), (size, size))
