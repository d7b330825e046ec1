"""The same method in PyTorch, written straightforwardly on `transformers`' CLIPModel.

Prompts enter as in the authors' release: visual prompts after the patch tokens, replaced before
each layer that has its own; the text context at positions 1..P of rows of 77. Attention is
`transformers`' default, PyTorch's `scaled_dot_product_attention`. This is the only file outside the
tests that imports PyTorch (the `parity` extra).
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig as TorchConfig
from transformers import CLIPModel

from experiments.benchmark import gemm
from experiments.benchmark.tasks import (
    CLASSIFY,
    CODEBOOK,
    EVALUATION,
    FEATURES,
    STEP,
    TASKS,
    Setting,
    random_state,
)
from experiments.benchmark.timing import Job
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.model.config import ModelConfig
from vtd_jax.model.normalization import STATISTICS
from vtd_jax.model.ties import TIE

_RENAMED = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
)
_INSIDE = (
    (".ln_", ".layer_norm"),
    (".c_fc.", ".fc1."),
    (".c_proj.", ".fc2."),
    (".attn.", ".self_attn."),
)


def transformers_state(state: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Tensors under OpenAI's names -> the state dict of `transformers.CLIPModel`."""
    out = {}
    for name, array in state.items():
        if name in ("visual.proj", "text_projection"):
            name, array = ("visual_projection" if "visual" in name else name) + ".weight", array.T
        for old, new in _RENAMED:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        for old, new in _INSIDE:
            name = name.replace(old, new)
        if ".in_proj_" in name:
            for part, share in zip("qkv", np.split(array, 3)):
                out[name.replace("in_proj_", f"{part}_proj.")] = torch.tensor(share)
        else:
            out[name] = torch.tensor(array)
    return out


