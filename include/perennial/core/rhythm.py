"""How long a source may be silent, by its own past: the rhythm of its landings."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

Pause = tuple[datetime, datetime]

WEEK = timedelta(days=7)
MONTH = timedelta(days=31)
WEEKS = 8  # that the current one is compared with
YOUNG = 4 * WEEK
SLOW = WEEK / 2
RECENT = 12  # pauses that tell how slow a source is
SHORTEST = timedelta(hours=3)  # shorter ones are not recorded
TOLERANCE = timedelta(hours=3)  # by which a day may begin and end earlier than others
FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """When a source has landed first and last, and its recent pauses, oldest first."""

    first: datetime
    last: datetime
    pauses: Sequence[Pause]

    def longest_expected(self, now: datetime) -> timedelta:
        """The longest pause that its past makes expected of the one that lasts since ``last``.

        * Of a source that is younger than four weeks little is known: it may be one of a week, and
          before it is a week old one of a month.
        * A slow one, of half a week and more: the longest of its last twelve pauses.
        * Any other: the longest that it had at these hours of the week, in the last eight weeks: of
          each pause what lies after three hours before the last landing, if it began before now. So
          nights and weekends are expected where they were silent before, and nowhere else.
        """
        recent = [ended - began for began, ended in self.pauses[-RECENT:]]
        if self.last - self.first < YOUNG:
            unknown = WEEK if self.last - self.first >= WEEK else MONTH
            return max([unknown, *recent])
        if recent and _middle(recent) >= SLOW and self._is_slow:
            return max(recent)
        return max(self._longest_of_week(back, now) for back in range(1, WEEKS + 1))

    def is_silent(self, now: datetime) -> bool:
        """Whether it has been silent for half as long again as is expected."""
        return now - self.last > FACTOR * self.longest_expected(now)

    @property
    def _is_slow(self) -> bool:
        """Whether its pauses are most of its time: a busy source may have had a few long ones."""
        began = self.pauses[-RECENT:][0][0]
        paused = sum((ended - start for start, ended in self.pauses[-RECENT:]), timedelta())
        return paused >= (self.last - began) / 2

    def _longest_of_week(self, back: int, now: datetime) -> timedelta:
        start = self.last - back * WEEK
        end = start + (now - self.last)
        if start < self.first:
            return SHORTEST
        early = start - TOLERANCE
        lengths = [ended - max(began, early) for began, ended in self.pauses if began < end and ended > early]
        return max([SHORTEST, *lengths])


def _middle(lengths: Sequence[timedelta]) -> timedelta:
    return sorted(lengths)[len(lengths) // 2]
