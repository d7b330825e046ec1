"""What a run's settings may ask for: files of strangers hold some, and nobody's machine holds 10⁹
frames.
"""

from typing import Any

from vtd_jax.errors import UserError
from vtd_jax.printable import brief

# frames of one batch over all devices, which is 150 GB at 224 px
MOST_FRAMES = 2**20
MOST_FRAMES_OF_A_VIDEO = 4096
# group -> field -> the least and the most
_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "": {
        "log_every": (1, 10**9),
        "codebook_shards": (1, 10**6),
        "shots": (0, 10**9),
        # what jax.random.key takes
        "seed": (0, 2**63 - 1),
        "devices": (0, 10**6),
    },
    "clip": {"head_width": (0, 65_536)},
    "data": {
        "frames": (1, MOST_FRAMES_OF_A_VIDEO),
        "batch_size": (1, MOST_FRAMES),
        "workers": (0, 4096),
        "stored_views": (0, 10_000),
    },
    "memory": {"microbatches": (1, MOST_FRAMES), "frame_chunks": (1, MOST_FRAMES_OF_A_VIDEO)},
    "evaluate": {
        "temporal_views": (1, 1000),
        "batch_size": (1, MOST_FRAMES),
        "every_epochs": (0, 10**9),
    },
    "checkpoint": {"every_epochs": (1, 10**9), "keep": (1, 10**6), "every_steps": (0, 10**12)},
    "optimizer": {
        "lr": (0, 1e38),
        "epochs": (1, 10**7),
        "accumulation": (1, 10**6),
        "warmup_epochs": (0, 1e9),
        "cosine_epochs": (0, 1e9),
        "min_lr_factor": (0, 1e9),
        "step_interval_epochs": (0, 1e9),
        "step_factor": (0, 1e9),
        "weight_decay": (0, 1e9),
        "eps": (0, 1e9),
    },
    "augment": {
        "scale_gap": (0, 1000),
        "brightness": (0, 1000),
        "contrast": (0, 1000),
        "saturation": (0, 1000),
    },
}
_MOST_SCALES = 100


def check_ranges(group: str, config: Any) -> None:
    """Raises a `UserError` that names a field of the group, its value and what was expected."""
    for field, (least, most) in _RANGES[group].items():
        value = getattr(config, field)
        expected = (
            f"{least} or more" if value < least else f"at most {most:,}" if value > most else ""
        )
        if expected:
            raise UserError(
                f"{f'{group}.{field}' if group else field}: {brief(value)}, expected {expected}"
            )


def check_sizes(config: Any) -> None:
    """Raises a `UserError` where fields of a `RunConfig` together ask for what no machine has."""
    for group in ("optimizer", "augment"):
        check_ranges(group, getattr(config, group))
    if (count := len(config.augment.scales)) > _MOST_SCALES:
        raise UserError(f"augment.scales: {count:,} numbers, expected at most {_MOST_SCALES}")
    for group in ("data", "evaluate"):
        videos, frames = getattr(config, group).batch_size, config.data.frames
        if videos * frames > MOST_FRAMES:
            raise UserError(
                f"{group}.batch_size={videos} with data.frames={frames}: {videos * frames:,} "
                f"frames a batch, expected at most {MOST_FRAMES:,}"
            )


def check_run_name(field: str, name: str) -> None:
    """Refuses a name that files cannot be called by: `results_NAME.json` would be elsewhere."""
    if not name or "/" in name or len(name.encode(errors="replace")) > 200:
        raise UserError(
            f"{field}: {brief(name)}, expected a name without slashes, of at most 200 bytes"
        )
