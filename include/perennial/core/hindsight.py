"""What retraining has gained, in hindsight: a cell's error over time under several ways to keep it fresh."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from perennial.cell import Cell
from perennial.core.metrics import METRICS

NEVER, JUDGED, SERVED, ALWAYS = "never", "judged", "served", "always"
WAYS = {
    NEVER: "never retrained",
    JUDGED: "judged fits, not refitted",
    ALWAYS: "always published",
    SERVED: "served by Perennial",
}


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The rows between two cycles, and each way's mean loss on them. ``start < event_time <= end``."""

    start: datetime
    end: datetime
    rows: int
    losses: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class History:
    """A cell over a replay. ``released`` are the data times of its releases; ``outcomes`` counts how its runs ended."""

    cell: Cell
    metric: str
    stretches: tuple[Stretch, ...] = ()
    released: tuple[datetime, ...] = ()
    outcomes: dict[str, int] = field(default_factory=dict)
    last_reason: str = ""

    @property
    def rows(self) -> int:
        """How many rows each way was scored on."""
        return sum(stretch.rows for stretch in self.stretches)

    def errors(self, way: str) -> list[float]:
        """The way's error in each stretch, in the metric's unit."""
        return [float(METRICS[self.metric].score(stretch.losses[way])) for stretch in self.stretches]

    def error(self, way: str) -> float | None:
        """The way's error over all rows, or None when there are none."""
        return pooled_error(self.metric, self.stretches, way)

    def ratio(self, way: str) -> float | None:
        """The way's error over that of the model never retrained: below 1, retraining has paid."""
        ours, theirs = self.error(way), self.error(NEVER)
        return None if ours is None or not theirs else ours / theirs


def pooled_error(metric: str, stretches: Sequence[Stretch], way: str) -> float | None:
    """The error over all rows of some stretches: the score of their mean loss, weighted by rows."""
    rows = sum(stretch.rows for stretch in stretches)
    if not rows:
        return None
    return float(METRICS[metric].score(sum(stretch.losses[way] * stretch.rows for stretch in stretches) / rows))
