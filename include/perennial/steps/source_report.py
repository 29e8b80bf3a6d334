"""Report of a source: what has begun and what is over of all that its owner is to know, each once.

What is wrong is on record before anybody is notified (``causes``), by the step that found it or by this one,
which reads it off the registry. The message is recorded in the transaction that marks its causes as notified, and
delivered after it, at least once. So whatever is killed, the next report of the source goes on from there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from perennial.core.causes import (
    FILE_REFUSED,
    HELD_BACK,
    INGEST_FAILED,
    REJECTED,
    SILENT,
    Cause,
    alike,
    cause_of_batch,
    worth_a_word,
)
from perennial.core.rhythm import Rhythm
from perennial.core.source_messages import SourceRun, message_of_causes, said
from perennial.errors import IngestFailed, RegistryLost
from perennial.resources import Post
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.spec import Source
from perennial.steps.causes import begin, end
from perennial.steps.tell import Audience, deliver_waiting, write_down

logger = logging.getLogger(__name__)

ENDED_EARLY = (
    "Notifying the owner of source %s ended early. What was landed and decided stands; what "
    "perennial.causes and perennial.messages hold goes out with the source's next report."
)


def report(post: Post, source: Source, source_run: SourceRun, failures: Mapping[str, str] | None) -> dict[str, int]:
    """Notify a source's owner of what has begun or ended since the last report; returns how many causes of each.

    ``failures``: why tasks of the run failed, by task; None where it was no ingest, which says nothing of that.
    Raises IngestFailed with those reasons, after the owner was notified, and RegistryLost when the registry goes
    away: a retry goes on.
    """
    counts = {"begun": 0, "ended": 0}
    try:
        counts = _notify(post, source, source_run, failures)
    except RegistryLost:
        raise
    except Exception:
        logger.exception(ENDED_EARLY, source.name)
    if failures:
        raise IngestFailed("\n".join(_sentences(failures)))
    return counts


def _notify(post: Post, source: Source, source_run: SourceRun, failures: Mapping[str, str] | None) -> dict[str, int]:
    audience = Audience(scope=f"source/{source.name}", owners={source.owner.name: source.owner})
    with closing(connect(post.database)) as database:
        with transaction(database):
            fetch_one(database, "lock_causes", source=source.name)
            _note(database, source, failures)
            causes = [_cause(row) for row in fetch(database, "untold_causes", source=source.name)]
            name = _write(database, source, audience, source_run, causes)
        _log(source, causes)
        deliver_waiting(post, database, audience, name)
    begun = sum(cause.is_new for cause in causes)
    return {"begun": begun, "ended": sum(cause.ended_at is not None for cause in causes)}


def _write(database: Connection, source: Source, audience: Audience, source_run: SourceRun, causes: Sequence[Cause]) -> str:
    """Record the message, and which causes it is about; returns its name."""
    if not causes:
        return source_run.run_id
    name: str = fetch_one(database, "next_message", run_id=source_run.run_id).name
    write_down(database, audience, name, message_of_causes(source, source_run, causes))
    run(database, "note_told", ids=[cause.id for cause in causes], message=name)
    return name


def _cause(row: Any) -> Cause:
    return Cause(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        reason=row.reason,
        began_at=row.began_at,
        is_new=row.is_new,
        ended_at=row.ended_at,
        ending=row.ending,
        items=tuple(zip(row.items, row.numbers, strict=True)),
        size=row.size,
    )


def _log(source: Source, causes: Sequence[Cause]) -> None:
    for cause in causes:
        if cause.is_new:
            logger.error("%s: %s: %s", source.name, cause.kind, said(cause))
        else:
            logger.info("%s: %s is over: %s", source.name, cause.kind, cause.ending)


def _note(database: Connection, source: Source, failures: Mapping[str, str] | None) -> None:
    """Record what the registry and the run show to have begun or ended."""
    _note_failures(database, source, failures)
    _note_held(database, source)
    _note_files(database, source)
    _note_rejected(database, source)
    if failures is not None:
        _note_silence(database, source, has_failed=bool(failures))


def _sentences(failures: Mapping[str, str]) -> list[str]:
    return [f"{task}: {reason}" for task, reason in failures.items()]


def _note_failures(database: Connection, source: Source, failures: Mapping[str, str] | None) -> None:
    """Each sentence is a cause; all end when a run has no failed task."""
    if failures is None:
        return
    for sentence in _sentences(failures):
        begin(database, source, INGEST_FAILED, sentence, alike(sentence))
    if not failures:
        end(database, source, INGEST_FAILED, "Ingest works again.")


def _note_held(database: Connection, source: Source) -> None:
    for batch in fetch(database, "held_without_cause", source=source.name):
        kind, subject = cause_of_batch(batch.country, batch.findings)
        facts = {"subject": subject, "reason": batch.reason, "item": batch.country, "number": batch.seq}
        run(database, "begin_cause_of_items", source=source.name, kind=kind, **facts)
    _end_settled(database, fetch(database, "settled_batches", source=source.name), _became)


def _became(batch: Any) -> str:
    """What became of a batch that was held."""
    name = f"country {batch.country}, batch {batch.seq},"
    if batch.replaced_by:
        return f"{name} is replaced by {batch.replaced_by} ({batch.decision} by {batch.person}: {batch.because})"
    by = f" by {batch.person} ({batch.decision}: {batch.because})" if batch.decision else ""
    return f"{name} is {batch.state}{by}"


def _note_files(database: Connection, source: Source) -> None:
    for file in fetch(database, "refused_without_cause", source=source.name):
        facts = {"reason": file.reason, "item": file.name, "number": file.revision}
        subject = alike(file.reason)
        run(
            database, "begin_cause_of_items", source=source.name, kind=FILE_REFUSED, subject=subject, **facts
        )  # fmt: skip
    settled = fetch(database, "settled_files", source=source.name)
    _end_settled(database, settled, lambda file: f"{file.name} was written again and taken")


def _end_settled(database: Connection, rows: Sequence[Any], became: Callable[[Any], str]) -> None:
    """End causes of which each batch or file is settled: rows by cause."""
    for cause, settled in groupby(rows, key=lambda row: row.id):
        ending = "; ".join(became(row) for row in settled)
        run(database, "end_cause", id=cause, ending=f"{ending}.")


def _note_rejected(database: Connection, source: Source) -> None:
    """By country, as its newest accepted batch is."""
    for row in fetch(database, "rejected_lately", source=source.name):
        checks = source.country_checks.get(row.country, source.checks)
        what = f"{row.rejected:,} of {row.rows:,} rows of country {row.country}, batch {row.seq}"
        if worth_a_word(row.rejected, row.rows, checks):
            begin(database, source, REJECTED, f"{what}, are rejected.", row.country)
        else:
            end(database, source, REJECTED, f"Only {what}, are rejected.", row.country)


def _note_silence(database: Connection, source: Source, *, has_failed: bool) -> None:
    """Whether rows come as they used to. An ingest that fails or is held back does not know."""
    seen = fetch_one(database, "arrivals", source=source.name)
    if seen.last is None:
        return
    since = f"{seen.last:%Y-%m-%d %H:%M} UTC"
    if any(seen.last > began for began in _open_since(database, source, SILENT)):
        end(database, source, SILENT, f"Rows come again, since {since}.")
    if has_failed or _open_since(database, source, HELD_BACK):
        return
    rhythm = _rhythm(database, source, seen)
    if rhythm.is_silent(seen.now):
        expected = _span(rhythm.longest_expected(seen.now))
        usual = f"By its past it is silent at this time for {expected} at most."
        begin(database, source, SILENT, f"None since {since}. {usual}")


def _open_since(database: Connection, source: Source, kind: str) -> list[datetime]:
    return [row.began_at for row in fetch(database, "open_causes", source=source.name, kind=kind)]


def _rhythm(database: Connection, source: Source, seen: Any) -> Rhythm:
    rows = fetch(database, "recent_pauses", source=source.name)
    pauses = [(row.began_at, row.ended_at) for row in rows]
    return Rhythm(first=seen.first, last=seen.last, pauses=pauses)


def _span(length: timedelta) -> str:
    hours = round(length.total_seconds() / 3600)
    return f"{hours} hours" if hours < 48 else f"{hours / 24:.0f} days"
