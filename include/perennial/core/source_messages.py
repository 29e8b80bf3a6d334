"""What the owner of a source reads: what has begun, worst first, what is over, and what to do."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

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
OF_BATCHES = (BATCH_HELD, NOT_VALIDATED)
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
    new = sorted((cause for cause in causes if cause.is_new), key=_rank)
    over = sorted((cause for cause in causes if not cause.is_new), key=_rank)
    parts = [bullets(TITLES[kind], _lines(alike_)) for kind, alike_ in _by_kind(new).items()]
    if over:
        parts.append(bullets("It is over", [_ended(cause) for cause in over]))
    to_do = _to_do(source, [cause for cause in new if cause.ended_at is None])
    parts.append(bullets("What to do", to_do) if to_do else "There is nothing to do.")
    if run.docs:
        parts.append(f"Data Docs of the batches:\n{run.docs}")
    parts.append(f"Run {run.run_id}:\n{run.url or 'Airflow has its page.'}")
    headline = ", ".join(_headlines(new) or _headlines_of_ends(over))
    return Message(
        owner=source.owner.name,
        tier=source.owner.tier,
        subject=f"[{source.name}] {headline}",
        body="\n\n".join(parts) + "\n",
    )


def said(cause: Cause) -> str:
    """A cause in a line: which batches or files, and why."""
    reason = short(cause.reason)
    if cause.is_new and cause.ended_at:
        reason = f"{reason} It is over: {short(cause.ending)}"
    return f"{_names(cause)}: {reason}" if cause.items else reason


def _rank(cause: Cause) -> int:
    return WORST_FIRST.index(cause.kind)


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
    what = f"{_names(cause)}: " if cause.items else ""
    since = f"since {cause.began_at:%Y-%m-%d %H:%M} UTC"
    return f"{what}{short(cause.ending)} ({TITLES[cause.kind].lower()} {since})"


def _to_do(source: Source, causes: Sequence[Cause]) -> list[str]:
    """What to do about each kind, with what to enter in the form for the first batch of it."""
    repair = f"extract again, once they were repaired in the table without a new {source.changed_at}"
    come_in = f"with a new {source.changed_at}"
    if isinstance(source, FileSource):
        repair, come_in = "or write the corrected file again under its name", "with their file"
    facts = {"repair": repair, "come_in": come_in, "source": source.name, "where": source.where}
    found: dict[str, str] = {}
    for cause in causes:
        batch = _batch(cause.items[0]) if cause.items else f"country {cause.subject}"
        is_unknown = cause.kind == BATCH_HELD and cause.items[0][0] == UNKNOWN_COUNTRY
        text = TO_DO[UNKNOWN_COUNTRY if is_unknown else cause.kind]
        to_do = text.format(**facts, batch=batch, changed_at=source.changed_at)
        found.setdefault(text, to_do)
    return list(found.values())


def _headlines(causes: Sequence[Cause]) -> list[str]:
    return [_headline(kind, alike_) for kind, alike_ in _by_kind(causes).items()]


def _headline(kind: str, causes: Sequence[Cause]) -> str:
    number = sum(cause.size for cause in causes)
    if kind == NOT_VALIDATED:
        return f"{counted(number, 'batch', 'batches')} could not be validated"
    if kind == BATCH_HELD:
        return f"{counted(number, 'batch', 'batches')} held"
    return f"{counted(number, 'file')} refused" if kind == FILE_REFUSED else HEADLINES[kind]


def _headlines_of_ends(causes: Sequence[Cause]) -> list[str]:
    return [f"over: {_headline(kind, alike_)}" for kind, alike_ in _by_kind(causes).items()]
