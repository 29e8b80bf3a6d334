"""What was found in a table or file, and the source that is proposed of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perennial.spec import Column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class FoundColumn:
    """A column as it was found: ``type`` is the spec's, empty where none can hold it; ``kind`` its own type."""

    name: str
    type: str
    kind: str
    is_required: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Columns, some rows of theirs in the spec's types, and the keys that are declared, the primary one first.

    ``seen`` says how many rows were looked at, for people. ``has_revisions``: whether rows come with a ``changed_at`` of
    their own, as a table's do; files' get one.
    """

    columns: tuple[FoundColumn, ...]
    rows: "pd.DataFrame"
    seen: str
    keys: tuple[tuple[str, ...], ...] = ()
    has_revisions: bool = False

    @property
    def usable(self) -> tuple[FoundColumn, ...]:
        """Those that a spec can declare."""
        return tuple(column for column in self.columns if column.type)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody has said already; empty: to be guessed."""

    key: tuple[str, ...] = ()
    event_time: str = ""
    changed_at: str = ""
    country: str = ""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A source's fields, each of ``columns`` with what was seen of it; ``notes``: why a field is what it is.

    ``left_out``: columns that no spec can declare, and why.
    """

    key: tuple[str, ...]
    event_time: str
    changed_at: str
    country: str
    countries: Mapping[str | int, str]
    columns: tuple[tuple[Column, str], ...]
    deleted: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
