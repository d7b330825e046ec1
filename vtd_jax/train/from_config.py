"""Builds the model and opens the records of a config, and checks that they fit."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from vtd_jax.clip.compute import Compute
from vtd_jax.clip.config import CLIPConfig
from vtd_jax.clip.kept import TEXTS, bytes_kept_of_frames, bytes_kept_of_texts
from vtd_jax.clip.weights.checkpoints import load_clip
from vtd_jax.errors import UserError, function, setting
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.printable import listed
from vtd_jax.terminal import counted
from vtd_jax.train.config import RunConfig
from vtd_jax.video.records import Records, open_records

# share of a device's memory that the towers may keep for the backward pass; the rest is for
# weights, frames and the inside of one block
_KEPT = 0.65
# what is tried, the fastest first, before "block": a TPU's attention is computed again in any case
_LEAST = {"cpu": ("none",), "gpu": ("none", "dots"), "tpu": ("dots",)}


def build_model(config: RunConfig) -> VTDCLIP:
    """The initial model: CLIP from its checkpoint, learnable parameters from the seed.

    Raises:
      UserError: no checkpoint was given, or it is unreadable or of another architecture.
    """
    if not config.clip.path:
        raise UserError(
            f"clip.path: empty; give a CLIP checkpoint with {setting('clip.path', 'FILE')} "
            "(a name as ViT-B/16 or hf:ORG/MODEL, OpenAI's .pt, a Hugging Face or open_clip file "
            f"or folder, or a file of {function('save_clip')}), or 'tiny' for the small one of "
            "this package"
        )
    source = config.clip
    clip = load_clip(
        source.path,
        dtype=source.dtype,
        expected=source.architecture,
        layers=config.memory.layers,
        **source.asked,
    )
    compute = compute_of(config, clip.config)
    return VTDCLIP(
        clip,
        config.model,
        rngs=nnx.Rngs(config.seed),
        compute=compute,
        preprocess=config.data.preprocess,
    )


def compute_of(
    config: RunConfig,
    clip: CLIPConfig,
    *,
    platform: str | None = None,
    memory: int | None = None,
    devices: int | None = None,
) -> Compute:
    """How a run's towers compute, with `memory.remat=auto` chosen: the least that fits.

    Class names are not known yet: a codebook of 1000 texts is assumed, shared by the devices.

    Args:
      config: of the run.
      clip: sizes of its CLIP.
      platform: of the devices, see `Compute`; None for the one that JAX uses.
      memory: bytes of one device; None for what the devices of this process have.
      devices: that share a batch; None for those of the run.
    """
    settings = config.memory
    compute = Compute(
        remat=settings.remat,
        frame_chunks=settings.frame_chunks,
        attention=settings.attention,
        # one name, so that a program compiled ahead of time is the one that runs
        platform=Compute(platform=platform).device,
    )
    if settings.remat != "auto":
        return compute
    # a run may be loaded where there are fewer devices than it was trained on
    here = config.devices or len(jax.local_devices())
    devices = here * jax.process_count() if devices is None else devices
    videos = -(-config.data.batch_size * config.codebook_shards // devices)
    parts = config.codebook_shards * settings.frame_chunks
    frames, prompts = -(-videos * config.data.frames // parts), config.model.visual_prompts
    room = _KEPT * (_device_memory() if memory is None else memory)
    texts = -(-TEXTS * max(len(config.model.templates), 1) // devices)
    for remat in _LEAST[compute.device]:
        kept = bytes_kept_of_frames(clip, config.clip.dtype, frames, prompts, remat)
        kept += bytes_kept_of_texts(
            clip, config.clip.dtype, texts, config.model.text_prompts, remat
        )
        if kept <= room:
            return dataclasses.replace(compute, remat=remat)
    return dataclasses.replace(compute, remat="block")


def _device_memory() -> int:
    """Bytes that programs may use on one device of this process; of a CPU, of what it has."""
    devices = jax.local_devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return limit
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # a container may have less; without a limit the file says "max"
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory // len(devices)


def open_training(config: RunConfig) -> Records:
    """The training records.

    Raises:
      UserError: the config learns nothing, or there are no such records.
    """
    if not config.data.train:
        raise UserError(
            f"data.train: empty, {config.name} learns nothing; use {function('evaluate')}, or "
            f"set {setting('data.train')}"
        )
    return open_records(config.data.data_dir, config.data.train)


def open_splits(config: RunConfig) -> dict[str, Records]:
    """The records of every split to evaluate."""
    return {
        split: open_records(config.data.data_dir, name)
        for split, name in config.data.evaluate.items()
    }


def shared_videos(training: Records, splits: Mapping[str, Records]) -> list[str]:
    """A line for every split that shares videos with the training list."""
    lines = []
    for split, records in splits.items():
        same = np.intersect1d(training.stored.records, records.stored.records).size
        if training.path == records.path and same:
            verb, of = "is" if same == 1 else "are", counted(len(records), "video")
            lines.append(
                f"{same} of the {of} of split {split} ({records.name}) {verb} also trained on"
            )
    return lines


def check_splits(
    config: RunConfig, training: Records | None, splits: Mapping[str, Records]
) -> None:
    """Checks that the class names fit the protocol.

    Raises:
      UserError: a novel class is a base class too, or another split has other classes than the
        training list.
    """
    if config.protocol == "base_to_novel":
        both = sorted(set(splits["base"].class_names) & set(splits["novel"].class_names))
        if both:
            raise UserError(
                f"data.evaluate.novel={config.data.evaluate['novel']}: {len(both)} of its classes "
                f"are base classes too ({listed(both, 3)}); novel classes must not be learnt"
            )
    if training is None or config.protocol == "zero_shot":
        return
    for split, records in splits.items():
        if split != "novel" and tuple(records.class_names) != tuple(training.class_names):
            raise UserError(
                f"data.evaluate.{split}={config.data.evaluate[split]}: its class names are not "
                f"those of data.train={config.data.train}; build both lists with the same "
                f"labels ({setting('labels', of='build_records')})"
            )
