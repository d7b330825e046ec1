"""The brightness of a video's frames as it is coded, without any conversion of colours."""

from collections.abc import Iterator, Sequence

import av
import numpy as np
import simplejpeg
from jaxtyping import UInt8

from vtd_jax.errors import UserError
from vtd_jax.video import decode
from vtd_jax.video.limits import check_stored
from vtd_jax.video.records import Example


def brightness(example: Example, indices: Sequence[int]) -> Iterator[UInt8[np.ndarray, "h bytes"]]:
    """The luma plane of chosen frames, one at a time; of a picture in RGB, its only plane.

    Args:
      example: of the records.
      indices: ascending, below `num_frames`.

    Yields:
      The bytes of every row, as the decoder gives them: not turned, not scaled.

    Raises:
      UserError: stored frames do not decode, or fewer of them than the record states.
    """
    record, wanted = example.record, set(indices)
    if "video" not in record:
        yield from _of_jpegs(example, indices)
        return
    with decode.reading(record["video"], example.name) as video:
        for index, _, frame in video:
            if index in wanted:
                yield _plane(frame)
            if index >= indices[-1]:
                return
    raise UserError(
        f"{example.name}: frame {indices[-1]} of {example.num_frames:,} does not decode; the "
        "record is damaged, build the records again"
    )


def _of_jpegs(example: Example, indices: Sequence[int]) -> Iterator[UInt8[np.ndarray, "h bytes"]]:
    chosen = [example.record["frames"][index] for index in indices]
    check_stored(chosen, len(chosen), example.record, example.name)
    for jpeg in chosen:
        try:
            yield simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[..., 0]
        except ValueError as error:
            raise UserError(
                f"{example.name}: a stored frame does not decode ({error}); build the records again"
            ) from None


def _plane(frame: av.VideoFrame) -> UInt8[np.ndarray, "h bytes"]:
    """The first plane, without what the decoder leaves between rows."""
    plane, form = frame.planes[0], frame.format
    if plane.line_size < 0:
        # of uncompressed pictures from the bottom up, PyAV's buffer begins at the last row
        return frame.to_ndarray(format="rgb24").reshape(frame.height, -1)
    bits = max(component.bits for component in form.components)
    # samples of more than 8 bits take two bytes; in a packed plane all components of a pixel follow
    # each other
    if len(frame.planes) == 1 and len(form.components) > 1:
        bits = form.padded_bits_per_pixel
    elif bits > 8:
        bits = -(-bits // 8) * 8
    rows = np.frombuffer(bytes(plane), np.uint8)[: plane.height * plane.line_size]
    used = -(-plane.width * bits // 8)
    return rows.reshape(plane.height, plane.line_size)[:, :used]
