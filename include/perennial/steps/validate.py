"""Validate: every landed batch is accepted, without the rows that must not be read, or kept aside with a reason.

Batches are read in tables of bounded size, the small ones of many countries put together for one run of Great Expectations.
Whatever goes wrong is the matter of the batch it is about; what cannot be told counts as failed.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.core import copies, profiles
from perennial.core.expectations import Suite
from perennial.core.findings import Finding, Verdict, could_not_run, verdict_of
from perennial.core.profiles import Past, Profiler
from perennial.core.removals import present
from perennial.core.trials import Trial, conformed, rejected_schema, with_reasons
from perennial.errors import NothingToDo, RegistryError, StoreError
from perennial.pages import page_key
from perennial.resources import Resources
from perennial.shell import lake
from perennial.shell.database import Connection, Json, connect, fetch, fetch_one, run, transaction
from perennial.shell.frames import plain_frame
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.spec import QUARANTINE_BATCH, UNKNOWN_COUNTRY, WARN, Checks, Source
from perennial.steps.replacing import countries_in

logger = logging.getLogger(__name__)

TABLE_ROWS = 400_000
SHOWN = 20
OVERLAPPING = 100  # earlier batches that are searched for the originals of copies


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where batches of a source are validated: the outside world, a local folder, the suite."""

    resources: Resources
    database: Connection
    source: Source
    folder: Path
    suite: Suite

    def checks(self, batch: Any) -> Checks:
        """The limits that hold for the batch's country."""
        return self.source.country_checks.get(batch.country, self.source.checks)


@dataclass(frozen=True, kw_only=True)
class Open:
    """A batch that is being read; ``path``: what the files of its parts are named after."""

    batch: Any
    file: pq.ParquetFile
    path: Path
    trial: Trial
    columns: list[Finding]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A table of an open batch; ``is_last``: with it the batch has been read."""

    open: Open
    table: pa.Table
    is_last: bool


def validate(resources: Resources, source: Source) -> dict[str, int]:
    """Accept or quarantine every landed batch of the source; returns how many of each. Raises NothingToDo without any."""
    database = connect(resources.database)
    try:
        landed = fetch(database, "undecided_batches", source=source.name)
        if not landed:
            raise NothingToDo(f"Source {source.name} has no landed batch to validate.")
        states = decide(resources, database, source, landed)
    finally:
        database.close()
    return {state: states.count(state) for state in ("accepted", "quarantined")}


def decide(resources: Resources, database: Connection, source: Source, batches: Sequence[Any]) -> list[str]:
    """Validate and decide batches, each country's in their order; returns their new states."""
    unknown = [batch for batch in batches if batch.country == UNKNOWN_COUNTRY]
    states = [_decide(resources, database, batch, _unknown_countries(resources, source, batch), {}, None) for batch in unknown]
    known = [batch for batch in batches if batch.country != UNKNOWN_COUNTRY]
    clock = fetch_one(database, "cursor_of", source=source.name).clock
    try:
        suite = Suite(source, clock)
    except Exception as error:
        logger.exception("The suite of %s cannot be built", source.name)
        return states + [_decide(resources, database, batch, could_not_run(error), {}, None) for batch in known]
    for turn in _turns(known):
        with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
            bench = Bench(resources=resources, database=database, source=source, folder=Path(folder), suite=suite)
            states += list(_validated(bench, turn))
    return states


def _unknown_countries(resources: Resources, source: Source, batch: Any) -> Verdict:
    try:
        counts = countries_in(resources, source, batch)
    except (StoreError, pa.ArrowInvalid) as error:
        return could_not_run(error)
    named = ", ".join(f"{'none' if value is None else repr(value)} ({number:,})" for value, number in [*counts.items()][:SHOWN])
    text = (
        f"Countries unknown to the source, with their rows: {named}{', …' if len(counts) > SHOWN else ''}. "
        f"Mend the rows, or add them to countries at {source.where} and validate the batch again."
    )
    return verdict_of([Finding(expectation="country", columns=(), severity=QUARANTINE_BATCH, success=False, rows=0, text=text)])


def _turns(batches: Sequence[Any]) -> Iterator[list[Any]]:
    """The first batch of each country, then the second ones: a batch is compared with those before it."""
    numbered = [
        (turn, batch)
        for _, group in groupby(batches, key=lambda batch: batch.country)
        for turn, batch in enumerate(sorted(group, key=lambda batch: batch.seq))
    ]
    for _, entries in groupby(sorted(numbered, key=lambda entry: (entry[0], entry[1].rows)), key=lambda entry: entry[0]):
        yield [batch for _, batch in entries]


def _validated(bench: Bench, batches: Sequence[Any]) -> Iterator[str]:
    pile: list[Slice] = []
    for batch in batches:
        try:
            for each in _slices(bench, batch):
                if pile and not _fits(pile, each):
                    yield from _judged(bench, pile)
                    pile = []
                pile.append(each)
        except RegistryError:
            raise
        except Exception as error:
            pile = [each for each in pile if each.open.batch != batch]
            yield _failed(bench, batch, error)
    yield from _judged(bench, pile)


