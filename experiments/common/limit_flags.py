"""Flags that raise the limits of one video; `cli.run` sets those that are given."""

from absl import flags

from vtd_jax.untrusted.raised import MAX_FRAME_PIXELS, MAX_VIDEO_PIXELS

for _limit in (MAX_FRAME_PIXELS, MAX_VIDEO_PIXELS):
    flags.DEFINE_integer(
        _limit.flag, None, f"{_limit.what}; default: {_limit.default:,}", lower_bound=1
    )
