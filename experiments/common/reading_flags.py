"""Flags of commands that read many videos: how these are decoded and encoded."""

from absl import flags

from vtd_jax.predict.batching.options import How
from vtd_jax.video.clip import CHECKS

flags.DEFINE_integer(
    "workers",
    None,
    "videos decoded at once, ahead of the device; default: 2, beside an accelerator one a core",
    lower_bound=0,
)
flags.DEFINE_bool(
    "processes", None, "decode in processes, not in threads; default: processes where they pay"
)
flags.DEFINE_integer(
    "batch_frames",
    None,
    "frames encoded at once, of several videos; default: as memory allows",
    lower_bound=1,
)
flags.DEFINE_enum(
    "check",
    "index",
    CHECKS,
    "how a file is found to be whole: index goes by its packets, full decodes every frame",
)
flags.DEFINE_bool("deterministic", False, "the same bits for a video whatever is beside it; slower")


def given() -> How:
    """The values of the flags, as `Predictor.stream` takes them."""
    values = flags.FLAGS
    return How(
        workers=values.workers,
        processes=values.processes,
        batch_frames=values.batch_frames,
        check=values.check,
        deterministic=values.deterministic,
    )
