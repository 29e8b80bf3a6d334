"""Proposes a source for what was found in a table or file: its key, its times, its country, and what its columns hold.

Names and values are evidence, not proof: each guess comes with a note for whoever reads the spec.
"""

import itertools
import math
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
from babel import Locale

from perennial.claims import is_path_segment
from perennial.errors import RequestError
from perennial.proposal import Found, FoundColumn, Proposal, Wanted
from perennial.spec import COUNTRY, UNKNOWN_COUNTRY, Column

MOST_COUNTRIES, MOST_CATEGORIES = 300, 20
MOST_MISSING = 0.01  # share of rows without a country, which a batch bears
LONGEST_KEY = 3
FARTHEST = 2**62
EVENT_TIMES = ("event_time", "event", "occurred", "happened", "scheduled", "started", "order", "date", "time", "created")
CHANGES = ("changed_at", "updated_at", "modified_at", "changed", "updated", "modified", "last_")
COUNTRIES = (
    "country", "nation", "market", "region", "state", "territory", "origin", "location", "city", "site", "store", "shop",
    "station", "branch", "tenant",
)  # fmt: skip
DELETIONS = ("is_deleted", "deleted_at", "deleted", "is_removed", "removed_at")
IDS = ("id", "uuid", "number", "key", "code")


def propose(found: Found, wanted: Wanted) -> Proposal:
    """The source that fits what was found. Raises RequestError, naming all that cannot be guessed and how to say it."""
    _refuse_strangers(found, wanted)
    changed_at, why_changed = _changed_at(found, wanted)
    event_time, why_event = _event_time(found, wanted, changed_at)
    country, why_country = _country(found, wanted)
    key, why_key = _key(found, wanted, changed_at, {event_time, country})

    unknown = {why_event: event_time, why_country: country, why_key: key}
    if found.has_revisions:
        unknown[why_changed] = changed_at
    _refuse_unknown(unknown)
    return Proposal(
        key=key,
        event_time=event_time,
        changed_at=changed_at,
        country=country,
        countries=_codes(found, country),
        columns=_columns(found, {*key, event_time, changed_at, country}),
        deleted=_deleted(found),
        notes={"key": why_key, "event_time": why_event, "changed_at": why_changed, "country": why_country},
        left_out=_left_out(found),
    )


def _refuse_unknown(guesses: dict[str, Any]) -> None:
    """Raise RequestError with why there is no guess, for all of which there is none."""
    problems = [why for why, guess in guesses.items() if not guess]
    if problems:
        raise RequestError("\n".join(problems))


def _left_out(found: Found) -> tuple[str, ...]:
    unusable = [column for column in found.columns if not column.type]
    return tuple(f"{column.name} ({column.kind}){column.note}" for column in unusable)


def _refuse_strangers(found: Found, wanted: Wanted) -> None:
    names = [column.name for column in found.usable]
    asked = [*wanted.key, wanted.event_time, wanted.changed_at, wanted.country]
    strangers = [name for name in asked if name and name not in names]
    if strangers:
        raise RequestError(f"There is no column {', '.join(strangers)}. There are: {', '.join(names)}.")


def _changed_at(found: Found, wanted: Wanted) -> tuple[str, str]:
    """When a row was last written; none for files, whose rows get it when they are picked up."""
    if not found.has_revisions:
        return "", ""
    times = _of_type(found, "timestamp")
    named = wanted.changed_at or _best(times, CHANGES, required=True)
    if named:
        return named, "Each write has to set it to now(), by a trigger best: a change without a new value is never seen."
    if len(times) == 1:
        why = "The only time there is: right for rows that are written once and never changed. A change needs a new value."
        return times[0].name, why
    names = ", ".join(column.name for column in times) or "none"
    return "", f"No column says when a row was last written. Name a timestamptz, CHANGED_AT=…, of: {names}."


def _event_time(found: Found, wanted: Wanted, changed_at: str) -> tuple[str, str]:
    times = [column for column in _of_type(found, "timestamp") if column.name not in DELETIONS]
    others = [column for column in times if column.name != changed_at and not _is_named(column.name, CHANGES)]
    filled = [column for column in others if found.rows[column.name].notna().all()]
    named = wanted.event_time or _best(filled or others, EVENT_TIMES) or _best(times, (changed_at,) if changed_at else ())
    if named:
        return named, f"When it happened. Other times: {_names(times, named) or 'none'}."
    zoneless = [f"{column.name}{column.note}" for column in found.columns if "zone" in column.note]
    if zoneless:
        return "", f"No column is a moment with its zone: {'; '.join(zoneless)}."
    return "", "No column says when a row happened. A source needs a moment in each row, such as 2026-01-31T10:00:00Z."


def _country(found: Found, wanted: Wanted) -> tuple[str, str]:
    """The column by which rows are parted: few values, in all rows."""
    if wanted.country:
        return wanted.country, "As it was asked for."
    fit = [column for column in found.usable if column.type in ("string", "int64") and _parts(found.rows[column.name])]
    named = next((column.name for name in COUNTRIES for column in fit if _is_named(column.name, (name,))), "")
    if named:
        return named, f"By its name. Others that part the rows: {_names(fit, named) or 'none'}."
    texts = [column for column in fit if column.type == "string" and found.rows[column.name].nunique() <= MOST_CATEGORIES]
    if texts:
        chosen = max(texts, key=lambda column: _evenness(found.rows[column.name]))
        return chosen.name, f"A guess, for it parts the rows most evenly. Others: {_names(texts, chosen.name) or 'none'}."
    return "", (
        "No column parts the rows into countries, or whatever the second axis is. Name one, COUNTRY=…; where there is none, "
        "add one: every model is trained for each of its values."
    )


