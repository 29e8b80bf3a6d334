"""Replace a batch: its changes are landed anew, as further batches of the same interval, and nobody reads it any more.

Batches never change, so what was landed wrongly gets successors: of the same ``changed_at`` interval, under numbers of their
own, recorded in the transaction in which the former batch is retracted. Each change is in force once: what other batches of
the same landing hold stays theirs. No landing and no other replacement of the source is recorded meanwhile.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from perennial.core.trials import REASON, REJECTED_BY, conformed
from perennial.errors import RequestError, StoreError
from perennial.resources import Resources
from perennial.shell import lake, postgres_source
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.shell.values import NO_VALUE, Raw, Reading, deletion_of, only_rows, reading, required_columns
from perennial.spec import QUARANTINE, QUARANTINE_BATCH, UNKNOWN_COUNTRY, FileSource, Source
from perennial.steps.batches import Batches, by_country, country_of
from perennial.steps.decisions import batch_of, name_of, note, short_name
from perennial.steps.landed import changes_of, identity_of, unreadable_rows
from perennial.steps.landing import stored
from perennial.steps.places import (
    key_index,
    moved_here,
    note_places,
    with_moves,
    with_overtaken,
    with_rows,
)

logger = logging.getLogger(__name__)

TABLE_ROWS = 100_000


def extract_anew(resources: Resources, source: Source, country: str, seq: int, person: str, reason: str) -> list[Any]:
    """Read a batch's interval from its table once more; returns the batches that replace it, landed and not validated.

    For a batch that is held or was retracted: its rows were mended without a new ``changed_at``, or its object is lost.
    Raises RequestError for any other batch, for a source of files, and where the table holds none of its changes any more.
    """
    if isinstance(source, FileSource):
        raise RequestError(
            f"Source {source.name} is made of files: write the file anew, mended, under its name, and it replaces its former "
            "rows; as it is, it lands anew under another name. Where the spec was wrong and not the file, validate it again."
        )
    with closing(connect(resources.database)) as database:
        key_index(resources, database, source)
        with transaction(database):
            batch = _retired(database, source, country, seq, "extract again", person, reason)
            others, unread = _landed_beside(resources, database, source, batch)
            with postgres_source.connected(resources.source_dsn(source.connection), source) as connection:
                readings = postgres_source.extract(connection, source, batch.lower, batch.upper)
                gone: list[pa.Table] = []
                stays = _without(database, readings, source, batch, others, unread, gone)
                made = _land(resources, database, source, batch, ((None, each) for each in stays), gone)
            if not made:
                raise RequestError(
                    f"The table of source {source.name} holds no change of batch {country} {seq} any more. It stays."
                )
    logger.warning("%s/%s %s was extracted again by %s: %s", source.name, country, seq, person, _names(made))
    return made


def assign_anew(resources: Resources, source: Source, batch: Any, person: str, reason: str) -> list[Any]:
    """Land a held batch's rows as today's spec reads them: those of unknown countries under the countries that it knows by
    now, those that could not be read as what they are by now. Returns the batches that replace it.

    None, and nothing is changed, where it still knows no more, or the batch cannot be read.
    """
    source = replace(source, other_countries=QUARANTINE)  # what has landed is not left out any more
    with closing(connect(resources.database)) as database:
        if not isinstance(source, FileSource):
            key_index(resources, database, source)
        with transaction(database):
            try:
                if not _knows_more(resources, source, batch):
                    return []
            except (StoreError, pa.ArrowInvalid):
                return []

            batch = _retired(database, source, batch.country, batch.seq, "validate again", person, reason)
            assigned = _assigned(resources, database, source, batch)
            made = _land(resources, database, source, batch, assigned, [])
    logger.info("%s/%s %s was read again by today's spec: %s", source.name, batch.country, batch.seq, _names(made))
    return made


def _knows_more(resources: Resources, source: Source, batch: Any) -> bool:
    """Whether the spec knows a country of a batch of unknown ones, or can read a row that it could not."""
    if batch.country == UNKNOWN_COUNTRY:
        values = countries_in(resources, source, batch)
        if any(country_of(source, value) != UNKNOWN_COUNTRY for value in values):
            return True
    for table in unreadable_rows(resources, source, batch):
        names = table[source.country].to_pylist() if batch.country == UNKNOWN_COUNTRY else []
        if _retyped(table, source).rows.num_rows or any(country_of(source, name) != UNKNOWN_COUNTRY for name in names):
            return True
    return False


def countries_in(resources: Resources, source: Source, batch: Any) -> dict[Any, int]:
    """What a batch's country column says, and in how many rows, the commonest first. Raises StoreError."""
    file = lake.open_rows(resources.store, source, batch)
    if source.country not in file.schema_arrow.names:
        raise StoreError(
            f"{resources.store.url}/{batch.object_key} has no column {source.country}. {lake.fix_of(source, batch)}"
        )
    column = file.read(columns=[source.country], use_threads=False)[0]
    values = column.to_pandas(integer_object_nulls=True)
    counts = values.astype(object).where(values.notna(), None).value_counts(dropna=False)
    return {None if pd.isna(value) else value: int(number) for value, number in counts.items()}