def _fits(pile: Sequence[Slice], each: Slice) -> bool:
    """Whether a slice may join: a second one of a batch would save little, and cost the memory of both."""
    rows = sum(other.table.num_rows for other in pile) + each.table.num_rows
    return rows <= TABLE_ROWS and pile[-1].open is not each.open


def _slices(bench: Bench, batch: Any) -> Iterator[Slice]:
    file = lake.open_batch(bench.resources.store, batch.object_key, batch.sha256)
    wanted = lake.schema_of(bench.source)
    columns = conformed(file.schema_arrow, wanted)
    trial = Trial(bench.source, bench.checks(batch), bench.suite.rules)
    path = bench.folder / f"{batch.country}-{batch.seq}"
    opened = Open(batch=batch, file=file, path=path, trial=trial, columns=columns)
    left = file.metadata.num_rows
    if not left or any(finding.severity == QUARANTINE_BATCH for finding in columns):
        yield Slice(open=opened, table=wanted.empty_table(), is_last=True)
        return
    for table in lake.tables(file, TABLE_ROWS // 2, wanted.names):
        left -= table.num_rows
        yield Slice(open=opened, table=table.cast(wanted), is_last=left == 0)


def _judged(bench: Bench, pile: Sequence[Slice]) -> Iterator[str]:
    """Run the suite over some slices together, or one by one where that cannot be; decides the batches that end here."""
    if not pile:
        return
    try:
        answers = bench.suite.tallies([present(each.table, bench.source) for each in pile])
    except Exception as error:
        if len(pile) == 1:
            yield _failed(bench, pile[0].open.batch, error)
            return
        for each in pile:
            yield from _judged(bench, [each])
        return
    for each, tallies in zip(pile, answers, strict=True):
        each.open.trial.add(each.table, tallies)
        if each.is_last:
            yield _concluded(bench, each.open)


def _concluded(bench: Bench, opened: Open) -> str:
    try:
        return _conclude(bench, opened)
    except RegistryError:
        raise
    except Exception as error:
        return _failed(bench, opened.batch, error)
    finally:
        opened.file.close(force=True)


def _failed(bench: Bench, batch: Any, error: Exception) -> str:
    logger.exception("%s/%s batch %s could not be validated", batch.source, batch.country, batch.seq)
    return _decide(bench.resources, bench.database, batch, could_not_run(error), {}, None)


def _conclude(bench: Bench, opened: Open) -> str:
    batch, trial = opened.batch, opened.trial
    if any(finding.severity == QUARANTINE_BATCH for finding in opened.columns):
        return _decide(bench.resources, bench.database, batch, verdict_of(opened.columns), {}, None)
    trial.copies = _copies(bench, opened)
    split, profile = None, trial.profiler.profile()
    if len(trial.rejected):
        split, profile = _split(bench, opened)
    unusual = profiles.compare(profile, batch.upper, _past(bench, batch, profile), trial.checks)
    verdict = verdict_of([*opened.columns, *trial.findings(), *unusual])
    return _decide(bench.resources, bench.database, batch, verdict, profile, split)


def _past(bench: Bench, batch: Any, profile: dict[str, Any]) -> Past:
    named = {"source": batch.source, "country": batch.country, "seq": batch.seq}
    before = fetch(bench.database, "recent_profiles", number=bench.checks(batch).memory, **named)
    starts, ends = profiles.days_to_ask(profile, [row.profile for row in before])
    days = fetch(bench.database, "days_seen", starts=starts, ends=ends, **named) if starts else []
    since = fetch_one(bench.database, "first_event", **named).moment
    return Past(
        batches=tuple((row.upper, row.profile) for row in before if row.profile),
        days={row.day: row.rows for row in days},
        since=since.date() if since else None,
    )


def _copies(bench: Bench, opened: Open) -> npt.NDArray[np.int64]:
    """Positions of the batch's copies; earlier batches are searched where copies are to be kept out."""
    source, trial = bench.source, opened.trial
    own = np.concatenate(trial.hashes) if trial.hashes else np.empty(0, dtype=np.uint64)
    earlier, earlier_keys = _earlier(bench, opened) if trial.checks.copies != WARN else _none_earlier(source)
    suspects = copies.repeated(own, copies.hashes(earlier, source))
    if not len(suspects):
        return suspects
    rows = _rows_at(opened.file, suspects, lake.schema_of(source).names)
    found = copies.copies(rows, plain_frame(earlier), source)
    if not len(found):
        return found
    keys = plain_frame(opened.file.read(columns=[*source.key], use_threads=False).select([*source.key]))
    return copies.without_revisions(found, keys, earlier_keys)


def _none_earlier(source: Source) -> tuple[pa.Table, pd.DataFrame]:
    empty = lake.schema_of(source).empty_table()
    return empty, plain_frame(empty.select(list(source.key)))


def _earlier(bench: Bench, opened: Open) -> tuple[pa.Table, pd.DataFrame]:
    """Rows of earlier accepted batches that may be originals of the batch's, and the keys of all rows of the same moments."""
    source, batch = bench.source, opened.batch
    if batch.event_min is None:
        return _none_earlier(source)
    moments = opened.file.read(columns=[source.event_time], use_threads=False)[0].drop_null().unique()
    before = fetch(
        bench.database, "overlapping_batches", source=batch.source, country=batch.country, seq=batch.seq,
        event_min=batch.event_min, event_max=batch.event_max, number=OVERLAPPING,
    )  # fmt: skip
    own = np.concatenate(opened.trial.hashes)
    same, keys = [lake.schema_of(source).empty_table()], [_none_earlier(source)[1]]
    for other in before:
        for table in lake.rows_at(bench.resources.store, other, source, moments):
            keys.append(plain_frame(table.select(list(source.key))))
            same.append(table.filter(pa.array(np.isin(copies.hashes(table, source), own))))
    return pa.concat_tables(same, promote_options="default"), pd.concat(keys)


def _rows_at(file: pq.ParquetFile, positions: npt.NDArray[np.int64], names: Sequence[str]) -> pd.DataFrame:
    """Some rows of a batch, indexed by their positions."""
    parts, first = [], 0
    for table in lake.tables(file, TABLE_ROWS, names):
        inside = positions[(positions >= first) & (positions < first + table.num_rows)]
        if len(inside):
            parts.append(table.take(pa.array(inside - first)))
        first += table.num_rows
    rows = plain_frame(pa.concat_tables(parts))
    return rows.set_axis(positions, axis=0)


def _split(bench: Bench, opened: Open) -> tuple[dict[str, Any], dict[str, Any]]:
    """Store the batch's accepted and its rejected rows as two objects; returns the ledger's row of it and the profile of
    what is accepted."""
    trial, rejected = opened.trial, opened.trial.rejected
    schema, profiler, first = lake.schema_of(bench.source), Profiler(bench.source), 0
    good = BatchWriter(opened.path.with_suffix(".accepted"), bench.source)
    bad = BatchWriter(opened.path.with_suffix(".rejected"), bench.source, rejected_schema(schema))
    for whole in lake.tables(opened.file, TABLE_ROWS // 4, schema.names):
        table = whole.cast(schema)
        out = rejected[(rejected >= first) & (rejected < first + table.num_rows)]
        stays = np.ones(table.num_rows, dtype=bool)
        stays[out - first] = False
        accepted = table.filter(pa.array(stays))
        profiler.add(accepted)
        if accepted.num_rows:
            good.write(accepted)
        if len(out):
            bad.write(with_reasons(table.filter(pa.array(~stays)), *trial.reasons(first, out)))
        first += table.num_rows
    stored = _stored(bench, opened.batch, good.close(), bad.close())
    return {**stored, "rows": trial.rows, "rejections": Json(trial.by_rule())}, profiler.profile()


def _stored(bench: Bench, batch: Any, good: LandedFile, bad: LandedFile) -> dict[str, Any]:
    row: dict[str, Any] = {
        "accepted_rows": good.rows, "rejected_rows": bad.rows, "event_min": good.event_min, "event_max": good.event_max
    }  # fmt: skip
    places = {"accepted": ("lake", good), "rejected": ("quarantine", bad)}
    for name, (folder, file) in places.items():
        key = f"{folder}/{batch.source}/{batch.country}/{file.sha256}.parquet"
        if file.rows:
            bench.resources.store.put_file(key, file.path)
        facts = (key, file.sha256, file.size) if file.rows else (None, None, None)
        row |= dict(zip((f"{name}_key", f"{name}_sha256", f"{name}_size"), facts, strict=True))
        file.path.unlink()
    return row


def _decide(
    resources: Resources, database: Connection, batch: Any, verdict: Verdict, profile: dict[str, Any],
    split: dict[str, Any] | None,
) -> str:  # fmt: skip
    named = {"source": batch.source, "country": batch.country, "seq": batch.seq}
    with transaction(database):
        run(database, "forget_split", **named)
        if split is not None:
            run(database, "add_split", **named, **split)
        report = Json(verdict.report(profile))
        run(database, "decide_batch", state=verdict.state, reason=verdict.reason, report=report, **named)
    log = logger.info if verdict.state == "accepted" else logger.warning
    log("%s/%s batch %s, %s rows: %s. %s", batch.source, batch.country, batch.seq, batch.rows, verdict.state, verdict.reason)
    if verdict.reason:
        url = resources.page_url(page_key(batch.source, batch.country, batch.seq))
        logger.info("%s/%s batch %s: Data Docs: %s", batch.source, batch.country, batch.seq, url)
    return verdict.state
