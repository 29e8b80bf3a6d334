"""Look: what of a source is kept aside, said so that a person can decide about it."""

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa

from perennial.core.trials import REASON, REJECTED_BY
from perennial.errors import NothingToDo, StoreError
from perennial.resources import Resources
from perennial.shell import lake
from perennial.shell.database import connect, fetch
from perennial.spec import Source
from perennial.steps.decisions import short_name

logger = logging.getLogger(__name__)

MOST_BATCHES, SAMPLES, WIDTH = 20, 3, 60
HEAD = ("batch", "state", "landed", "rows", "rejected", "unreadable", "events")


def look(resources: Resources, source: Source, country: str | None = None, seq: int | None = None) -> dict[str, list[str]]:
    """Log a table of the batches that are held and of the newest ones with rejected or
    unreadable rows, of one country or number or all,
    then of each the reason, the objects and some rows; returns their names. Raises NothingToDo where nothing is kept aside.
    """
    with closing(connect(resources.database)) as database:
        batches = fetch(database, "kept_aside", source=source.name, country=country, seq=seq, number=MOST_BATCHES)
    if not batches:
        raise NothingToDo(f"Source {source.name} keeps nothing of that kind aside.")
    for line in _table([HEAD, *map(_facts, batches)]):
        logger.info("%s", line)
    for batch in batches[: 2 * MOST_BATCHES]:
        for line in _details(resources, source, batch):
            logger.info("%s", line)
    held = [short_name(batch) for batch in batches if batch.state == "quarantined"]
    rejected = [short_name(batch) for batch in batches if batch.rejected_rows or batch.unreadable_rows]
    return {"held": held, "with rejected rows": rejected}


def _facts(batch: Any) -> tuple[str, ...]:
    events = f"{batch.event_min:%Y-%m-%d %H:%M} to {batch.event_max:%Y-%m-%d %H:%M}" if batch.event_min else "none"
    landed = f"{batch.landed_at:%Y-%m-%d %H:%M}"
    numbers = (f"{number or 0:,}" for number in (batch.rows, batch.rejected_rows, batch.unreadable_rows))
    return short_name(batch), batch.state, landed, *numbers, events


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _details(resources: Resources, source: Source, batch: Any) -> Iterator[str]:
    name = short_name(batch)
    yield f"{name}: {batch.reason or 'nothing was found'}"
    if batch.decision:
        yield f"{name}: last decided by {batch.person} ({batch.decision}): {batch.decided_because}"
    if batch.replaced_by:
        yield f"{name}: replaced by {batch.replaced_by}"
    yield f"{name}: landed rows in {resources.store.url}/{batch.object_key}"
    key, sha256 = batch.object_key, batch.sha256
    if batch.rejected_rows:
        key, sha256 = batch.rejected_key, batch.rejected_sha256
        rules = ", ".join(f"{rule} ({number:,})" for rule, number in batch.rejections.items())
        yield f"{name}: {batch.rejected_rows:,} rejected rows in {resources.store.url}/{key}, by {rules}"
    yield from (f"{name}: such as {text}" for text in _samples(resources, key, sha256, lake.fix_of(source, batch)))
    if batch.unreadable_rows:
        key, sha256 = batch.unreadable_key, batch.unreadable_sha256
        flaws = ", ".join(f"{flaw} ({number:,})" for flaw, number in batch.unreadable.items())
        yield f"{name}: {batch.unreadable_rows:,} rows that cannot be read in {resources.store.url}/{key}: {flaws}"
        yield from (f"{name}: such as {text}" for text in _samples(resources, key, sha256, lake.fix_of(source, batch)))


def _samples(resources: Resources, key: str, sha256: str, fix: str) -> list[str]:
    try:
        tables = lake.tables(lake.open_batch(resources.store, key, sha256, fix), SAMPLES)
        return [_row(row) for row in next(tables, pa.table({})).to_pylist()]
    except (StoreError, pa.ArrowInvalid) as error:
        return [f"rows that cannot be read: {error}"]


def _row(row: dict[str, Any]) -> str:
    """A row's values, and why it was rejected."""
    values = ", ".join(f"{name}={_short(value)}" for name, value in row.items() if name not in (REASON, REJECTED_BY))
    return f"{values} | {row[REASON]}" if REASON in row else values


def _short(value: Any) -> str:
    text = f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "tzinfo") else repr(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"
