"""VTD-CLIP (arXiv 2503.18407) in JAX and Flax NNX: a video is turned into words.

import vtd_jax

model = vtd_jax.load("ViT-B/16", download=True)
print(model.predict("clip.mp4", ["arm wrestling", "hugging"]).top())
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtd_jax.clip.config import CLIPConfig
    from vtd_jax.clip.hub.names import list_architectures
    from vtd_jax.clip.model import CLIP
    from vtd_jax.clip.tokenizer import tokenize
    from vtd_jax.clip.weights.checkpoints import load_clip
    from vtd_jax.model.config import ModelConfig
    from vtd_jax.model.vtd_clip import VTDCLIP
    from vtd_jax.predict.job import Failure
    from vtd_jax.predict.loading import load
    from vtd_jax.predict.predictor import Predictor
    from vtd_jax.predict.results import Explanation, Prediction, Timeline
    from vtd_jax.retrieval.index import Index
    from vtd_jax.video.clip import read_video

__version__ = "0.1.0"
__all__ = [
    "CLIP",
    "VTDCLIP",
    "CLIPConfig",
    "Explanation",
    "Failure",
    "Index",
    "ModelConfig",
    "Prediction",
    "Predictor",
    "Timeline",
    "__version__",
    "list_architectures",
    "load",
    "load_clip",
    "read_video",
    "tokenize",
]

# looked up when first used: importing the package must not import JAX and video libraries
_MODULES = {
    "CLIP": "clip.model",
    "CLIPConfig": "clip.config",
    "Explanation": "predict.results",
    "Failure": "predict.job",
    "Index": "retrieval.index",
    "ModelConfig": "model.config",
    "Prediction": "predict.results",
    "Predictor": "predict.predictor",
    "Timeline": "predict.results",
    "VTDCLIP": "model.vtd_clip",
    "list_architectures": "clip.hub.names",
    "load": "predict.loading",
    "load_clip": "clip.weights.checkpoints",
    "read_video": "video.clip",
    "tokenize": "clip.tokenizer",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found
    from difflib import get_close_matches

    close = get_close_matches(name, __all__, n=1)
    meant = f". Did you mean: {close[0]!r}?" if close else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{meant}")


def __dir__() -> list[str]:
    return sorted(__all__)
