"""The estimated time of a compiled program, and what it is made of. Nothing was run for it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SCHEDULE = "the compiler's schedule"
ROOFLINE = "roofline of the compiled program"


class Part(NamedTuple):
    """A part of a program.

    Attributes:
      name: what it is, e.g. the end of its op_name, or its kind.
      seconds: of all its rounds.
      times: how often it runs.
    """

    name: str
    seconds: float
    times: int


class Timed(NamedTuple):
    """The estimated time of one call of a program on one device.

    Attributes:
      seconds: of all parts.
      parts: the largest first.
      kernels: how many programs of the device run, with all rounds of loops.
      source: where the numbers are from, `SCHEDULE` or `ROOFLINE`.
      missing: what has no estimate, with how often it runs; `seconds` are without it.
    """

    seconds: float
    parts: tuple[Part, ...]
    kernels: int
    source: str
    missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, found: Iterable[Part], kernels: int, source: str, missing: tuple[str, ...] = ()
    ) -> "Timed":
        """Adds up parts; those of one name become one."""
        seconds: dict[str, float] = {}
        times: dict[str, int] = {}
        for part in found:
            seconds[part.name] = seconds.get(part.name, 0.0) + part.seconds
            times[part.name] = times.get(part.name, 0) + part.times
        names = sorted(seconds, key=lambda name: (-seconds[name], name))
        parts = tuple(Part(name, seconds[name], times[name]) for name in names)
        return cls(sum(seconds.values()), parts, kernels, source, missing)

    def largest(self, n: int = 5) -> tuple[Part, ...]:
        """The n parts that take longest, the longest first."""
        return self.parts[:n]

    def share(self, flops: float, peak: float) -> float:
        """Share of a device's peak.

        Args:
          flops: of the program's matrix products.
          peak: FLOP/s of the device.
        """
        return flops / self.seconds / peak if self.seconds else 0.0

    def to_dict(self) -> Mapping[str, Any]:
        """JSON-able fields."""
        return self._asdict() | {"parts": [part._asdict() for part in self.parts]}
