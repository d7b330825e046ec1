"""Bodies of requests, checked: strangers may send anything."""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from vtd_jax.errors import UserError
from vtd_jax.untrusted.json_text import parse_json
from vtd_jax.untrusted.limits import APP_FRAMES, APP_LABELS, APP_WORDS, TEXT_CHARACTERS

# 1000 words take seconds to encode: a page with more sends them in parts
PORTION = 1000
# labels whose columns an answer has at most
MOST_SHOWN = 100

Body = TypeVar("Body", bound=msgspec.Struct)
Id = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS)]
Serial = Annotated[int, Meta(ge=0, le=2**53)]
Frames = Annotated[int, Meta(ge=1, le=APP_FRAMES)]
# less is no time between frames, and divides to nothing
Seconds = Annotated[float, Meta(ge=1e-3, le=86_400)]


class Encode(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is to be encoded.

    Attributes:
      video: its id.
      frames: T, of the video or of a window.
      window: seconds of a timeline's window; None for a clip.
      beside: whether for the zero-shot model too.
    """

    video: Id
    frames: Frames
    window: Seconds | None = None
    beside: bool = False


class Asked(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is asked of an encoded video.

    Attributes:
      video: its id.
      labels: K texts.
      frames: T, of the video or of a window.
      serial: of the request; comes back with its answer.
      vocabulary: words that name frames; None for the labels.
      temperature: of the confidence; None for that of the model.
      shown: best labels whose columns are wanted.
      beside: whether the zero-shot model answers too.
      window, stride, threshold: of a timeline, as for `Predictor.timeline`; no window for a clip.
    """

    video: Id
    labels: Annotated[list[Text], Meta(max_length=APP_LABELS)]
    frames: Frames
    serial: Serial = 0
    vocabulary: Annotated[list[Text], Meta(max_length=APP_WORDS)] | None = None
    temperature: Annotated[float, Meta(ge=1e-6, le=1e6)] | None = None
    shown: Annotated[int, Meta(ge=1, le=MOST_SHOWN)] = 12
    beside: bool = False
    window: Seconds | None = None
    stride: Seconds | None = None
    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.25


class Words(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Words that are encoded before they are asked for."""

    words: Annotated[list[Text], Meta(min_length=1, max_length=PORTION)]


class _Serial(msgspec.Struct):
    serial: Serial = 0


def serial_of(body: bytes) -> int:
    """The serial number of a body that may be wrong otherwise; 0 if there is none."""
    try:
        return parse_json(body, "request", _Serial).serial
    except UserError:
        return 0


def parse(body: bytes, kind: type[Body]) -> Body:
    """A body as one of the types above.

    Raises:
      UserError: it is none; says where.
    """
    return parse_json(body, "request", kind)
