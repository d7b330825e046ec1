"""The CLIP of a tuned model as it is, to set zero-shot answers beside tuned ones."""

from flax import nnx

from vtd_jax.cache.text_features import TextCache
from vtd_jax.model.vtd_clip import VTDCLIP
from vtd_jax.predict.loading import ZERO_SHOT, ZERO_SHOT_FRAMES, ZERO_SHOT_PREPROCESS
from vtd_jax.predict.predictor import Predictor


def zero_shot(predictor: Predictor) -> Predictor | None:
    """The CLIP of a tuned model as it is: no prompts, no fusion, confidence as pooling.

    Example:
      model = vtd_jax.load("runs/hmdb51")
      plain = zero_shot(model)
      print(model.predict("clip.mp4").top(), plain.predict("clip.mp4", model.class_names).top())

    Args:
      predictor: tuned; its CLIP is shared, not copied.

    Returns:
      What `vtd_jax.load` makes of the same CLIP; None for a model in which nothing is learnt.
    """
    model = predictor.model
    if (model.text_prompts, model.visual_prompts, model.fusion) == (None, None, None):
        return None
    clip = VTDCLIP(model.clip, ZERO_SHOT, rngs=nnx.Rngs(0), preprocess=ZERO_SHOT_PREPROCESS)
    return Predictor(
        clip,
        frames=ZERO_SHOT_FRAMES,
        description=f"{clip.clip.config.architecture}, zero-shot",
        cache=TextCache(None),
    )
