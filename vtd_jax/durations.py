"""Times as text: how long something takes, and where in a video something is."""

import math


def timespan(seconds: float) -> str:
    """A rounded time with its unit: `0.002 s`, `1.5 s`, `12 s`, `3.5 min`, `2.4 h`."""
    unit, size = ("s", 1) if seconds < 59.5 else ("min", 60) if seconds < 59.5 * 60 else ("h", 3600)
    value = seconds / size
    return f"{value:.{0 if value >= 9.95 else 1 if value >= 0.095 or not value else 3}f} {unit}"


def clock(seconds: float, *, tenths: bool = False, hours: bool = False) -> str:
    """`0:07`, `2:03`, `1:02:03`; `?` if the time is unknown (nan or infinite).

    Args:
      seconds: to print.
      tenths: print less than a minute as `7.3 s`.
      hours: print hours even if there are none.
    """
    if not math.isfinite(seconds):
        return "?"
    if tenths and round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if hours or minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def position(seconds: float) -> str:
    """A place in a video to the tenth of a second, `1:02.3`; from an hour on `1:02:03`."""
    if seconds >= 3600:
        return clock(seconds)
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"
