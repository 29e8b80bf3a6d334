"""Validate: every landed batch is accepted, without the rows that must not be read, or kept aside with a reason.

Batches are read in tables of bounded size, the small ones of many countries put together for one run of Great Expectations.
Whatever goes wrong is the matter of the batch it is about; what cannot be told counts as failed. That holds for what ends
the process, too: it is one of its own, another one goes on, and a batch that ended two is kept aside.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
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
from perennial.core.findings import Finding, Verdict, could_not_run, deadly, verdict_of
from perennial.core.profiles import Held, Past, Profiler
from perennial.core.removals import present
from perennial.core.trials import Trial, conformed, rejected_schema, with_reasons
from perennial.errors import NothingToDo, PerennialError, RegistryError, StoreError
from perennial.pages import page_key
from perennial.resources import Resources
from perennial.shell import lake
from perennial.shell.child import Ended, Line, in_child
from perennial.shell.database import Connection, Json, connect, fetch, fetch_one, run, transaction
from perennial.shell.frames import plain_frame
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.spec import QUARANTINE_BATCH, UNKNOWN_COUNTRY, WARN, Checks, Source
from perennial.steps import batch_attempts
from perennial.steps.batch_attempts import BatchKey, Watch, key_of, named
from perennial.steps.decisions import note
from perennial.steps.replacing import countries_in

logger = logging.getLogger(__name__)

TABLE_ROWS = 400_000  # that the suite is run over at once
SLICE_ROWS = 250_000  # of one batch among them
SHOWN = 20
OVERLAPPING = 100  # earlier batches that are searched for the originals of copies
MOST_HELD = 1_000  # batches kept aside that a later one is compared with: of some days, where one comes each few minutes
SAMPLE = 10_000
PERENNIAL, CONFIRMED = "perennial", "the next batch, {seq}, looks the same"
ORPHANED = "The task has gone, and its validation with it."
STOPPED = "The validation was told to stop."


@dataclass(frozen=True, kw_only=True)
class Job:
    """Batches that a process is to decide. ``suspects``: those that it is to have open alone."""

    resources: Resources
    source: Source
    batches: tuple[Any, ...]
    suspects: frozenset[BatchKey]
    folder: Path
    worker: str


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a process decides the batches of its job: its session, and its word to its parent."""

    job: Job
    database: Connection
    line: Line
    watch: Watch

    @property
    def resources(self) -> Resources:
        """The outside world."""
        return self.job.resources

    @property
    def source(self) -> Source:
        """The spec that the batches are held against."""
        return self.job.source

    def checks(self, batch: Any) -> Checks:
        """The limits that hold for the batch's country."""
        return self.source.country_checks.get(batch.country, self.source.checks)

    def turn_to(self, *batches: Any) -> None:
        """Say what is worked on now."""
        self.watch.on(batches, [self.checks(batch).time_limit for batch in batches])


@dataclass(frozen=True, kw_only=True)
class Bench(Desk):
    """A desk with the suite of the source."""

    suite: Suite


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
    with closing(connect(resources.database)) as database:
        landed = fetch(database, "undecided_batches", source=source.name)
    if not landed:
        raise NothingToDo(f"Source {source.name} has no landed batch to validate.")
    states = decide(resources, source, landed)
    return {state: states.count(state) for state in ("accepted", "quarantined")}


def decide(resources: Resources, source: Source, batches: Sequence[Any]) -> list[str]:
    """Validate and decide batches, each country's in their order, in a process of their own; returns their new states.

    Where that process ends early, another one goes on with what is left. Batches that other sessions are at are theirs.
    Raises RegistryError and PerennialError where no batch is to blame: a retry goes on.
    """
    states: dict[BatchKey, str] = {}
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        while left := tuple(batch for batch in batches if key_of(batch) not in states):
            job = Job(
                resources=resources,
                source=source,
                batches=left,
                suspects=batch_attempts.suspects(resources, source.name),
                folder=Path(folder),
                worker=batch_attempts.new_worker(),
            )
            if _is_done(job, states):
                break
    return [states[key_of(batch)] for batch in batches if key_of(batch) in states]


