"""The one table of OpenAI's tensor names, PyTorch's shapes and paths in the Flax modules."""

from typing import NamedTuple

from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.resnet import EXPANSION, stages, stem

Path = tuple[str | int, ...]


class Tensor(NamedTuple):
    """One tensor of a checkpoint.

    Attributes:
      name: OpenAI's.
      path: of attributes and indices, where it lives in `CLIP`.
      kind: how its layout changes on the way: "same", "linear" (`[out, in] -> [in, out]`), "conv"
        (`OIHW -> HWIO`) or "patch" (`OIHW -> [H·W·I, O]`).
      shape: PyTorch's.
    """

    name: str
    path: Path
    kind: str
    shape: tuple[int, ...]


def tensors(config: CLIPConfig) -> list[Tensor]:
    """Every tensor of a checkpoint of this configuration."""
    width, design = config.text_width, config.design
    return [
        *(_resnet(config) if config.is_resnet else _vit(config)),
        _same("token_embedding.weight", ("text", "token_embedding"), config.vocab_size, width),
        _same(
            "positional_embedding", ("text", "positional_embedding"), config.context_length, width
        ),
        *_blocks("transformer", ("text",), config.text_layers, width, config.text_mlp_width),
        *_norm("ln_final", ("text", "ln_final"), width),
        _same("text_projection", ("text", "text_projection"), width, config.embed_dim),
        *_where(
            design.text_projection_bias,
            _same("text_projection_bias", ("text", "text_projection_bias"), config.embed_dim),
        ),
        _same("logit_scale", ("logit_scale",)),
        *_where(design.sigmoid, _same("logit_bias", ("logit_bias",))),
    ]


def tensor_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """PyTorch shape of every tensor of a checkpoint of this configuration, by OpenAI's name."""
    return {tensor.name: tensor.shape for tensor in tensors(config)}


def _vit(config: CLIPConfig) -> list[Tensor]:
    width, patch, at = config.vision_width, config.vision_patch_size, ("visual",)
    layers = config.vision_layers
    assert isinstance(patch, int)
    assert isinstance(layers, int)
    design, embedding = config.design, "positional_embedding"
    out = [
        Tensor("visual.conv1.weight", (*at, "patch_kernel"), "patch", (width, 3, patch, patch)),
        *_where(design.patch_bias, _same("visual.conv1.bias", (*at, "patch_bias"), width)),
        *_where(
            design.class_token, _same("visual.class_embedding", (*at, "class_embedding"), width)
        ),
        _same(f"visual.{embedding}", (*at, embedding), design.class_token + config.grid**2, width),
        *_where(design.pre_norm, *_norm("visual.ln_pre", (*at, "ln_pre"), width)),
        *_blocks("visual.transformer", at, layers, width, config.vision_mlp_width),
        *_norm("visual.ln_post", (*at, "ln_post"), width),
    ]
    if design.pooling == "attention":
        out += _pool(width, design.pooling_mlp_width)
    if design.image_projection:
        out.append(_same("visual.proj", (*at, "proj"), width, config.embed_dim))
    if design.image_projection_bias:
        out.append(_same("visual.proj_bias", (*at, "proj_bias"), config.embed_dim))
    return out


def _pool(width: int, hidden: int) -> list[Tensor]:
    """Attention pooling under the names of Meta's PE, which extend OpenAI's."""
    name, path = "visual.attn_pool", ("visual", "pool")
    return [
        _same(f"{name}.probe", (*path, "probe"), 1, 1, width),
        *_attention(f"{name}.attn", (*path, "qkv"), (*path, "out"), width),
        *_norm(f"{name}.layernorm", (*path, "layernorm"), width),
        *_linear(f"{name}.mlp.c_fc", (*path, "c_fc"), width, hidden),
        *_linear(f"{name}.mlp.c_proj", (*path, "c_proj"), hidden, width),
    ]