def torch_clip(config: CLIPConfig, state: Mapping[str, np.ndarray]) -> CLIPModel:
    """`transformers`' model of these tensors, which are under OpenAI's names."""

    def tower(width: int, layers: int, head: int, **more: int) -> dict[str, Any]:
        return dict(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // head,
            hidden_act=config.activation,
            **more,
        )

    vision = dict(patch_size=config.vision_patch_size, image_size=config.image_resolution)
    text = dict(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.context_length,
        eos_token_id=config.vocab_size - 1,
        bos_token_id=config.vocab_size - 2,
        pad_token_id=0,
    )
    sizes = TorchConfig(
        projection_dim=config.embed_dim,
        vision_config=tower(
            config.vision_width, config.vision_layers, config.vision_head_width, **vision
        ),
        text_config=tower(config.text_width, config.text_layers, config.text_head_width, **text),
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        clip = CLIPModel(sizes)
    clip.to_empty(device="cpu")
    for part in (clip.vision_model, clip.text_model):
        # position ids are not in the checkpoint
        part.embeddings.position_ids.copy_(
            torch.arange(part.embeddings.position_ids.shape[1])[None]
        )
    clip.load_state_dict(transformers_state(state))
    return clip


class Fusion(nn.Module):
    """`x + fc2(relu(fc1(attention(query = x, key = value = video token))))`."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads, self.dropout = heads, dropout

    def forward(self, x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """`x [B,T,D]`, `token [B,n,D]` -> `[B,T,D]`."""
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.q, x), (self.k, token), (self.v, token))
        )
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        weights = functional.dropout(weights, self.dropout, self.training)
        attended = self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.fc2(functional.relu(self.fc1(attended)))


class TorchVTDCLIP(nn.Module):
    """The method of `vtd_jax.model.vtd_clip.VTDCLIP` with its released settings; CLIP is frozen."""

    def __init__(
        self,
        clip: CLIPModel,
        settings: ModelConfig,
        prompts: Mapping[str, np.ndarray],
        scale: float,
    ):
        super().__init__()
        self.clip, self.settings = clip.requires_grad_(False), settings
        self.text_prompts = nn.Parameter(torch.tensor(prompts["text"]))
        self.visual_prompts = nn.Parameter(torch.tensor(prompts["visual"]))
        self.fusion = Fusion(clip.projection_dim, settings.fusion_heads, settings.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(scale))
        for name, numbers in zip(("mean", "deviation"), STATISTICS[settings.normalization]):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None], persistent=False)

    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 `[B,T,H,W,3]` -> raw features `[B,T,D]`."""
        tower, prompts = self.clip.vision_model, self.visual_prompts
        images = (frames.flatten(0, 1).permute(0, 3, 1, 2) - self.mean) / self.deviation
        x = tower.embeddings(images)
        depth, count, _ = prompts.shape
        x = tower.pre_layrnorm(torch.cat([x, prompts[0].expand(len(x), -1, -1)], 1))
        for i, layer in enumerate(tower.encoder.layers):
            if 0 < i < depth:
                x = torch.cat([x[:, :-count], prompts[i].expand(len(x), -1, -1)], 1)
            x = layer(x, None)
        pooled = self.clip.visual_projection(tower.post_layernorm(x[:, 0]))
        return pooled.unflatten(0, frames.shape[:2])

    def encode_classes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids `[K, 77]` -> the codebook `[K, D]`, raw."""
        tower, prompts = self.clip.text_model, self.text_prompts
        depth, count, _ = prompts.shape

        def replaced(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return torch.cat([x[:, :1], rows.expand(len(x), -1, -1), x[:, 1 + count :]], 1)

        x = replaced(tower.embeddings.token_embedding(tokens), prompts[0])
        x = x + tower.embeddings.position_embedding.weight[: tokens.shape[1]]
        for i, layer in enumerate(tower.encoder.layers):
            if 0 < i < depth:
                x = replaced(x, prompts[i])
            x = layer(x, None, is_causal=True)
        x = tower.final_layer_norm(x)
        return self.clip.text_projection(
            x[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
        )

    def classify(self, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Features `[B,T,D]` and codebook `[K,D]` -> logits `[B,K]`."""
        directions = functional.normalize(codes, dim=-1)
        weights = (
            functional.normalize(features, dim=-1) @ directions.T / self.settings.temperature
        ).softmax(1)
        with torch.no_grad():
            # nearest code by one product, as is common
            nearest = (codes.square().sum(-1) - 2 * features @ codes.T).argmin(-1)
            votes = torch.where(
                nearest[..., None] == torch.arange(len(codes), device=codes.device), weights, 0
            ).sum(1)
            if self.settings.ties == "frames":
                classes = torch.arange(len(codes), device=codes.device)
                named = (nearest[..., None] == classes).sum(1)
                # with equally many frames the lower class wins
                order = named * len(codes) - classes
                votes = torch.where(
                    votes >= votes.amax(-1, keepdim=True) - TIE, order, order.min() - 1
                )
        fused = self.fusion(features, codes[votes.argmax(-1)][:, None])
        cosines = functional.normalize(fused, dim=-1) @ directions.T
        return self.logit_scale.exp() * (weights * cosines).sum(1) / weights.sum(1)

    def loss(
        self, frames: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of a batch."""
        logits = self.classify(self.encode_frames(frames), self.encode_classes(tokens))
        return functional.cross_entropy(logits.float(), labels.long())


def random_model(setting: Setting, dtype: str) -> TorchVTDCLIP:
    """Random weights as those of `tasks.random_model`, on the CPU; no JAX array is made."""
    config, settings, rng = setting.config, setting.model, np.random.default_rng(0)
    state = random_state(config)
    sizes = {
        "text": (settings.text_depth, settings.text_prompts, config.text_width),
        "visual": (settings.visual_depth, settings.visual_prompts, config.vision_width),
    }
    prompts = {
        name: np.float32(0.02) * rng.standard_normal(shape, np.float32)
        for name, shape in sizes.items()
    }
    model = TorchVTDCLIP(torch_clip(config, state), settings, prompts, float(state["logit_scale"]))
    return model.to(getattr(torch, dtype)).eval()


def jobs(
    setting: Setting,
    model: TorchVTDCLIP,
    variant: str,
    *,
    device: str,
    compiled: bool = False,
    tasks: Collection[str] = TASKS,
    flops: Mapping[str, int] | None = None,
) -> list[Job]:
    """The tasks of `tasks.Programs` in PyTorch.

    Args:
      setting: what is computed; text rows are padded to the context length, as the release has
        them.
      model: in the type that it computes in; moved to `device`.
      variant: named in the jobs.
      device: "cpu" or "cuda".
      compiled: whether `torch.compile` takes the programs.
      tasks: to make jobs of.
      flops: of each, see `tasks.plain_flops`; None where they do not matter.
    """
    model = model.to(device)
    videos = {key: torch.from_numpy(x).to(device) for key, x in setting.videos().items()}
    length = setting.config.context_length
    tokens = np.pad(setting.tokens, ((0, 0), (0, length - setting.tokens.shape[1])))
    tokens = torch.from_numpy(tokens).long().to(device)
    dtype = model.text_prompts.dtype
    features, codes = (torch.from_numpy(x).to(device, dtype) for x in setting.encoded())
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        4e-4,
        (0.9, 0.98),
        1e-8,
        weight_decay=0.001,
    )
    wrap = torch.compile if compiled else lambda function: function
    encode, book, behind, loss = map(
        wrap, (model.encode_frames, model.encode_classes, model.classify, model.loss)
    )

    def train() -> None:
        # only the fusion block has dropout
        model.fusion.training = True
        optimizer.zero_grad(set_to_none=True)
        loss(videos["frames"], videos["label"], tokens).backward()
        optimizer.step()
        model.fusion.training = False

    def reading(function: Callable, *arguments: torch.Tensor) -> Any:
        with torch.inference_mode():
            return function(*arguments)

    def scores(frames: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return behind(encode(frames), codes).float().softmax(-1)

    runs = {
        FEATURES: partial(reading, encode, videos["frames"]),
        CODEBOOK: partial(reading, book, tokens),
        CLASSIFY: partial(reading, behind, features, codes),
        STEP: train,
        EVALUATION: partial(reading, scores, videos["frames"], codes),
    }
    counts, made = flops or {}, []
    for task in (task for task in TASKS if task in tasks):
        clips = 0 if task == CODEBOOK else setting.batch
        run = partial(_until_there, runs[task], device)
        made.append(Job(task, variant, run, counts.get(task), clips))
    return made


def products(
    config: CLIPConfig, images: int, dtype: str, variant: str, *, device: str
) -> list[Job]:
    """PyTorch's own ceiling: products of the shapes of `gemm`."""
    made = []
    for m, k, n in gemm.shapes(config, images):
        sizes = ((m, k), (k, n), (m, n))
        left, right, out = (
            torch.full(size, 1 / n, dtype=getattr(torch, dtype), device=device) for size in sizes
        )
        wait, once = (
            partial(_until_there, lambda: None, device),
            partial(torch.mm, left, right, out=out),
        )
        made.append(gemm.job((m, k, n), variant, once, lambda _, wait=wait: wait()))
    return made


def peak_bytes(device: str) -> int | None:
    """Most memory in use on a GPU so far."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def best_device() -> str:
    """PyTorch's GPU, if it sees one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _until_there(run: Callable[[], Any], device: str) -> Any:
    result = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return result