def _is_done(job: Job, states: dict[BatchKey, str]) -> bool:
    """Work off a job in a child, as far as it comes; notes the states, and who has ended the child."""
    try:
        ended = in_child(
            lambda line: _work(job, line),
            orphaned=ORPHANED,
            hear=lambda told: states.update([told]),
            seconds=job.source.checks.time_limit.total_seconds(),
        )
    except BaseException:
        _acquit(job, STOPPED)
        raise
    if ended.was_stopped and not ended.is_overdue:
        _acquit(job, STOPPED)
        raise PerennialError(f"{STOPPED} A retry goes on from here.")
    if ended.answer is None:
        _blame(job, ended)
        return False
    if not ended.is_done:
        _acquit(job, "The validation could not go on.")
    ended.result()
    return True


def _acquit(job: Job, why: str) -> None:
    with suppress(RegistryError):  # the one that went away already is what matters
        batch_attempts.acquit(job.resources, job.worker, why)


def _blame(job: Job, ended: Ended) -> None:
    """Record the death. Raises PerennialError where no batch was open: to go on would come to no end."""
    number = batch_attempts.note_death(job.resources, job.worker, str(ended))
    what = f"The process that validated {job.source.name} ended: {ended}"
    if not number:
        raise PerennialError(f"{what}, outside of any batch. See the log, and what expectations() does at {job.source.where}.")
    logger.error("%s, with %s batches open. Another one goes on.", what, number)


def _work(job: Job, line: Line) -> None:
    """Decide the batches of a job in this process. The countries of suspects come last: nobody is to wait for them."""
    with closing(connect(job.resources.database)) as database:
        desk = Desk(job=job, database=database, line=line, watch=Watch(line))
        last = {country for country, _ in job.suspects}
        for is_last in (False, True):
            batches = [batch for batch in job.batches if (batch.country in last) == is_last]
            if batches:
                _decide_all(desk, batches)


def _decide_all(desk: Desk, batches: Sequence[Any]) -> None:
    for batch in batches:
        if batch.country == UNKNOWN_COUNTRY and _begin(desk, batch):
            _decide(desk, batch, _unknown_countries(desk.resources, desk.source, batch), {}, None)
    known = [batch for batch in batches if batch.country != UNKNOWN_COUNTRY]
    clock = fetch_one(desk.database, "cursor_of", source=desk.source.name).clock
    try:
        suite = Suite(desk.source, clock)
    except Exception as error:
        logger.exception("The suite of %s cannot be built", desk.source.name)
        for batch in known:
            if _begin(desk, batch):
                _decide(desk, batch, could_not_run(error), {}, None)
        return
    bench = Bench(job=desk.job, database=desk.database, line=desk.line, watch=desk.watch, suite=suite)
    for turn in _turns(known):
        _validate_turn(bench, turn)


def _begin(desk: Desk, batch: Any) -> bool:
    """Whether the batch is to be validated now: nobody else is at it or has decided it, and it has not ended two processes."""
    desk.turn_to(batch)
    begun = batch_attempts.begin(desk.database, batch, desk.job.worker)
    if begun is None:
        logger.info("%s/%s batch %s: another validation is at it", *named(batch).values())
        return False
    if begun.attempt is not None:
        return True
    if begun.is_undecided:
        _decide(desk, batch, deadly(begun.deaths, begun.ended, desk.source.where), {}, None)
    else:
        _leave(desk, batch, begun.state)
        batch_attempts.release(desk.database, batch)
    return False


def _leave(desk: Desk, batch: Any, state: str) -> None:
    desk.line.tell((key_of(batch), state))
    logger.info("%s/%s batch %s was decided by somebody else meanwhile: %s", *named(batch).values(), state)