def _blocks(prefix: str, at: Path, layers: int, width: int, mlp_width: int | None) -> list[Tensor]:
    out, hidden = [], mlp_width or 4 * width
    for i in range(layers):
        name, path = f"{prefix}.resblocks.{i}", (*at, "blocks", i)
        attention = (*path, "attn")
        out += [
            *_norm(f"{name}.ln_1", (*path, "ln_1"), width),
            *_attention(f"{name}.attn", (*attention, "qkv"), (*attention, "out"), width),
            *_norm(f"{name}.ln_2", (*path, "ln_2"), width),
            *_linear(f"{name}.mlp.c_fc", (*path, "c_fc"), width, hidden),
            *_linear(f"{name}.mlp.c_proj", (*path, "c_proj"), hidden, width),
        ]
    return out


def _attention(name: str, qkv: Path, out: Path, width: int) -> list[Tensor]:
    return [
        Tensor(f"{name}.in_proj_weight", (*qkv, "kernel"), "linear", (3 * width, width)),
        _same(f"{name}.in_proj_bias", (*qkv, "bias"), 3 * width),
        *_linear(f"{name}.out_proj", out, width, width),
    ]


def _resnet(config: CLIPConfig) -> list[Tensor]:
    out, at = [], ("visual",)
    for i, (n_in, n_out, _) in enumerate(stem(config)):
        names = f"visual.conv{i + 1}", f"visual.bn{i + 1}"
        out += _conv_norm(*names, (*at, "stem", i), (n_out, n_in, 3, 3))
    for s, stage in enumerate(stages(config)):
        for b, (n_in, planes, stride) in enumerate(stage):
            out += _bottleneck(
                f"visual.layer{s + 1}.{b}", (*at, "layers", s, b), n_in, planes, stride
            )
    name, path, width = "visual.attnpool", (*at, "attnpool"), config.vision_width * 32
    embedding = "positional_embedding"
    out.append(_same(f"{name}.{embedding}", (*path, embedding), 1 + config.grid**2, width))
    for part in ("q_proj", "k_proj", "v_proj"):
        out += _linear(f"{name}.{part}", (*path, part), width, width)
    return out + _linear(f"{name}.c_proj", (*path, "c_proj"), width, config.embed_dim)


def _bottleneck(name: str, path: Path, n_in: int, planes: int, stride: int) -> list[Tensor]:
    out, n_out = [], planes * EXPANSION
    shapes = [(planes, n_in, 1, 1), (planes, planes, 3, 3), (n_out, planes, 1, 1)]
    for i, shape in enumerate(shapes):
        out += _conv_norm(f"{name}.conv{i + 1}", f"{name}.bn{i + 1}", (*path, "convs", i), shape)
    if stride > 1 or n_in != n_out:
        names = f"{name}.downsample.0", f"{name}.downsample.1"
        out += _conv_norm(*names, (*path, "downsample"), (n_out, n_in, 1, 1))
    return out


def _conv_norm(conv: str, norm: str, path: Path, shape: tuple[int, ...]) -> list[Tensor]:
    parts = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    return [
        Tensor(f"{conv}.weight", (*path, "kernel"), "conv", shape),
        *(_same(f"{norm}.{theirs}", (*path, ours), shape[0]) for theirs, ours in parts.items()),
    ]


def _norm(name: str, path: Path, width: int) -> list[Tensor]:
    return [
        _same(f"{name}.weight", (*path, "scale"), width),
        _same(f"{name}.bias", (*path, "bias"), width),
    ]


def _linear(name: str, path: Path, n_in: int, n_out: int) -> list[Tensor]:
    return [
        Tensor(f"{name}.weight", (*path, "kernel"), "linear", (n_out, n_in)),
        _same(f"{name}.bias", (*path, "bias"), n_out),
    ]


def _where(there: bool, *found: Tensor) -> tuple[Tensor, ...]:
    return found if there else ()


def _same(name: str, path: Path, *shape: int) -> Tensor:
    return Tensor(name, path, "same", shape)
