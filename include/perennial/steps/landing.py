"""What every landing does, wherever its rows come from: one batch per country, stored, then recorded in one transaction.

Rows that cannot be read are part of their country's batch, in an object of their own.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perennial.core.key_filters import key_types
from perennial.errors import RegistryError
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, fetch_one, run, transaction
from perennial.spec import Source
from perennial.steps.batches import Landed
from perennial.steps.places import Places, note_places

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The changes of a source from ``lower`` to ``upper``: its batches by country; the rows of its files, if any,
    by country the filters of their keys; and the keys of a table's rows.

    ``rechecked``: the part of an interval landed before that was looked through once more. Its batches are late ones, and the
    cursor stays.
    """

    lower: datetime
    upper: datetime
    clock: datetime
    batches: dict[str, Landed]
    files: tuple[dict[str, Any], ...] = ()
    rechecked: tuple[datetime, datetime] | None = None
    key_filters: dict[str, bytes] = field(default_factory=dict)
    places: Places | None = None


def cursor_of(database: Connection, source: Source, clock: datetime) -> datetime:
    """Up to which ``changed_at`` the source has landed."""
    run(database, "start_cursor", source=source.name, clock=clock)
    return fetch_one(database, "cursor_of", source=source.name).position  # type: ignore[no-any-return]


def stored(resources: Resources, source: Source, country: str, batch: Landed) -> dict[str, Any]:
    """Store a batch's objects; returns what the ledger says of them."""
    file, aside = batch.file, batch.unreadable
    key = f"lake/{source.name}/{country}/{file.sha256}.parquet"
    resources.store.put_file(key, file.path)
    facts: dict[str, Any] = {
        "rows": file.rows, "event_min": file.event_min, "event_max": file.event_max, "object_key": key, "sha256": file.sha256,
        "size": file.size, "unreadable_rows": 0, "unreadable": Json(dict(batch.flaws)), "unreadable_key": None,
        "unreadable_sha256": None, "unreadable_size": None,
    }  # fmt: skip
    if aside is None:
        return facts
    key = f"quarantine/{source.name}/{country}/{aside.sha256}.parquet"
    resources.store.put_file(key, aside.path)
    found = {"rows": aside.rows, "key": key, "sha256": aside.sha256, "size": aside.size}
    return facts | {f"unreadable_{name}": value for name, value in found.items()}


def record(resources: Resources, database: Connection, source: Source, landing: Landing) -> dict[str, int]:
    """Store the batches' objects, then record batches, files and the cursor's move together; returns readable rows by country.

    Raises RegistryError when the cursor has moved meanwhile.
    """
    facts_of = {country: stored(resources, source, country, batch) for country, batch in landing.batches.items()}
    bounds = {"lower": landing.lower, "upper": landing.upper}
    with transaction(database):
        if _advance(database, source, landing) != 1:
            raise RegistryError(f"Another landing of {source.name} was faster. Nothing of this one was recorded.")
        is_late = landing.rechecked is not None
        for country, facts in facts_of.items():
            named = {"source": source.name, "country": country, "is_late": is_late}
            run(database, "land_batch", **named, **facts, **bounds)
        for country, filter_ in landing.key_filters.items():
            said = {"key_types": key_types(source), "filter": filter_}
            run(database, "add_key_filter", source=source.name, country=country, **said)
        note_places(database, source, landing.places)
        for facts in landing.files:
            run(database, "pick_up_file", source=source.name, **facts)
    _log_unreadable(source, facts_of)
    return {country: facts["rows"] for country, facts in facts_of.items()}


def _log_unreadable(source: Source, facts_of: Mapping[str, Mapping[str, Any]]) -> None:
    text = "%s/%s: %s rows cannot be read and are kept aside in %s"
    for country, facts in facts_of.items():
        if facts["unreadable_rows"]:
            rows = f"{facts['unreadable_rows']:,}"
            logger.error(text, source.name, country, rows, facts["unreadable_key"])


def _advance(database: Connection, source: Source, landing: Landing) -> int:
    """Move the cursor, or how far the source was looked through once more; returns 0 where another landing has."""
    if landing.rechecked:
        start, end = landing.rechecked
        return run(database, "advance_recheck", source=source.name, start=start, end=end)
    bounds = {"lower": landing.lower, "upper": landing.upper}
    return run(database, "advance_cursor", source=source.name, clock=landing.clock, **bounds)