def _retired(database: Connection, source: Source, country: str, seq: int, decision: str, person: str, reason: str) -> Any:
    """The batch, taken out of use, while nobody else lands or replaces anything of the source."""
    fetch_one(database, "lock_landing", source=source.name)
    batch = batch_of(database, source.name, country, seq)
    name = name_of(batch)
    if batch.replaced_by:
        raise RequestError(f"Batch {name} was replaced by {batch.replaced_by} already.")
    said = f"Replaced ({decision}) by {person}: {reason}. {batch.reason}".strip()
    if run(database, "retire_batch", source=source.name, country=country, seq=seq, reason=said) != 1:
        raise RequestError(f"Batch {name} is {batch.state}. Retract it first: that says which versions were trained on it.")
    note(database, batch, decision, person, reason)
    return batch


def _landed_beside(resources: Resources, database: Connection, source: Source, batch: Any) -> tuple[pd.DataFrame, set[str]]:
    """The changes that other batches of the same landing hold, and the countries of those that cannot be read."""
    named = {"source": source.name, "country": batch.country, "seq": batch.seq}
    identity = [*source.key, source.changed_at]
    held, unread = [lake.schema_of(source).empty_table().select(identity)], set()
    for other in fetch(database, "landed_beside", **named, lower=batch.lower, upper=batch.upper):
        try:
            held += changes_of(resources, source, other)
        except (StoreError, pa.ArrowInvalid) as error:
            logger.warning("What batch %s %s holds is taken to be all rows of its country: %s", other.country, other.seq, error)
            unread.add(other.country)
    return pa.concat_tables(held).drop_null().to_pandas().drop_duplicates(), unread


def _without(
    database: Connection,
    readings: Iterable[Reading],
    source: Source,
    batch: Any,
    others: pd.DataFrame,
    unread: set[str],
    gone: list[pa.Table],
) -> Iterator[Reading]:
    """The rows that no other batch holds. One without a key cannot be told, and is its country's.

    ``gone`` gets those of the others whose key the batch's country has had, as removed from it.
    """
    for each in readings:
        identity = each.rows.select(list(others.columns))
        names = each.rows[source.country]
        stays = _is_own(identity, names, source, batch, others, unread)

        countries = np.array([country_of(source, value) for value in names.to_pylist()], dtype=object)
        others_rows = lake.marked(each.rows.filter(pa.array(~stays)), source)
        gone.append(moved_here(database, source, batch.country, others_rows, countries[~stays].tolist()))

        texts = identity_of(each.unreadable, source).select(list(others.columns))
        kept = _is_own(texts, each.unreadable[source.country], source, batch, others, unread)
        yield each.only(stays, kept)


