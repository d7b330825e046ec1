"""VTD-CLIP (arXiv 2503.18407) in JAX and Flax NNX: a video is turned into words."""

__version__ = "0.1.0"
