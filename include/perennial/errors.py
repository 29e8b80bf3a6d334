"""Every error Perennial raises on purpose. The class docstring is the message where none is given."""

from collections.abc import Sequence
from dataclasses import dataclass


class PerennialError(Exception):
    """Perennial could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class NothingToDo(PerennialError):
    """There is nothing to do."""


class Refused(PerennialError):
    """The request was refused: trying the same again will not help."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong in a spec: where it stands, what is wrong, how to mend it."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


class SpecError(Refused):
    """A spec is wrong."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class RequestError(Refused):
    """A run was asked for with parameters that do not fit the fleet."""


class AlreadyDecided(Refused):
    """The run is decided, and its outcomes are final."""


class SettingsError(Refused):
    """The environment lacks a setting, or a setting cannot be used."""


class SourceError(PerennialError):
    """A source could not be read."""


class SourceMismatch(Refused):
    """A source does not look like its spec says."""


class FileRefused(Refused):
    """A file of a source cannot be taken in."""


class ExamplesError(Refused):
    """A recipe's examples or features are not of the agreed form."""


class RecipeMissing(Refused):
    """The code of a version's recipe is not in the deployed tree."""


class Unreachable(PerennialError):
    """A service cannot be reached, or went away: nothing is wrong with what was asked of it, and a retry goes on."""


class RegistryError(PerennialError):
    """The registry could not be read or written."""


class RegistryLost(RegistryError, Unreachable):
    """The registry cannot be reached, or went away."""


class StaleVerdict(PerennialError):
    """The champion, or what is read of the source, has changed since the challenger was judged."""


class Blocked(PerennialError):
    """The cell has a blocker: its promoted challenger may not be published yet."""


class StoreError(PerennialError):
    """The object store could not be read or written."""


class StoreLost(Unreachable):
    """The object store cannot be reached, or went away. No ``StoreError``: that says something of an object."""


class ObjectMissing(StoreError):
    """An object is not in the store."""


class ArtifactError(PerennialError):
    """An artifact is missing, altered, or not signed by a trusted key."""


class ArtifactAltered(ArtifactError):
    """The bytes of an artifact are not those on record."""


class OtherLibrary(ArtifactError):
    """An artifact was fitted by another scikit-learn, and is not shown to be read by the one installed here."""


class NotRebuilt(PerennialError):
    """A champion of another scikit-learn cannot be fitted again here as it was."""


class SanityError(PerennialError):
    """A fitted model's predictions are not usable."""


class ChampionFails(PerennialError):
    """The champion in force cannot predict."""


class CellTimeout(PerennialError):
    """A cell met its time limit."""


class RulesBroken(PerennialError):
    """What registry, lake and store hold breaks a rule."""


class AddressError(Refused):
    """An alert address cannot be used."""


class Undelivered(PerennialError):
    """A message could not be delivered."""


class IngestFailed(Refused):
    """Tasks of a source's run failed."""


class FleetFailed(Refused):
    """More cells failed than the fleet's limit allows."""
