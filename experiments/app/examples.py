"""Rendered clips to try the page with: the small CLIP of the package knows nothing else."""

from pathlib import Path

import numpy as np

from vtd_jax.scenes.render import render_clip, write_mp4

# what the clips show, one scene after another of the last
SCENES = ("green checkered star", "red striped circle", "blue dotted triangle")
# labels to begin with: what is shown, and one that is not
LABELS = (*SCENES, "white solid cross")
_SIZE, _FPS = 240, 8
# frames of a clip, and of each scene of the long one
_SHORT, _EACH = 48, 80


def write_examples(folder: Path) -> tuple[str, ...]:
    """Renders two clips of 6 s and one of 30 s, in which three scenes follow each other.

    Args:
      folder: of the files, which is there.

    Returns:
      Labels to begin with.
    """
    rng = np.random.default_rng(7)
    for scene in SCENES[:2]:
        clip, _ = render_clip(scene, rng, frames=_SHORT, size=_SIZE, irrelevant=0.3)
        write_mp4(folder / f"{scene}.mp4", clip, _FPS)
    parts = [
        render_clip(scene, rng, frames=_EACH, size=_SIZE, irrelevant=0.1)[0] for scene in SCENES
    ]
    write_mp4(folder / "three scenes.mp4", np.concatenate(parts), _FPS)
    return LABELS
