"""Which image tower made frame features; reading them needs nothing that makes batches."""

from vtd_jax.clip.weights.params import state_from_clip
from vtd_jax.fingerprints import fingerprint_all
from vtd_jax.model.vtd_clip import VTDCLIP


def tower_fingerprint(model: VTDCLIP) -> str:
    """The fingerprint of the image tower, its dtype and normalization.

    It does not depend on the layout of the layers: weights are taken under OpenAI's names.
    """
    visual = {
        name: x for name, x in state_from_clip(model.clip).items() if name.startswith("visual.")
    }
    about = [repr(model.clip.config), str(model.clip.visual.dtype), model.config.normalization]
    return fingerprint_all([about + list(visual), *visual.values()])
