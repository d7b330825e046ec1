"""VTD-CLIP (arXiv 2503.18407) in JAX and Flax NNX: a video is turned into words.

import vtd_jax

model = vtd_jax.load("ViT-B/16", download=True)
print(model.predict("clip.mp4", ["arm wrestling", "hugging"]).top())
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # lazy: importing the package must not import JAX and video libraries
    if name == "load":
        from vtd_jax.predict.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
