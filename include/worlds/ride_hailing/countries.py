"""The twenty countries and what is true of each: size, drift, label delay, season, incidents."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

START = datetime(2016, 1, 1, tzinfo=UTC)
HISTORY = timedelta(days=110)
"""What the world has lived through before its first step."""

Kind = Literal["silence", "strike", "fraud_wave", "cents", "inverted"]
STATIC, SLOW, MEDIUM, FAST = 0.0, 0.3, 0.7, 1.2


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Something that befalls the trips requested in ``start <= moment < end``.

    ``silence``: there are none. ``strike``: a third of the drivers, and riders wait nearly twice as long. ``fraud_wave``:
    the odds of fraud are seven times as high. ``cents``: prices are written in cents until the end, then corrected.
    ``inverted``: taken bonuses are written as not taken and the reverse, for good; no expectation can see it.
    """

    kind: Kind
    start: datetime
    end: datetime

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Its half-open interval."""
        return self.start, self.end


@dataclass(frozen=True, kw_only=True)
class Country:
    """The truth about a country.

    ``drift``: degrees a day by which every effect turns from one cause to another; after 90 it comes from the other alone.
    ``label_delay``: how long after a trip a fraud is known. ``daily``, ``weekly``: how much demand swings over a day
    (log scale) and a week (share).
    """

    code: str
    trips_a_day: float
    zones: int
    drift: float
    label_delay: timedelta
    daily: float = 0.6
    weekly: float = 0.2
    incidents: tuple[Incident, ...] = ()

    @property
    def number(self) -> int:
        """A number of its own, from its code."""
        return int.from_bytes(self.code.encode(), "big")

    def spans(self, kind: Kind) -> Iterator[tuple[datetime, datetime]]:
        """When incidents of a kind befall it."""
        return (incident.span for incident in self.incidents if incident.kind == kind)


def _incident(kind: Kind, after_history: float, days: float) -> Incident:
    start = START + HISTORY + timedelta(days=after_history)
    return Incident(kind=kind, start=start, end=start + timedelta(days=days))


COUNTRIES = tuple(
    Country(code=code, trips_a_day=size, zones=zones, drift=drift, label_delay=timedelta(days=delay),
            daily=daily, weekly=weekly, incidents=incidents)
    for code, size, zones, drift, delay, daily, weekly, incidents in (
        ("US", 850.0, 8, FAST, 30, 0.6, 0.2, ()),
        ("BR", 667.0, 8, MEDIUM, 30, 0.7, 0.3, (_incident("fraud_wave", 10, 20),)),
        ("IN", 523.0, 8, STATIC, 21, 0.5, 0.1, ()),
        ("MX", 411.0, 8, SLOW, 30, 0.6, 0.2, ()),
        ("GB", 322.0, 6, FAST, 28, 0.7, 0.2, (_incident("inverted", 8, 4),)),
        ("FR", 253.0, 6, MEDIUM, 30, 0.6, 0.1, (_incident("strike", 6, 3),)),
        ("DE", 199.0, 6, STATIC, 35, 0.5, 0.1, ()),
        ("ID", 156.0, 6, SLOW, 21, 0.4, 0.3, ()),
        ("AU", 122.0, 4, FAST, 28, 0.6, 0.2, ()),
        ("CA", 96.0, 4, MEDIUM, 30, 0.7, 0.2, (_incident("cents", 5, 1),)),
        ("ES", 75.0, 4, STATIC, 30, 0.6, 0.3, ()),
        ("JP", 59.0, 4, SLOW, 40, 0.5, 0.1, ()),
        ("ZA", 46.0, 3, FAST, 25, 0.6, 0.2, ()),
        ("NL", 36.0, 3, MEDIUM, 30, 0.7, 0.2, ()),
        ("PL", 28.0, 3, STATIC, 28, 0.6, 0.2, ()),
        ("SE", 22.0, 3, SLOW, 30, 0.8, 0.1, (_incident("silence", 4, 2),)),
        ("CL", 18.0, 2, FAST, 30, 0.6, 0.2, ()),
        ("PT", 14.0, 2, MEDIUM, 30, 0.6, 0.3, ()),
        ("NZ", 11.0, 2, STATIC, 28, 0.6, 0.2, ()),
        ("IE", 8.5, 2, SLOW, 30, 0.6, 0.2, ()),
    )
)  # fmt: skip