def _unknown_countries(resources: Resources, source: Source, batch: Any) -> Verdict:
    try:
        counts = countries_in(resources, source, batch)
    except (StoreError, pa.ArrowInvalid) as error:
        return could_not_run(error)
    named = [f"{'none' if value is None else repr(value)} ({number:,})" for value, number in counts.items()]
    said = [f"{', '.join(named[:SHOWN])}{', …' if len(named) > SHOWN else ''}"] if named else []
    if batch.unreadable_rows:
        flaws = ", ".join(f"{flaw} ({number:,})" for flaw, number in [*batch.unreadable.items()][:SHOWN])
        said.append(f"{batch.unreadable_rows:,} rows that cannot be read: {flaws}")
    text = (
        f"Countries unknown to the source, with their rows: {'; '.join(said)}. "
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


def _validate_turn(bench: Bench, batches: Sequence[Any]) -> None:
    pile: list[Slice] = []
    for batch in batches:
        is_alone = key_of(batch) in bench.job.suspects
        if is_alone:
            pile = _judge(bench, pile)
        if not _begin(bench, batch):
            continue
        try:
            for each in _slices(bench, batch):
                if pile and not _fits(pile, each):
                    pile = _judge(bench, pile)
                    bench.turn_to(batch)
                pile.append(each)
        except RegistryError:
            raise
        except Exception as error:
            pile = [each for each in pile if each.open.batch != batch]
            _fail(bench, batch, error)
        if is_alone:
            pile = _judge(bench, pile)
    _judge(bench, pile)


def _fits(pile: Sequence[Slice], each: Slice) -> bool:
    """Whether a slice may join: a second one of a batch would save little, and cost the memory of both."""
    rows = sum(other.table.num_rows for other in pile) + each.table.num_rows
    return rows <= TABLE_ROWS and pile[-1].open is not each.open


def _slices(bench: Bench, batch: Any) -> Iterator[Slice]:
    file = lake.open_rows(bench.resources.store, bench.source, batch)
    wanted = lake.schema_of(bench.source)
    columns = conformed(file.schema_arrow, wanted)
    trial = Trial(bench.source, bench.checks(batch), bench.suite.rules, batch.unreadable_rows, batch.unreadable)
    path = bench.job.folder / f"{batch.country}-{batch.seq}"
    opened = Open(batch=batch, file=file, path=path, trial=trial, columns=columns)
    left = file.metadata.num_rows
    if not left or any(finding.severity == QUARANTINE_BATCH for finding in columns):
        yield Slice(open=opened, table=wanted.empty_table(), is_last=True)
        return
    for table in lake.tables(file, SLICE_ROWS, wanted.names):
        left -= table.num_rows
        yield Slice(open=opened, table=table.cast(wanted), is_last=left == 0)


def _judge(bench: Bench, pile: Sequence[Slice]) -> list[Slice]:
    """Run the suite over some slices together, or one by one where that cannot be; decides the batches that end here.

    Returns what is left of the pile: nothing.
    """
    if not pile:
        return []
    bench.turn_to(*(each.open.batch for each in pile))
    try:
        answers = bench.suite.tallies([present(each.table, bench.source) for each in pile])
    except Exception as error:
        if len(pile) == 1:
            _fail(bench, pile[0].open.batch, error)
            return []
        for each in pile:
            _judge(bench, [each])
        return []
    for each, tallies in zip(pile, answers, strict=True):
        each.open.trial.add(each.table, tallies)
        if each.is_last:
            _conclude_safely(bench, each.open)
    return []


def _conclude_safely(bench: Bench, opened: Open) -> None:
    bench.turn_to(opened.batch)
    try:
        _conclude(bench, opened)
    except RegistryError:
        raise
    except Exception as error:
        _fail(bench, opened.batch, error)
    finally:
        opened.file.close(force=True)


def _fail(bench: Bench, batch: Any, error: Exception) -> None:
    logger.exception("%s/%s batch %s could not be validated", *named(batch).values())
    _decide(bench, batch, could_not_run(error), {}, None)


def _conclude(bench: Bench, opened: Open) -> None:
    batch, trial = opened.batch, opened.trial
    if any(finding.severity == QUARANTINE_BATCH for finding in opened.columns):
        _decide(bench, batch, verdict_of(opened.columns), {}, None)
        return
    trial.copies = _copies(bench, opened)
    trial.contradictions = _contradictions(bench, opened)
    split, profile = None, trial.profiler.profile()
    if len(trial.rejected):
        split, profile = _split(bench, opened)
    past = _past(bench, batch, profile)
    unusual = profiles.compare(profile, batch.upper, past, trial.checks)
    verdict = verdict_of([*opened.columns, *trial.findings(), *unusual])
    freed = _freed(bench, opened, profiles.confirmed(unusual, past)) if verdict.state == "accepted" else []
    _decide(bench, batch, verdict, profile, split, freed)


def _freed(bench: Bench, opened: Open, confirmed: Sequence[Held]) -> list[Any]:
    """Of the batches that this one confirms those that may be read beside it. One whose rows it may have copied may not: a
    person decides which of the two is the original."""
    batch = opened.batch
    held = [
        fetch_one(bench.database, "batch_of", source=batch.source, country=batch.country, seq=each.seq) for each in confirmed
    ]
    return [
        each for each in held
        if each.accepted_rows != 0 and (opened.trial.checks.copies == WARN or not _may_be_copied(bench, opened, each))
    ]  # fmt: skip


def _may_be_copied(bench: Bench, opened: Open, held: Any) -> bool:
    file, own = lake.open_rows(bench.resources.store, bench.source, held), np.concatenate(opened.trial.hashes)
    names = lake.schema_of(bench.source).names
    try:
        return any(np.isin(copies.hashes(table, bench.source), own).any() for table in lake.tables(file, TABLE_ROWS, names))
    finally:
        file.close(force=True)


def _contradictions(bench: Bench, opened: Open) -> int:
    """How many rows share key and ``changed_at`` with another one that says otherwise; of very many, by a sample."""
    trial = opened.trial
    if not trial.identities:
        return 0
    found = copies.shared(np.concatenate(trial.identities))
    if not len(found):
        return 0
    found = trial.places[found]
    found = found[~np.isin(found, trial.rejected)]
    if len(found) < 2:
        return 0
    sample = np.sort(found[:SAMPLE])
    rows = _rows_at(opened.file, sample, [column.name for column in bench.source.columns])
    return round(copies.contradictions(rows, bench.source) * len(found) / len(sample))


def _past(bench: Bench, batch: Any, profile: dict[str, Any]) -> Past:
    before = fetch(bench.database, "recent_profiles", number=bench.checks(batch).memory, **named(batch))
    starts, ends = profiles.days_to_ask(profile, [row.profile for row in before])
    days = fetch(bench.database, "days_seen", starts=starts, ends=ends, **named(batch)) if starts else []
    since = fetch_one(bench.database, "first_event", **named(batch)).moment
    return Past(
        batches=tuple((row.upper, row.profile) for row in before if row.profile),
        days={row.day: row.rows for row in days},
        since=since.date() if since else None,
        held=_held(bench, batch, profiles.last_telling(before)),
    )


def _held(bench: Bench, batch: Any, since: int) -> tuple[Held, ...]:
    rows = fetch(bench.database, "held_profiles", **named(batch), first_seq=since, number=MOST_HELD)
    held = [
        Held(seq=row.seq, upper=row.upper, profile=row.profile, surprises=profiles.surprises(row.findings)) for row in rows
    ]  # fmt: skip
    return tuple(each for each in held if each.surprises)


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
    desk: Desk, batch: Any, verdict: Verdict, profile: dict[str, Any], split: dict[str, Any] | None,
    freed: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Record the verdict and end the attempt, or leave the batch to whoever has decided it meanwhile.

    ``freed``: batches that are accepted with it.
    """
    with transaction(desk.database):
        is_ours = fetch_one(desk.database, "lock_undecided", **named(batch), state=batch.state) is not None
        if is_ours:
            _record(desk.database, batch, verdict, profile, split)
            for each in freed:
                _free(desk.database, each, batch)
        run(desk.database, "end_batch_attempt", **named(batch), worker=desk.job.worker)
    batch_attempts.release(desk.database, batch)
    if is_ours:
        desk.line.tell((key_of(batch), verdict.state))
        _log(desk.resources, batch, verdict)
    else:
        _leave(desk, batch, fetch_one(desk.database, "batch_of", **named(batch)).state)


def _record(
    database: Connection, batch: Any, verdict: Verdict, profile: dict[str, Any], split: dict[str, Any] | None
) -> None:  # fmt: skip
    run(database, "forget_split", **named(batch))
    if split is not None:
        run(database, "add_split", **named(batch), **split)
    report = Json(verdict.report(profile))
    run(database, "decide_batch", state=verdict.state, reason=verdict.reason, report=report, **named(batch))


def _free(database: Connection, held: Any, batch: Any) -> None:
    """Accept a batch that the next one confirms, as a person would, unless one has decided it meanwhile."""
    why = CONFIRMED.format(seq=batch.seq)
    said = f"Accepted, for {why}. It was kept aside for: {held.reason}"
    if run(database, "accept_batch", **named(held), reason=said):
        note(database, held, "accept", PERENNIAL, why)
        logger.warning("%s/%s batch %s, %s rows: accepted, for %s", *named(held).values(), held.rows, why)


def _log(resources: Resources, batch: Any, verdict: Verdict) -> None:
    log = logger.info if verdict.state == "accepted" else logger.warning
    log("%s/%s batch %s, %s rows: %s. %s", *named(batch).values(), batch.rows, verdict.state, verdict.reason)
    if verdict.reason:
        url = resources.page_url(page_key(batch.source, batch.country, batch.seq))
        logger.info("%s/%s batch %s: Data Docs: %s", *named(batch).values(), url)
