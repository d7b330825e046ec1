"""Flags of commands that read videos or records: what one video may ask for.

`_cli.run` sets the limits that are given.
"""

from absl import flags

from vtd_jax.untrusted.raised import MAX_FRAME_PIXELS, MAX_VIDEO_PIXELS

for _limit in (MAX_FRAME_PIXELS, MAX_VIDEO_PIXELS):
    flags.DEFINE_integer(
        _limit.flag, None, f"{_limit.what}; default: {_limit.default:,}", lower_bound=1
    )
