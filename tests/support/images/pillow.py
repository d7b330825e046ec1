"""Pillow's resizing and torchvision's crops: how images are prepared for CLIP."""

import numpy as np
from PIL import Image

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def scaled(image: np.ndarray, height: int, width: int, name: str = "bicubic") -> np.ndarray:
    """An RGB image scaled by Pillow, first along the rows, then along the columns.

    In two steps, since Pillow 13 shrinks images taller than 2:1 the other way round (12.2: 100:1),
    which changes pixels. When CLIPs were trained and their numbers published it did not.
    """
    picture, method = Image.fromarray(np.ascontiguousarray(image)), FILTERS[name]
    across = picture.resize((width, picture.height), method)
    return np.asarray(across.resize((width, height), method))


def prepared(image: np.ndarray, size: int, name: str = "bicubic") -> np.ndarray:
    """torchvision's `Resize(size)` and `CenterCrop(size)`, as it computes their sizes."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    long = int(size * long / short)
    height, width = (long, size) if width <= height else (size, long)
    top, left = (round((side - size) / 2.0) for side in (height, width))
    return scaled(image, height, width, name)[top : top + size, left : left + size]


def pictures(count: int, longest: int = 700) -> list[np.ndarray]:
    """Noise, soft noise and hard edges of odd sizes, from 1 × 1 to extreme proportions."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (3, 3), (1, 9), (3, 700), (700, 3), (2, 301), (500, 700), (224, 224)]
    while len(sizes) < count:
        height, width = np.exp(rng.uniform(np.log(3), np.log(longest), 2)).astype(int).tolist()
        sizes.append((height, width))
    found = []
    for number, (height, width) in enumerate(sizes[:count]):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if number % 3 == 1:
            # black and white: a cubic filter goes below 0 and above 255 there
            image = np.where(image[:, :, :1] > 127, 255, 0).astype(np.uint8).repeat(3, axis=2)
        elif number % 3 == 2:
            ramp = np.linspace(0, 255, height * width).reshape(height, width, 1)
            image = ((ramp + image / 8) % 256).astype(np.uint8)
        found.append(image)
    return found
