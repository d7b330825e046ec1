"""An index of videos: frame features on disk, searched and classified without the videos.

from vtd_jax.retrieval import Index

index = Index.build("clips.index", ["clips/"], "ViT-B/16", download=True)
print(index.search("a dog catches a frisbee"))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtd_jax.retrieval.hits import Hit
    from vtd_jax.retrieval.index import Index

__all__ = ["Hit", "Index"]


def __getattr__(name: str) -> Any:
    # lazy: the modules below import JAX and the predictor
    if name == "Index":
        from vtd_jax.retrieval.index import Index

        return Index
    if name == "Hit":
        from vtd_jax.retrieval.hits import Hit

        return Hit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