def _parts(values: pd.Series) -> bool:
    return values.isna().mean() <= MOST_MISSING and 1 <= values.nunique() <= min(MOST_COUNTRIES, max(1, len(values) // 5))


def _evenness(values: pd.Series) -> float:
    """Entropy in nats: 0 for one value alone, more for many values of equal shares."""
    shares = values.value_counts(normalize=True)
    return float(-sum(share * math.log(share) for share in shares if share > 0))


def _key(found: Found, wanted: Wanted, changed_at: str, roles: set[str]) -> tuple[tuple[str, ...], str]:
    if wanted.key:
        return wanted.key, "As it was asked for."
    usable = {column.name for column in found.usable}
    for declared in found.keys:
        named = tuple(name for name in declared if name != changed_at)
        if named and usable.issuperset(named):
            more = f" {changed_at} parts its revisions." if changed_at in declared else ""
            return named, f"The table's own.{more}"
    guessed = _unique(found, changed_at, roles)
    if guessed:
        return guessed, f"A guess: different in each of {found.seen}. It must not change while a row lives."
    return (), f"No {LONGEST_KEY} columns tell the rows apart. Name those that do, KEY=a,b, or give each row a number."


def _unique(found: Found, changed_at: str, roles: set[str]) -> tuple[str, ...]:
    """The fewest columns, those named like ids first, that differ in each row; numbers with fractions identify nothing."""
    fit = [
        column.name
        for column in found.usable
        if column.type not in ("float64", "bool") and column.name != changed_at and found.rows[column.name].notna().all()
    ]
    ordered = sorted(fit, key=lambda name: (not _is_id(name), name in roles))
    for size in range(1, LONGEST_KEY + 1):
        for names in itertools.combinations(ordered[:12], size):
            if not found.rows.duplicated(list(names)).any():
                return names
    return ()


def _is_id(name: str) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    return any(word in IDS for word in words)


def _deleted(found: Found) -> str:
    fit = [column for column in found.usable if column.type in ("bool", "timestamp")] if found.has_revisions else []
    return next((name for name in DELETIONS for column in fit if column.name == name), "")


def _codes(found: Found, country: str) -> dict[str | int, str]:
    """A code for each value: ISO's for a country's code or name, else one of its own, made of its letters."""
    names = {name.lower(): code for code, name in Locale("en").territories.items() if COUNTRY.fullmatch(code)}
    made: dict[str | int, str] = {}
    for value in sorted(found.rows[country].dropna().unique().tolist()):
        known = names.get(str(value).strip().lower()) or (value if value in names.values() else "")
        made[value] = str(known) if known and known != UNKNOWN_COUNTRY else _free(_code(value), made.values())
    return made


def _code(value: str | int) -> str:
    code = re.sub(r"[^A-Za-z0-9_-]+", "_", str(value)).strip("_").upper()[:40]
    return code if is_path_segment(code) and code != UNKNOWN_COUNTRY else f"C_{code}"


def _free(code: str, taken: Iterable[str]) -> str:
    others = set(taken)
    numbered = (f"{code}_{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([code], numbered) if each not in others)


def _columns(found: Found, roles: set[str]) -> tuple[tuple[Column, str], ...]:
    return tuple(_column(column, found.rows[column.name], column.name in roles) for column in found.usable)


def _column(column: FoundColumn, values: pd.Series, has_role: bool) -> tuple[Column, str]:
    """The column with bounds far around what was seen, and a comment about that."""
    is_category = column.type == "string" and not has_role and values.nunique() <= MOST_CATEGORIES
    is_measure = column.type in ("int64", "float64") and not has_role and not _is_id(column.name)
    seen = values.dropna() if is_measure else values.iloc[:0]

    made = Column(
        column.name,
        column.type,
        nullable=not (column.is_required or has_role),
        is_category=bool(is_category),
        **_bounds(seen),
    )
    said = [
        _missing(values),
        f"seen: {seen.min():,} to {seen.max():,}" if len(seen) else "",
        f"seen: {values.nunique()} values" if is_category else "",
        column.note.lstrip(": "),
    ]
    return made, "; ".join(filter(None, said))


def _missing(values: pd.Series) -> str:
    share = float(values.isna().mean())
    return f"missing in {max(share, 0.001):.1%}" if share else ""


def _bounds(seen: pd.Series) -> dict[str, Any]:
    """Ten times as far as anything seen, to one digit, and none below 0 where values go down to it: gross mistakes are out."""
    if seen.empty:
        return {}
    least, most = float(seen.min()), float(seen.max())
    far = _rounded_up(10 * max(abs(least), abs(most), 1))
    if far >= FARTHEST:
        return {}
    ends_at_zero = 0 <= least <= most / 20
    return {"min_value": 0 if ends_at_zero else -far, "max_value": far}


def _rounded_up(number: float) -> int:
    digit: int = 10 ** math.floor(math.log10(number))
    return math.ceil(number / digit) * digit


def _of_type(found: Found, kind: str) -> list[FoundColumn]:
    return [column for column in found.usable if column.type == kind]


def _best(columns: list[FoundColumn], names: Iterable[str], required: bool = False) -> str:
    """The first column by the order of names, else the first at all, unless a name is required."""
    for name in names:
        for column in columns:
            if _is_named(column.name, (name,)):
                return column.name
    return "" if required or not columns else columns[0].name


def _is_named(name: str, words: Iterable[str]) -> bool:
    return any(word and word in name.lower() for word in words)


def _names(columns: list[FoundColumn], but: str) -> str:
    return ", ".join(column.name for column in columns if column.name != but)
