"""What the owner of a source reads: what has begun, worst first, what is over, and what to do."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from perennial.core.causes import (
    BATCH_HELD,
    FILE_REFUSED,
    FUTURE,
    HELD_BACK,
    INGEST_FAILED,
    NOT_VALIDATED,
    REJECTED,
    SILENT,
    UNDATED,
    WORST_FIRST,
    Cause,
    alike,
)
from perennial.core.messages import MOST_CAUSES, Message, bullets, counted, short
from perennial.spec import UNKNOWN_COUNTRY, FileSource, Source

SHOWN = 5
MOST_REMINDED = 120  # characters of what is over
REPAIR_ROWS = "extract again, once they were repaired in the table without a new"
REPAIR_FILE = "or write the corrected file again under its name"
OF_BATCHES = (BATCH_HELD, NOT_VALIDATED)
WITH_PAGES = (*OF_BATCHES, REJECTED)
TITLES = {
    INGEST_FAILED: "Ingest failed",
    HELD_BACK: "Rows are held back",
    SILENT: "No rows come",
    NOT_VALIDATED: "Held, because the validation could not run",
    BATCH_HELD: "Held",
    FILE_REFUSED: "Refused",
    UNDATED: "Rows that are never landed",
    REJECTED: "Accepted without many of its rows",
    FUTURE: "Rows that wait",
}
HEADLINES = {
    INGEST_FAILED: "ingest failed",
    HELD_BACK: "rows are held back",
    SILENT: "no rows come",
    UNDATED: "rows are never landed",
    REJECTED: "many rows rejected",
    FUTURE: "rows are dated in the future",
}
TO_DO = {
    INGEST_FAILED: (
        "Nothing is lost: the next run of ingest_{source} tries again and goes on from what has "
        "landed. After a correction, trigger it to have it at once."
    ),
    HELD_BACK: "The first run of ingest_{source} after it is over lands them.",
    SILENT: (
        "See whether what writes {source} still runs. Where the pause was planned, there is "
        "nothing to do: the next rows end it."
    ),
    NOT_VALIDATED: ("Correct what the reason names, then trigger quarantine_{source} with action validate again, {batch}."),
    BATCH_HELD: (
        "Trigger quarantine_{source} with action look, {batch}: its log shows the rows. Then, "
        "with a reason: accept, where they are right; validate again, after a change of the "
        "spec; {repair}. Until then the country's cells keep their champions."
    ),
    UNKNOWN_COUNTRY: (
        "Add the countries that are meant at {where}, then trigger quarantine_{source} with action validate again, {batch}."
    ),
    FILE_REFUSED: (
        "Write a refused file again under its name, corrected or, after a change of the spec, as "
        "it is. The other files have landed."
    ),
    UNDATED: "The first run of ingest_{source} after that lands them; no training reads them before.",
    REJECTED: (
        "Trigger quarantine_{source} with action look, {batch}: its log shows the rows and what "
        "they broke. Repaired rows come in by themselves {come_in}."
    ),
    FUTURE: "Each of these rows is landed when its {changed_at} has come. Correct it to have it sooner.",
}


@dataclass(frozen=True, kw_only=True)
class SourceRun:
    """The run of a source that an owner is notified by: its id, its page, and that of the Data Docs."""

    run_id: str
    url: str = ""
    docs: str = ""


def message_of_causes(source: Source, run: SourceRun, causes: Sequence[Cause]) -> Message:
    """The one message that notifies a source's owner of all that a run has found begun or ended."""
    worst_first = sorted(causes, key=lambda cause: WORST_FIRST.index(cause.kind))
    new = [cause for cause in worst_first if cause.is_new]
    over = [cause for cause in worst_first if not cause.is_new]
    headlines = _headlines(new) or [f"over: {headline}" for headline in _headlines(over)]
    parts = [
        *(bullets(TITLES[kind], _lines(same)) for kind, same in _by_kind(new).items()),
        *([bullets("It is over", [_ended(cause) for cause in over])] if over else []),
        _what_to_do(source, new),
        *_where_to_look(run, causes),
    ]
    return Message(
        owner=source.owner.name,
        tier=source.owner.tier,
        subject=f"[source {source.name}] {', '.join(headlines)}",
        body="\n\n".join(parts) + "\n",
    )


def said(cause: Cause) -> str:
    """A cause in a line: which batches or files, and why."""
    reason = short(cause.reason)
    if cause.is_new and cause.ended_at:
        reason = f"{reason} It is over: {short(cause.ending)}"
    return f"{_names(cause)}: {reason}" if cause.items else reason


