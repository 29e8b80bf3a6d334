"""What a person may ask for about the batches of a source."""

from dataclasses import dataclass

from perennial.errors import RequestError
from perennial.spec import UNKNOWN_COUNTRY, Source

LOOK, ACCEPT, VALIDATE, EXTRACT, RETRACT = ACTIONS = ("look", "accept", "validate again", "extract again", "retract")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One of ACTIONS, about one batch, or about all that are held where country or number are None; by whom and why."""

    action: str
    country: str | None = None
    seq: int | None = None
    person: str = ""
    reason: str = ""

    @property
    def batch(self) -> tuple[str, int]:
        """Country and number of the one batch it is about. Raises RequestError where it names none."""
        if self.country is None or self.seq is None:
            raise RequestError(f"To {self.action}, name one batch by country and number. Look, to see which there are.")
        return self.country, self.seq

    def check(self, source: Source) -> None:
        """Raise RequestError for what cannot be asked of the source, naming what can."""
        known = sorted({*source.countries.values(), UNKNOWN_COUNTRY})
        if self.action not in ACTIONS:
            raise RequestError(f"No action is called {self.action!r}. Choose one of {', '.join(ACTIONS)}.")
        if self.country is not None and self.country not in known:
            raise RequestError(f"Source {source.name} has no country {self.country}. It has: {', '.join(known)}.")
        if self.seq is not None and (self.seq < 1 or self.country is None):
            raise RequestError(f"Batches are numbered from 1 in each country: name the country of batch {self.seq}.")
        if self.action in (ACCEPT, EXTRACT, RETRACT):
            _ = self.batch
        if self.action != LOOK and not self.person.strip():
            raise RequestError("No person has triggered this run, and whoever reads the ledger will ask. Trigger it by hand.")
        if self.action != LOOK and not self.reason.strip():
            raise RequestError("A decision about a batch needs a reason: whoever reads the ledger will ask.")
