"""Pictures of published numbers, found and prepared as OpenAI's code does it."""

import hashlib
import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from experiments.weights.published import SKIMAGE, Picture
from vtd_jax.errors import UserError
from vtd_jax.untrusted.limits import FRAME_PIXELS
from vtd_jax.untrusted.regular_files import read_bytes
from vtd_jax.video.scaling.fit import Fit

if TYPE_CHECKING:
    from PIL import Image

# bytes of a picture's file
_MOST = 64 * 2**20


def find(picture: Picture, folder: Path | None) -> Path | str:
    """The file of a picture, or why there is none and how to have it.

    Args:
      picture: which.
      folder: of `--pictures`; None where it was not given.
    """
    if picture.place == SKIMAGE:
        # the package itself is not imported: only its files are needed
        package = importlib.util.find_spec("skimage")
        if package is None or not package.submodule_search_locations:
            return "pip install scikit-image, whose package holds it"
        path = Path(package.submodule_search_locations[0], "data", picture.file)
        return path if path.is_file() else "this version of scikit-image does not hold it"
    if folder is not None and (folder / picture.file).is_file():
        return folder / picture.file
    return f"it is at {picture.address}; put it into a folder and give --pictures=FOLDER"


def read(path: Path, picture: Picture) -> "Image.Image":
    """The picture of a file.

    Raises:
      UserError: another file than the published one, or no picture of a known kind and size.
    """
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        content = read_bytes(path, "picture", _MOST)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(content).hexdigest()
    if picture.sha256 and digest != picture.sha256:
        raise UserError(
            f"{path}: SHA-256 {digest}, expected {picture.sha256}: not the file that "
            f"{picture.address} is"
        )
    try:
        with warnings.catch_warnings():
            # Pillow warns of a size that it refuses when it is twice as large
            warnings.simplefilter("error")
            image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
            if image.width * image.height > FRAME_PIXELS:
                raise UserError(
                    f"{path}: {image.width} × {image.height} pixels, expected fewer than "
                    f"{FRAME_PIXELS:,}"
                )
            image.load()
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        # of these Pillow names the buffer, not what is wrong
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise UserError(f"{path}: not a PNG or JPEG that can be read{why}") from None
    return image


def square(
    image: "Image.Image", side: int, fit: Fit, rgb_first: bool
) -> UInt8[np.ndarray, "n n 3"]:
    """A picture as frames of videos are prepared for a CLIP.

    Args:
      image: in any mode.
      side: of the square, n.
      fit: how it is scaled.
      rgb_first: False for what becomes RGB after it was scaled; where that makes a difference,
        Pillow scales it.
    """
    if not rgb_first and image.mode != "RGB":
        return pixels(image, side, rgb_first)
    return fit.views(np.asarray(image.convert("RGB"))[None], side)[0, 0]


def pixels(image: "Image.Image", side: int, rgb_first: bool) -> UInt8[np.ndarray, "n n 3"]:
    """The middle of a picture whose short side was scaled to `side`: Pillow's bicubic."""
    from PIL import Image

    image = image.convert("RGB") if rgb_first else image
    short = min(image.size)
    width, height = (side if one == short else int(side * one / short) for one in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)).convert("RGB"))