def _by_kind(causes: Sequence[Cause]) -> dict[str, list[Cause]]:
    kinds: dict[str, list[Cause]] = defaultdict(list)
    for cause in causes:
        kinds[cause.kind].append(cause)
    return kinds


def _lines(causes: Sequence[Cause]) -> list[str]:
    """One line for all that has the same reason, but for its numbers."""
    same: dict[str, list[Cause]] = defaultdict(list)
    for cause in causes:
        same[alike(f"{cause.reason} {cause.ending}")].append(cause)
    groups = list(same.values())
    lines = [_line(group) for group in groups[:MOST_CAUSES]]
    rest = len(groups) - MOST_CAUSES
    return [*lines, f"and {counted(rest, 'other reason')}"] if rest > 0 else lines


def _line(group: Sequence[Cause]) -> str:
    if len(group) == 1 or not group[0].items:
        return said(group[0])
    names = "; ".join(_names(cause) for cause in group[:SHOWN])
    more = f" and of {counted(len(group) - SHOWN, 'more cause')}" if len(group) > SHOWN else ""
    return f"{names}{more}: e.g. {said(group[0]).partition(': ')[2]}"


def _names(cause: Cause) -> str:
    """Batches as the form asks for them, or files."""
    if cause.kind in OF_BATCHES:
        names = [_batch(item) for item in cause.items[:SHOWN]]
    else:
        names = [name for name, _ in cause.items[:SHOWN]]
    more = f" and {cause.size - SHOWN} more" if cause.size > SHOWN else ""
    return "; ".join(names) + more


def _batch(item: tuple[str, int]) -> str:
    country, seq = item
    return f"country {country}, batch {seq}"


def _ended(cause: Cause) -> str:
    """How it ended, and what it was."""
    was = shorten(cause.reason, MOST_REMINDED, placeholder=" …")
    return f"{short(cause.ending)} (Since {cause.began_at:%Y-%m-%d %H:%M} UTC: {short(was)})"


def _what_to_do(source: Source, new: Sequence[Cause]) -> str:
    """What to do about each kind, with what to enter in the form for the first batch of it."""
    found: dict[str, str] = {}
    for cause in new:
        if cause.ended_at is None:
            text = TO_DO[_way_out(cause)]
            batch = _first_batch([other for other in new if _way_out(other) == _way_out(cause)])
            found.setdefault(text, text.format(**_facts(source), batch=batch))
    return bullets("What to do", list(found.values())) if found else "There is nothing to do."


def _way_out(cause: Cause) -> str:
    """Rows of countries that are unknown need another way out than other held batches."""
    is_unknown = cause.kind == BATCH_HELD and cause.items[0][0] == UNKNOWN_COUNTRY
    return UNKNOWN_COUNTRY if is_unknown else cause.kind


def _facts(source: Source) -> dict[str, str]:
    changed_at = source.changed_at
    facts = {"source": source.name, "where": source.where, "changed_at": changed_at}
    if isinstance(source, FileSource):
        return facts | {"repair": REPAIR_FILE, "come_in": "with their file"}
    repair = f"{REPAIR_ROWS} {changed_at}"
    return facts | {"repair": repair, "come_in": f"with a new {changed_at}"}


def _first_batch(causes: Sequence[Cause]) -> str:
    """What to enter for the first of some batches."""
    first, number = causes[0], sum(cause.size for cause in causes)
    entered = _batch(first.items[0]) if first.items else f"country {first.subject}"
    return f"{entered}, and so for each of them" if number > 1 or len(causes) > 1 else entered


def _where_to_look(run: SourceRun, causes: Sequence[Cause]) -> list[str]:
    has_pages = run.docs and any(cause.kind in WITH_PAGES for cause in causes)
    docs = [f"Data Docs of the batches:\n{run.docs}"] if has_pages else []
    return [*docs, f"Run {run.run_id}:\n{run.url or 'Airflow has its page.'}"]


def _headlines(causes: Sequence[Cause]) -> list[str]:
    return [_headline(kind, alike_) for kind, alike_ in _by_kind(causes).items()]


def _headline(kind: str, causes: Sequence[Cause]) -> str:
    number = sum(cause.size for cause in causes)
    if kind == NOT_VALIDATED:
        return f"{counted(number, 'batch', 'batches')} could not be validated"
    if kind == BATCH_HELD:
        return f"{counted(number, 'batch', 'batches')} held"
    return f"{counted(number, 'file')} refused" if kind == FILE_REFUSED else HEADLINES[kind]
