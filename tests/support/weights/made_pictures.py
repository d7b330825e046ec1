"""Pictures of odd sizes and modes, and texts, for numbers that PyTorch computes too."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.weights.published import GIVEN, Picture

TEXTS = ("a red thing", "a picture of noise", "nothing")
KINDS = {"wide.png": "cosines", "tall.png": "probabilities", "see-through.png": "logits"}

# of OpenAI's class in PyTorch with the weights of `random_state(small_run.SMALL)`, after Pillow's
# resizing; tests/parity/test_verify_torch.py computes them again
OF_PYTORCH = {
    "wide.png": (-0.19094955921173096, -0.20760828256607056, -0.16273203492164612),
    "tall.png": (0.0013062517391517758, 0.0006059279548935592, 0.9980878233909607),
    "see-through.png": (-28.57021141052246, -32.43833541870117, -12.350069046020508),
}


def write(folder: Path) -> None:
    """Writes the files of `KINDS`."""
    rng = np.random.default_rng(5)
    wide = rng.integers(0, 256, (45, 133, 3), dtype=np.uint8)
    wide[10:30, 40:90] = (200, 40, 30)
    Image.fromarray(wide).save(folder / "wide.png")
    tall = np.linspace(0, 255, 97 * 61).reshape(97, 61).astype(np.uint8)
    Image.fromarray(tall).save(folder / "tall.png")
    clear = rng.integers(0, 256, (50, 70, 4), dtype=np.uint8)
    Image.fromarray(clear).save(folder / "see-through.png")


def picture(file: str, values: tuple[float, ...] = (), atol: float = 1e-4) -> Picture:
    """One of `KINDS`; the one with transparency becomes RGB last, as CLIP.png does."""
    return Picture(
        file, GIVEN, TEXTS, KINDS[file], values, atol, source="PyTorch",
        rgb_first=file != "see-through.png",
    )  # fmt: skip
