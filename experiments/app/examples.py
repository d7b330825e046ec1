"""Rendered clips to try the page with: the small CLIP of the package knows nothing else."""

from pathlib import Path

import numpy as np

from vtd_jax.files import cache_folder
from vtd_jax.scenes.render import render_clip, write_mp4
from vtd_jax.terminal import warn

# what the clips show; in the last one scene follows another
SCENES = ("green checkered star", "red striped circle", "blue dotted triangle")
# labels to begin with: what is shown, and one that is not
LABELS = (*SCENES, "white solid cross")
_SIZE, _FPS = 160, 8
# frames of a clip, and of each scene of the long one
_SHORT, _EACH = 48, 80
_LONG = "three scenes"


def examples() -> Path | None:
    """The folder of the examples, which are rendered at the first call; None without a cache."""
    folder = cache_folder() / "app_examples"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate((*SCENES[:2], _LONG)):
            path = folder / f"{name}.mp4"
            if not path.exists():
                write_mp4(path, _rendered(name, np.random.default_rng(number)), _FPS)
    except OSError as error:
        warn(f"{folder}: no examples could be written ({error.strerror})")
        return None
    return folder


def _rendered(name: str, rng: np.random.Generator) -> np.ndarray:
    """6 s of one scene, or 10 s of each."""
    if name != _LONG:
        return render_clip(name, rng, frames=_SHORT, size=_SIZE, irrelevant=0.3)[0]
    parts = [render_clip(one, rng, frames=_EACH, size=_SIZE, irrelevant=0.1)[0] for one in SCENES]
    return np.concatenate(parts)
