"""The examples that can be replayed: a fleet, the source it reads, and the world that feeds it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from embedded.errors import EmbeddedError
from worlds import flights, retail, ride_hailing


class World(Protocol):
    """What an example's world can do; ``FREQUENCIES`` names the lengths of a step that it knows."""

    @property
    def FREQUENCIES(self) -> Mapping[str, Any]: ...  # noqa: N802 - a module's constant

    def steps(self, start: datetime | None, every: str) -> Iterator[datetime]:
        """The moments up to which it is written, one after the other."""

    def prepare(self, place: str) -> None:
        """Create its tables where they are missing; ``place`` is a database's DSN, or the URL of the store for its files."""

    def position(self, place: str) -> datetime | None:
        """Up to which moment it has been written."""

    def advance(self, place: str, until: datetime, cache: Path) -> int:
        """Write what happened up to a moment; returns the rows. Repeating it adds nothing."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A fleet over a world: Connection ``<database>_db`` leads to its operational database; without one it drops files."""

    fleet: str
    source: str
    world: World
    every: str
    database: str | None = None

    def checked(self, every: str | None) -> str:
        """How long a step is, the usual where nothing is said. Raises EmbeddedError for one that its world does not know."""
        if every is not None and every not in self.world.FREQUENCIES:
            known = ", ".join(self.world.FREQUENCIES)
            raise EmbeddedError(f"{self.fleet} has no step EVERY={every}. Choose one of {known}.")
        return every or self.every


SHOP = Example(fleet="shop", source="order_lines", database="shop", world=retail, every="month")
FLIGHTS = Example(fleet="flights", source="flights", world=flights, every="month")
RIDE_HAILING = Example(fleet="ride_hailing", source="trips", database="rides", world=ride_hailing, every="day")
EXAMPLES = {example.fleet: example for example in (SHOP, RIDE_HAILING, FLIGHTS)}