def _is_own(
    identity: pa.Table,
    names: pa.ChunkedArray,
    source: Source,
    batch: Any,
    others: pd.DataFrame,
    unread: set[str],
) -> npt.NDArray[np.bool_]:
    countries = np.array([country_of(source, value) for value in names.to_pylist()], dtype=object)
    stays = countries == batch.country
    told = np.logical_and.reduce([column.is_valid().to_numpy() for column in identity.columns])
    sides = identity.filter(pa.array(told)).to_pandas().merge(others, how="left", indicator="side")
    is_new = (sides["side"] == "left_only").to_numpy()
    stays[told] = is_new & ~np.isin(countries[told], sorted(unread))
    own: npt.NDArray[np.bool_] = stays.astype(bool)
    return own


def _assigned(resources: Resources, database: Connection, source: Source, batch: Any) -> Iterator[tuple[str | None, Reading]]:
    """A batch's rows by the countries of today; as removed where their key changed later elsewhere."""
    for each in _stored(resources, source, batch):
        yield None, each.only(np.zeros(each.rows.num_rows, dtype=bool), _all(each.unreadable))

        for country, rows in by_country(each.rows, source):
            if country != UNKNOWN_COUNTRY and not isinstance(source, FileSource):
                rows = with_overtaken(resources, database, source, batch.lower, country, rows)  # noqa: PLW2901
            yield country, only_rows(rows)


def _all(table: pa.Table) -> npt.NDArray[np.bool_]:
    return np.ones(table.num_rows, dtype=bool)


def _stored(resources: Resources, source: Source, batch: Any) -> Iterator[pa.Table]:
    file, wanted = lake.open_rows(resources.store, source, batch), lake.schema_of(source)
    for finding in conformed(file.schema_arrow, wanted) if batch.rows else []:
        if finding.severity == QUARANTINE_BATCH:
            raise RequestError(f"Batch {source.name}/{batch.country} {batch.seq} is from before the spec's change: {finding}.")
    for table in lake.tables(file, TABLE_ROWS, wanted.names) if batch.rows else []:
        yield only_rows(table.cast(wanted))
    for table in unreadable_rows(resources, source, batch):
        yield _retyped(table, source)


def _retyped(table: pa.Table, source: Source) -> Reading:
    """Unreadable rows as today's spec reads them; what it still cannot read keeps its reason."""
    texts = {column.name: table[column.name].combine_chunks() for column in source.columns}
    is_file = isinstance(source, FileSource)
    required = required_columns(source, source.columns) if is_file else []
    no_value = NO_VALUE if is_file else ()
    made = reading(Raw(columns=texts), source.columns, required, no_value, deletion_of(source))
    places = pa.array(made.unreadable_numbers)
    kinds, reasons = (table[name].take(places).to_pylist() for name in (REJECTED_BY, REASON))
    return replace(made, kinds=kinds, reasons=reasons)


def _land(
    resources: Resources,
    database: Connection,
    source: Source,
    batch: Any,
    readings: Iterable[tuple[str | None, Reading]],
    gone: list[pa.Table],
) -> list[Any]:
    """Store rows, of a country or by country, and record them in the batch's place.

    ``gone``: what has left the batch's country.
    """
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        batches, made = Batches(source, Path(folder)), []
        for country, each in readings:
            if country is None:
                batches.add(each)
            elif each.rows.num_rows:
                batches.write_country(country, each.rows)

        files, places = with_moves(resources, database, source, batches)
        note_places(database, source, places)
        removed = pa.concat_tables([lake.schema_of(source).empty_table(), *gone])
        if removed.num_rows:
            path = Path(folder) / "gone"
            files[batch.country] = with_rows(files.get(batch.country), path, source, removed)

        for country, landed in sorted(files.items()):
            facts = stored(resources, source, country, landed)
            replaced = {"replaced_country": batch.country, "replaced_seq": batch.seq}
            named = {"source": source.name, "country": country}
            made += fetch(database, "replace_batch", **named, **facts, **replaced)
    return made


def _names(batches: Iterable[Any]) -> str:
    return ", ".join(f"{short_name(batch)} ({batch.rows:,} rows)" for batch in batches)
