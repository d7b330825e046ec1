"""The fields of a journal line of `experiments.predict`, checked: the file is not trusted."""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from vtd_jax.report.pages import PAGE_NAME, PageFields

_NAME = Annotated[str, Meta(pattern=rf"\A{PAGE_NAME}\Z", max_length=255)]
_PAGE = Annotated[str, Meta(pattern=rf"\A(?:{PAGE_NAME}\.html)?\Z", max_length=255)]


class _Pair(TypedDict):
    label: str
    score: float


class _Word(TypedDict):
    word: str


class _Segment(TypedDict):
    label: str
    start: float
    end: float
    score: float
    peak: float
    peak_at: float
    best: bool


class _Clip(TypedDict):
    label: str
    score: float
    top: Annotated[list[_Pair], Meta(min_length=1)]
    words: list[Annotated[list[_Word], Meta(min_length=1)]]
    video_token: Annotated[list[_Word], Meta(min_length=1)]
    duration: float | None
    total_frames: int


class _Timeline(TypedDict):
    label: str
    score: float
    segments: list[_Segment]


class _Line(TypedDict):
    video: str
    name: _NAME
    bytes: NotRequired[str]
    truth: NotRequired[str | None]
    error: NotRequired[str]
    page: NotRequired[PageFields]
    ways: NotRequired[tuple[_PAGE, _PAGE]]


class _ClipLine(_Line):
    result: NotRequired[_Clip]


class _TimelineLine(_Line):
    result: NotRequired[_Timeline]


def line_kind(windows: bool) -> Any:
    """The type of the lines of a job; with windows, of timelines."""
    return _TimelineLine if windows else _ClipLine
