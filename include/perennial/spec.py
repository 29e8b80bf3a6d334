"""What people write: fleets, models, sources. Cheap to import, and a spec never raises: it says its faults."""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from perennial.claims import (
    IDENTIFIER_BYTES,
    is_aware,
    is_count,
    is_identifier,
    is_lag,
    is_mapping_to,
    is_name,
    is_number,
    is_number_in,
    is_path_segment,
    is_pattern,
    is_short_enough,
    is_span,
    is_table,
    is_text,
    is_tuple_of,
    matches,
    shown,
)
from perennial.errors import Fault
from perennial.schedules import is_schedule

METRICS = ("rmse", "mae", "log_loss", "brier")
COLUMN_TYPES = ("string", "int64", "float64", "bool", "timestamp")
REJECT_ROW, QUARANTINE_BATCH, WARN = "warning", "critical", "info"
SEVERITIES = {REJECT_ROW: "REJECT_ROW", QUARANTINE_BATCH: "QUARANTINE_BATCH", WARN: "WARN"}
COUNTRY = re.compile(r"[A-Z]{2}")
FILE_NAMES = {
    "csv": r"(?i:.+\.csv(\.gz)?)",
    "jsonl": r"(?i:.+\.(jsonl|ndjson|json)(\.gz)?)",
    "parquet": r"(?i:.+\.parquet)",
}
REMOVED = "removed"
UNKNOWN_COUNTRY = "ZZ"
QUARANTINE, SKIP = OTHER_COUNTRIES = ("quarantine", "skip")
KEPT_ASIDE_WITH = ("rejected_by", "rejected_because")  # columns that rejected rows get
CLUSTER_UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "int64": (int,),
    "float64": (int, float),
    "bool": (bool,),
    "timestamp": (datetime,),
}
EMPTY_SUITE = "there are no expectations, and no column is bounded: an empty suite lets everything in"
WRITE_SCHEDULE = 'Write five fields of cron, such as "*/10 * * * *", or a preset such as "@daily".'
SAFE_CODES = "Use letters, digits, _ and -: codes name folders"


def Days(number: float) -> timedelta:  # noqa: N802 - reads as a unit in specs
    """A span of ``number`` days."""
    return timedelta(days=number)


def Minutes(number: float) -> timedelta:  # noqa: N802
    """A span of ``number`` minutes."""
    return timedelta(minutes=number)


def Seconds(number: float) -> timedelta:  # noqa: N802
    """A span of ``number`` seconds."""
    return timedelta(seconds=number)


def failed(where: str, checks: Iterable[tuple[bool, str, str]], of: str = "") -> list[Fault]:
    """A fault for each check (passed, what is wrong otherwise, fix) that is not passed."""
    return [Fault(where=where, what=of + what, fix=fix) for passed, what, fix in checks if not passed]


def lag_checks(name: str, value: object, example: str) -> Iterable[tuple[bool, str, str]]:
    """What has to hold for a span of time that may be none."""
    fix = f"Give e.g. {example}."
    yield isinstance(value, timedelta), f"{name} is no span", fix
    yield is_lag(value) or not isinstance(value, timedelta), f"{name} is negative", fix
    yield is_short_enough(value), f"{name} is longer than a century", fix


def calling_line() -> str:
    """``file:line`` of the statement that constructs the spec whose ``__post_init__`` asks."""
    frame = sys._getframe(3)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@dataclass(frozen=True)
class Owner:
    """Who answers for a model or source. ``alerts`` are Apprise addresses; tier 1 is told first."""

    name: str
    alerts: tuple[str, ...] = ()
    tier: int = 2

    def faults(self, where: str) -> list[Fault]:
        """What is not of the agreed form. `make check-models` also asks Apprise whether it can read the addresses."""
        alerts = "an owner's alerts are not a tuple of addresses"
        tier = f"an owner's tier {shown(self.tier)} is not a number"
        checks = (
            (is_text(self.name), "an owner has no name", 'Write Owner("team").'),
            (is_tuple_of(self.alerts, str), alerts, 'Write alerts=("mailto://team@example.com",).'),
            (is_count(self.tier), tier, "Give 1, 2, …"),
        )
        return failed(where, checks)


def owner_faults(owner: object, where: str) -> list[Fault]:
    """What is wrong with the owner of a spec."""
    if isinstance(owner, Owner):
        return owner.faults(where)
    return [Fault(where=where, what="owner is not an Owner", fix='Write owner=Owner("team").')]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a challenger must show.

    ``floor``: the worst value of the model's metric it may have, in the metric's unit.
    ``margin``: how much worse than the champion, as a share of its metric, is still "not inferior".
    ``confidence``: of the one-sided bound on the relative gain.
    ``min_rows``, ``min_clusters``: the least a comparison span holds; ``min_train_rows``: the least a fit sees.
    ``cluster``: rows that err together, the unit of the bootstrap: "day", "hour" (of the event) or a column of the
    examples, such as a customer's id.
    ``max_refit_distance``: root mean square distance of served and judged predictions, in standard deviations
    of the target.
    ``max_missing_labels``: the share of examples that may be without a target though their ``label_time`` has come: a
    missing label is no "no", and examples without one are left out.
    """

    floor: float
    margin: float = 0.01
    confidence: float = 0.95
    min_rows: int = 200
    min_clusters: int = 10
    min_train_rows: int = 200
    cluster: str = "day"
    max_refit_distance: float = 0.5
    max_missing_labels: float = 0.5

    def faults(self, where: str) -> list[Fault]:
        """Every bound that cannot be used."""
        confidence = is_number(self.confidence) and 0.5 < self.confidence < 1
        margin = is_number(self.margin) and 0 <= self.margin < 1
        distance = is_number(self.max_refit_distance) and self.max_refit_distance > 0
        said = {name: shown(value) for name, value in vars(self).items()}
        checks = (
            (
                is_number_in(self.floor, 0),
                f"gate floor {said['floor']} is no number of at least 0",
                "Give the worst metric you would publish, in its own unit.",
            ),
            (margin, f"gate margin {said['margin']} is not in [0, 1)", "Give a share such as 0.01."),
            (confidence, f"gate confidence {said['confidence']} is not in (0.5, 1)", "Give 0.95."),
            *(
                (is_count(getattr(self, name), least), f"gate {name} {said[name]} is below {least}", fix)
                for name, least, fix in (
                    ("min_rows", 2, "Give at least 2."),
                    ("min_clusters", 2, "Give at least 2."),
                    ("min_train_rows", 1, "Give at least 1."),
                )
            ),
            (is_text(self.cluster), "gate cluster is no name", 'Write "day", "hour" or a column.'),
            (distance, "gate max_refit_distance is not positive", "Give e.g. 0.5."),
            (
                is_number_in(self.max_missing_labels, 0, 1),
                f"gate max_missing_labels {said['max_missing_labels']} is no share",
                "Give e.g. 0.2.",
            ),
        )
        return failed(where, checks)

    def clusters_within(self, holdout: timedelta) -> float:
        """The most clusters that a comparison span can hold: of a column's values any number."""
        unit = CLUSTER_UNITS.get(self.cluster)
        return holdout // unit + 1 if unit else float("inf")


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """When a cell is due: ``min_new_rows`` rows its last verdict has not seen, or nothing asked for ``max_age``.

    After an inconclusive verdict it also waits until a promotion is within reach; ``max_age`` ends that wait, too.
    """

    min_new_rows: int = 100
    max_age: timedelta | None = None

    def faults(self, where: str) -> list[Fault]:
        """What can be no cadence."""
        said = shown(self.min_new_rows)
        age = self.max_age is None or is_span(self.max_age)
        checks = (
            (is_count(self.min_new_rows), f"min_new_rows {said} is no number of rows", "Give 100."),
            (age, "max_age is not a positive span", "Write e.g. max_age=Days(30), or leave it out."),
        )
        return failed(where, checks, of="cadence: ")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is predicted, from which source, by which recipe, judged how.

    ``examples(rows, as_of)`` returns one row per prediction with ``event_time``, ``label_time``, ``target`` and raw
    columns under a unique index; ``as_of`` is how far the country's rows reach, no later period may be filled in;
    ``features(examples)`` works row by row and learns nothing; ``estimator()`` returns
    an unfitted scikit-learn pipeline. ``columns`` names the source columns ``examples`` reads (empty: all).
    ``trusted`` names what a fit of it consists of beyond the project's reviewed types: docs/types.md.
    """

    name: str
    owner: Owner
    source: str
    countries: tuple[str, ...]
    examples: Callable[..., Any]
    features: Callable[..., Any]
    estimator: Callable[[], Any]
    metric: str
    window: timedelta
    gate: Gate
    lookback: timedelta = timedelta(0)
    holdout: timedelta = timedelta(days=30)
    cadence: Cadence = Cadence()
    columns: tuple[str, ...] = ()
    refit: bool = True
    trusted: tuple[str, ...] = ()
    seed: int = 0
    attempts: int = 2
    time_limit: timedelta = timedelta(minutes=10)
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())

    def faults(self) -> list[Fault]:
        """Every fault of this spec that can be seen without running it."""
        found = failed(self.where, (*self._checks_of_code(), *self._checks_of_time(), *self._checks_of_rest()))
        found += country_faults(self.countries, self.where)
        found += owner_faults(self.owner, self.where)
        if isinstance(self.gate, Gate):
            found += self.gate.faults(self.where) or self._faults_of_span(self.gate)
        if isinstance(self.cadence, Cadence):
            found += self.cadence.faults(self.where)
        return found

    def _checks_of_code(self) -> Iterable[tuple[bool, str, str]]:
        for name in ("examples", "features", "estimator"):
            function = getattr(self, name)
            is_named = callable(function) and getattr(function, "__name__", "<lambda>") != "<lambda>"
            yield is_named, f"{name} is not a named function", f"Write def {name}(…) in this file."

    def _checks_of_time(self) -> Iterable[tuple[bool, str, str]]:
        for name, example in (("window", "Days(180)"), ("holdout", "Days(30)"), ("time_limit", "Minutes(10)")):
            span = getattr(self, name)
            yield is_span(span), f"{name} is not a positive span", f"Write e.g. {name}={example}."
            yield is_short_enough(span), f"{name} is longer than a century", f"Write e.g. {name}={example}."
        yield from lag_checks("lookback", self.lookback, "Days(30)")

    def _checks_of_rest(self) -> Iterable[tuple[bool, str, str]]:
        metric = self.metric if isinstance(self.metric, str) else None
        yield is_name(self.name), f"model name {shown(self.name)} is not a name", "Use lower case, digits and _."
        yield metric in METRICS, f"unknown metric {shown(self.metric)}", f"Use one of {', '.join(METRICS)}."
        yield is_name(self.source), f"source {shown(self.source)} is not a name", 'Write source="…", its name.'
        yield is_count(self.attempts, 1), f"attempts is {shown(self.attempts)}", "Give at least 1."
        yield is_count(self.seed), f"seed is {shown(self.seed)}", "Give a whole number such as 0."
        yield isinstance(self.refit, bool), f"refit is {shown(self.refit)}", "Write True or False."
        yield isinstance(self.gate, Gate), "gate is not a Gate", "Write gate=Gate(floor=…)."
        yield isinstance(self.cadence, Cadence), "cadence is not a Cadence", "Write cadence=Cadence(min_new_rows=…)."
        yield is_tuple_of(self.columns, str), "columns is not a tuple of names", 'Write columns=("…",).'
        yield is_tuple_of(self.trusted, str), "trusted is not a tuple of types", 'Write trusted=("…",).'

    def _faults_of_span(self, gate: Gate) -> list[Fault]:
        """Whether any comparison span can hold the clusters that a verdict needs."""
        if not is_span(self.holdout) or gate.clusters_within(self.holdout) >= gate.min_clusters:
            return []
        most, unit = gate.clusters_within(self.holdout), gate.cluster
        least = f"Days({gate.min_clusters})" if unit == "day" else f"Minutes({60 * gate.min_clusters})"
        what = (
            f"a holdout of {self.holdout} holds {most:.0f} {unit}s at most, and gate min_clusters asks for "
            f"{gate.min_clusters}: no verdict would ever come"
        )
        return [Fault(where=self.where, what=what, fix=f"Write holdout={least} or more, or lower min_clusters.")]


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Models that are run together: one folder, one retrain DAG, one matrix.

    ``schedule``: cron fallback beside the sources' assets. ``workers``: parallel trainings.
    ``failure_limit``: the share of planned cells that may fail before the run itself counts as failed.
    ``country_pattern``: what a code of the country axis looks like, if not ISO 3166-1 alpha-2.
    """

    name: str
    owner: Owner
    countries: tuple[str, ...]
    schedule: str = "17 3 * * *"
    workers: int = 2
    failure_limit: float = 0.0
    country_pattern: str = COUNTRY.pattern
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())

    def faults(self) -> list[Fault]:
        """Every fault of this declaration."""
        is_usable = is_pattern(self.country_pattern)
        failures = "failure_limit is not in [0, 1]"
        pattern = f"country_pattern {shown(self.country_pattern)} is no regular expression"
        checks = (
            (is_name(self.name), f"fleet name {shown(self.name)} is not a name", "Use lower case, digits and _."),
            (is_count(self.workers, 1), f"workers is {shown(self.workers)}", "Give at least 1."),
            (is_number_in(self.failure_limit, 0, 1), failures, "Give a share such as 0.1."),
            (is_schedule(self.schedule), f"schedule {shown(self.schedule)} is no cron", WRITE_SCHEDULE),
            (is_usable, pattern, "Correct it, or leave it out."),
        )
        found = failed(self.where, checks)
        found += country_faults(self.countries, self.where, self.country_pattern if is_usable else ".*")
        return found + owner_faults(self.owner, self.where)


def country_faults(countries: object, where: str, pattern: str = ".*") -> list[Fault]:
    """What is wrong with the codes of a model's or fleet's countries."""
    write = 'Write countries=("GB", …).'
    if not isinstance(countries, tuple):
        return [Fault(where=where, what="countries is not a tuple", fix=write)]
    if not is_tuple_of(countries, str):
        return [Fault(where=where, what="countries holds other things than codes", fix=write)]
    twice = len(set(countries)) < len(countries)
    unsafe = [code for code in countries if not is_path_segment(code)]
    wrong = [code for code in countries if code not in unsafe and not matches(pattern, code)]
    checks = (
        (len(countries) > 0, "countries is empty", write),
        (not twice, "a country is named twice", "Name each country once."),
        (not wrong, f"no country codes: {_listed(wrong)}", "Use ISO 3166-1 alpha-2 or set country_pattern."),
        (not unsafe, f"no country codes: {_listed(unsafe)}", f"{SAFE_CODES}."),
        (UNKNOWN_COUNTRY not in countries, *_RESERVED_CODE),
    )
    return failed(where, checks)


_RESERVED_CODE = (
    f"the code {UNKNOWN_COUNTRY} is reserved for rows of unknown countries",
    "Use another one: ISO 3166 leaves XA to XZ free.",
)


def _listed(values: Iterable[object]) -> str:
    """Some values for a message: codes and names as they are, anything odd as it is written in Python."""
    several = list(values)
    is_plain = [isinstance(value, str) and value.isprintable() and len(value) < 80 for value in several]
    texts = [str(value) if plain else shown(value) for value, plain in zip(several, is_plain, strict=True)]
    return ", ".join(texts[:20]) + (", …" if len(texts) > 20 else "")


@dataclass(frozen=True)
class Column:
    """A column of a source and its type: string, int64, float64, bool or timestamp (UTC); and which values it may hold.

    ``min_value``, ``max_value`` (numbers, or aware datetimes), ``value_set`` and ``regex`` mean what they mean in Great
    Expectations, and hold for the values that are there; ``nullable=False`` asks for one in every row. ``severity`` is what
    happens where they do not hold: REJECT_ROW, QUARANTINE_BATCH or WARN. ``is_category``: the shares of its values are
    compared with those before, as they are of every column with a ``value_set``.
    """

    name: str
    type: str
    nullable: bool = True
    min_value: Any = None
    max_value: Any = None
    value_set: tuple[Any, ...] = ()
    regex: str = ""
    severity: str = REJECT_ROW
    is_category: bool = False

    def faults(self, where: str) -> list[Fault]:
        """What cannot hold for a column of this type."""
        kind = self.type if isinstance(self.type, str) else ""
        severity = self.severity if isinstance(self.severity, str) else ""
        is_regex = isinstance(self.regex, str) and is_pattern(self.regex)
        is_set = isinstance(self.value_set, tuple) and all(self._fits(value) for value in self.value_set)
        types, severities = f"Use {', '.join(COLUMN_TYPES)}.", f"Use {', '.join(SEVERITIES.values())}."
        flags = isinstance(self.nullable, bool) and isinstance(self.is_category, bool)
        checks = (
            (kind in COLUMN_TYPES, f"unknown column type {_listed([self.type])}", types),
            (severity in SEVERITIES, f"unknown severity {shown(self.severity)}", severities),
            *self._checks_of_bounds(),
            (is_set, "value_set is no tuple of values of the type", 'Write e.g. value_set=("card", "cash").'),
            (not self.regex or kind == "string", "a regex needs a string column", "Leave it out."),
            (is_regex, f"{shown(self.regex)} is no regular expression", "Correct it."),
            (flags, "nullable or is_category is neither True nor False", "Write True or False."),
        )
        return failed(where, checks, of=f"column {_listed([self.name])}: ")

    @property
    def is_bounded(self) -> bool:
        """Whether the column says which values it may hold."""
        bounds = (self.min_value, self.max_value)
        return any(bound is not None for bound in bounds) or bool(self.value_set) or bool(self.regex)

    def _checks_of_bounds(self) -> Iterable[tuple[bool, str, str]]:
        bounds = [bound for bound in (self.min_value, self.max_value) if bound is not None]
        kinds = {"int64": (int, float), "float64": (int, float), "timestamp": (datetime,)}
        allowed = kinds.get(self.type, ()) if isinstance(self.type, str) else ()
        fit = all(isinstance(bound, allowed) and self._fits(bound) for bound in bounds)
        aware = all(is_aware(bound) for bound in bounds if isinstance(bound, datetime))
        ordered = not (fit and aware and len(bounds) == 2) or bounds[0] <= bounds[1]
        yield fit, "bounds do not fit the type", "Use numbers or datetimes."
        yield aware, "a bound has no time zone", "Write datetime(…, tzinfo=UTC)."
        yield ordered, "min_value is above max_value", "Swap them."

    def _fits(self, value: object) -> bool:
        """Whether a value can be one of this column's; a bool is no number."""
        kinds = KINDS.get(self.type, (object,)) if isinstance(self.type, str) else (object,)
        if isinstance(value, bool):
            return bool in kinds or object in kinds
        if isinstance(value, int | float):
            return is_number(value) and (isinstance(value, kinds) or self.type == "int64")
        return isinstance(value, kinds)


@dataclass(frozen=True)
class Limit:
    """From which deviation on a check warns, and from which it quarantines the batch. None: never."""

    warn: float | None
    quarantine: float | None = None

    @property
    def is_usable(self) -> bool:
        """Whether both bounds are numbers or None."""
        return all(bound is None or is_number_in(bound, 0) for bound in (self.warn, self.quarantine))


@dataclass(frozen=True, kw_only=True)
class Checks:
    """How a batch is compared with its country's accepted past. Deviations are effect sizes beyond what the number of rows
    explains; most only warn, because a surprising batch is rarely a wrong one, and a held one keeps its country waiting.
    What the next batch shows, too, is no surprise any more: both are accepted. A flood and another scale need a day for that.

    ``volume``: factor between the rows of a day and those of the same weekday lately and of the same season a year ago;
    only too many rows quarantine: what is missing may still come.
    ``shares``: of nulls and categories, as Cohen's h beyond all of the last ``memory`` batches. Fewer nulls only warn.
    ``scale``: factor between a number column's quartiles and those of the last ``memory`` batches: prices in cents. It
    quarantines where most of the batch is beyond it.
    ``freshness``: how many times longer than ever the newest event has been waited for.
    ``max_rejected``: the share of rejected rows above which the whole batch is kept aside.
    ``copies``: what happens to rows like an earlier row in all but key and ``changed_at``, under a key not seen before.
    WARN looks within the batch; REJECT_ROW and QUARANTINE_BATCH also into the accepted ones of the same time.
    ``max_future``: how far an event may lie ahead of the source's clock. ``max_text``: characters of a text.
    ``time_limit``: how long a batch's validation may take; one that meets it twice is kept aside.
    """

    volume: Limit = Limit(2.0, 20.0)
    shares: Limit = Limit(0.3, 1.5)
    scale: Limit = Limit(3.0, 8.0)
    freshness: Limit = Limit(3.0)
    memory: int = 20
    max_rejected: float = 0.2
    copies: str = WARN
    max_future: timedelta = timedelta(days=1)
    max_text: int = 10_000
    time_limit: timedelta = timedelta(minutes=10)

    def faults(self, where: str) -> list[Fault]:
        """Every limit that cannot be used."""
        copies = self.copies if isinstance(self.copies, str) else ""
        limit = "Write e.g. time_limit=Minutes(10)."
        rejected, severities = shown(self.max_rejected), f"Use {', '.join(SEVERITIES.values())}."
        checks = [
            (is_number_in(self.max_rejected, 0, 1), f"max_rejected {rejected} is no share", "Give e.g. 0.2."),
            (copies in SEVERITIES, f"unknown severity {shown(self.copies)}", severities),
            (is_count(self.memory, 1), f"memory is {shown(self.memory)}", "Give at least 1 batch."),
            (is_count(self.max_text, 1), f"max_text is {shown(self.max_text)}", "Give e.g. 10_000."),
            (is_span(self.time_limit), f"time_limit {shown(self.time_limit)} is no positive span", limit),
            (is_short_enough(self.time_limit), "time_limit is longer than a century", limit),
            *lag_checks("max_future", self.max_future, "Days(1)"),
        ]
        for name in ("volume", "shares", "scale", "freshness"):
            limit = getattr(self, name)
            is_usable = not isinstance(limit, Limit) or limit.is_usable
            checks.append((isinstance(limit, Limit), f"{name} is not a Limit", "Write Limit(2.0)."))
            checks.append((is_usable, f"{name} is no limit of numbers", "Write Limit(2.0), or None for never."))
        return failed(where, checks, of="checks: ")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Postgres table that fresh rows are extracted from.

    ``key`` and ``changed_at`` identify a change of a row; ``changed_at`` is ``timestamptz``, set no earlier than the
    start of the writing transaction. ``country`` is the column, of type string or int64, that ``countries`` maps to codes.
    ``other_countries`` says what happens to rows of values that it does not map: "quarantine", until the spec knows them,
    or "skip": they are left out and counted in the log. A row without a country is always quarantined. ``expectations()``
    returns row-wise Great Expectations objects beside those that ``columns`` imply, and may be left out where columns are
    bounded; their ``severity`` says what happens where they fail: REJECT_ROW, QUARANTINE_BATCH (Great Expectations' own
    default; ``mostly`` says from which share on) or WARN. ``checks`` compare a batch with its country's past,
    ``country_checks`` by other limits for some countries. ``connection`` names an Airflow Connection. Where it leads
    to a hot standby, ``primary`` names one to its primary: rows are read from the standby, and only the transactions that
    are still open are asked of the primary, in the same database. ``max_commit_lag``: how far ``changed_at`` may lie before
    that start all the same, and how far the clocks of servers that take each other's place may differ.

    ``deleted`` names the column that marks a row as deleted, if there is one: a bool that is true, or a timestamp that
    is not null. Such a row lands as removed: nothing reads its key any more, and no expectation is asked of it.
    """

    name: str
    owner: Owner
    connection: str
    table: str
    key: tuple[str, ...]
    event_time: str
    changed_at: str
    country: str
    countries: Mapping[str | int, str] | Mapping[str, str]
    columns: tuple[Column, ...]
    expectations: Callable[[], list[Any]] = list
    checks: Checks = Checks()
    country_checks: Mapping[str, Checks] = field(default_factory=dict)
    other_countries: str = QUARANTINE
    deleted: str = ""
    max_commit_lag: timedelta = timedelta(seconds=5)
    primary: str = ""
    schedule: str = "*/5 * * * *"
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())

    @property
    def revision_columns(self) -> tuple[str, ...]:
        """The columns that say which row it is, when it happened, and which of its revisions is the latest."""
        return (*self.key, self.event_time, self.changed_at)

    @property
    def is_bounded(self) -> bool:
        """Whether columns say what to expect beyond what every row must have."""
        always = (*self.key, self.event_time, self.changed_at)
        return any(each.is_bounded or not (each.nullable or each.name in always) for each in self.declared_columns)

    @property
    def declared_columns(self) -> tuple[Column, ...]:
        """The columns as the spec declares them, without those that landing adds."""
        return self.columns

    def faults(self) -> list[Fault]:
        """Every fault of this spec that can be seen without the source."""
        found = failed(self.where, (*self._checks(), *self._checks_of_place()))
        found += owner_faults(self.owner, self.where)
        found += validation_faults(self.checks, self.country_checks, self.countries, self.where)
        if not is_tuple_of(self.columns, Column) or not is_tuple_of(self.key, str):
            what = "columns is not a tuple of Columns, or key not one of names"
            fix = 'Write key=("id",), columns=(Column("id", "int64"), …).'
            return [*found, Fault(where=self.where, what=what, fix=fix)]
        found += [fault for column in self.declared_columns for fault in column.faults(self.where)]
        found += failed(self.where, (*self._checks_of_columns(), *self._checks_of_names()))
        return found + self._faults_of_countries()

    def _checks(self) -> Iterable[tuple[bool, str, str]]:
        name, others = shown(self.name), shown(self.other_countries)
        schedule = f"schedule {shown(self.schedule)} is no cron"
        known = isinstance(self.other_countries, str) and self.other_countries in OTHER_COUNTRIES
        yield is_name(self.name), f"source name {name} is not a name", "Use lower case, digits and _."
        yield is_text(self.connection), "connection is no name", 'Write connection="…", an Airflow Connection.'
        yield is_schedule(self.schedule), schedule, WRITE_SCHEDULE
        yield known, f"other_countries is {others}", f"Use one of {', '.join(OTHER_COUNTRIES)}."
        write = "Write def expectations() in this file."
        yield callable(self.expectations), "expectations is not a function", write

    def _checks_of_place(self) -> Iterable[tuple[bool, str, str]]:
        """Where the rows are read from, and up to when."""
        table = f"table {shown(self.table)} is no name of a table"
        limit = f"Write schema.table, each without a dot and of at most {IDENTIFIER_BYTES} bytes."
        yield is_table(self.table), table, limit
        primary = f"primary {shown(self.primary)} is no name of a Connection"
        yield isinstance(self.primary, str), primary, 'Write e.g. primary="orders_primary".'
        yield from lag_checks("max_commit_lag", self.max_commit_lag, "Seconds(5)")

    def _checks_of_columns(self) -> Iterable[tuple[bool, str, str]]:
        """Whether the columns that have a meaning are there, and of its type."""
        types = {column.name: column.type for column in self.columns if isinstance(column.name, str)}
        named = (*self.key, self.event_time, self.changed_at, self.country)
        missing = [name for name in named if not isinstance(name, str) or name not in types]
        times = [name for name in (self.event_time, self.changed_at) if name not in missing and types[name] != "timestamp"]
        unnamed = self.expectations is not list or self.is_bounded
        deleted = f"deleted names {shown(self.deleted)}, which is no bool or timestamp of columns"
        marks = "Name a Column that is true, or has a time, where the row is deleted."
        is_marked = isinstance(self.deleted, str)
        kind = types.get(self.deleted) if is_marked and self.deleted else "bool"
        yield is_marked and kind in ("bool", "timestamp"), deleted, marks
        yield not missing, f"no Column for {_listed(missing)}", "Declare it in columns."
        yield not times, f"{_listed(times)} must be of type timestamp", "Change the Column."
        yield bool(self.key), "key is empty", "Name the columns that identify a row."
        yield len(set(self.key)) == len(self.key), "key names a column twice", "Name each column once."
        yield unnamed, EMPTY_SUITE, "Bound a column, or write def expectations() in this file."

    def _checks_of_names(self) -> Iterable[tuple[bool, str, str]]:
        """Whether columns can be called so."""
        names = [column.name for column in self.declared_columns]
        texts = [name for name in names if isinstance(name, str)]
        odd = [name for name in names if not self._can_be_a_column(name)]
        twice = sorted({name for name in texts if texts.count(name) > 1})
        rename = "Rename it, in the table by a view that the source reads, or leave it out"
        bools = [column.name for column in self.declared_columns if column.type == "bool"]
        says_so = self.deleted == REMOVED and REMOVED in bools
        taken = KEPT_ASIDE_WITH if says_so else (REMOVED, *KEPT_ASIDE_WITH)
        reserved = [name for name in taken if name in texts]
        what = f"the name {_listed(reserved)} is reserved: rows in the lake and in quarantine get such a column"
        yield not odd, f"no names of columns: {_listed(map(shown, odd))}", self._form_of_names
        yield not twice, f"{_listed(twice)} is declared twice in columns", "Leave one out."
        yield not reserved, what, f"{rename}."

    _form_of_names = f"Use texts of 1 to {IDENTIFIER_BYTES} bytes."

    @staticmethod
    def _can_be_a_column(name: object) -> bool:
        return is_identifier(name)

    def _faults_of_countries(self) -> list[Fault]:
        """Whether values of the country column can be what ``countries`` maps, and its codes codes."""
        if not is_mapping_to(self.countries, str):
            fix = 'Write countries={"United Kingdom": "GB", …}.'
            return [Fault(where=self.where, what="countries is no mapping to codes", fix=fix)]
        kind = next((each.type for each in self.columns if each.name == self.country), "string")
        can_name = kind in ("string", "int64") or kind not in COLUMN_TYPES
        wanted = {"string": str, "int64": int}.get(kind, object) if can_name else object
        odd = [key for key in self.countries if not isinstance(key, wanted) or isinstance(key, bool)]
        unsafe = sorted({code for code in self.countries.values() if not is_path_segment(code)})
        mapped = f"countries maps {_listed(map(shown, odd))}, and column {_listed([self.country])} is of type {kind}"
        numbers = "Write numbers without quotes" if kind == "int64" else "Write texts in quotes"
        checks = (
            (len(self.countries) > 0, "countries is empty", 'Write countries={"United Kingdom": "GB", …}.'),
            (can_name, f"the country column is of type {kind}", "Make it a string or int64."),
            (not odd, mapped, f"{numbers}, as the column has them."),
            (not unsafe, f"no country codes: {_listed(unsafe)}", f"{SAFE_CODES}."),
            (UNKNOWN_COUNTRY not in self.countries.values(), *_RESERVED_CODE),
        )
        return failed(self.where, checks)


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """Files below a prefix of an object store, each picked up once by its name and hash.

    ``format`` is csv or jsonl (UTF-8, both also as ``.gz``) or parquet. ``columns`` are those of the files; further ones
    there are left alone. ``pattern`` is what a file's name below the prefix must match whole, by default anything with the
    format's endings; a group named ``country`` in it gives the country of all its rows, in place of a column of the file.
    A file is left for later until it has lain unchanged for ``quiet``. ``connection`` names the store's Connection.

    Each row gets two columns more: ``changed_at``, when it was picked up, and ``removed``: a file that comes again under its
    name replaces its former rows, and those that it no longer holds are landed once more as removed.
    """

    prefix: str
    format: str
    pattern: str = ""
    quiet: timedelta = timedelta(seconds=30)
    changed_at: str = "changed_at"
    table: str = field(default="", init=False)
    deleted: str = field(default="", init=False)
    max_commit_lag: timedelta = field(default=timedelta(0), init=False)
    primary: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())
        object.__setattr__(self, "max_commit_lag", self.quiet)
        if is_tuple_of(self.columns, Column):
            added = (Column(self.changed_at, "timestamp", nullable=False), _REMOVED_COLUMN)
            object.__setattr__(self, "columns", (*self.declared_columns, *added))

    @property
    def declared_columns(self) -> tuple[Column, ...]:
        """The columns as the spec declares them: those of the files."""
        has_more = bool(self.columns) and self.columns[-1] is _REMOVED_COLUMN
        return self.columns[:-2] if has_more else self.columns

    @property
    def file_columns(self) -> tuple[Column, ...]:
        """The columns that come with the files, the country of a name among them."""
        return tuple(column for column in self.columns if column.name not in (self.changed_at, REMOVED))

    @property
    def file_names(self) -> str:
        """What a file's name below the prefix must match whole."""
        return self.pattern or FILE_NAMES[self.format]

    @property
    def revision_columns(self) -> tuple[str, ...]:
        """The columns that say which row it is, when it happened, which of its revisions is the latest, and if it is gone."""
        return (*super().revision_columns, REMOVED)

    def _checks_of_place(self) -> Iterable[tuple[bool, str, str]]:
        """Where the files lie, and what they are."""
        parts = self.prefix.split("/") if isinstance(self.prefix, str) and "\0" not in self.prefix else []
        is_prefix = len(parts) > 1 and parts[-1] == "" and all(part not in ("", ".", "..") for part in parts[:-1])
        is_format = isinstance(self.format, str) and self.format in FILE_NAMES
        prefix, pattern = shown(self.prefix), f"pattern {shown(self.pattern)} is no regular expression"
        formats = f"Use one of {', '.join(FILE_NAMES)}."
        yield is_prefix, f"prefix {prefix} is no folder of a store", 'Write e.g. prefix="flights/".'
        yield is_format, f"unknown format {shown(self.format)}", formats
        yield is_pattern(self.pattern), pattern, "Correct it, or leave it out."
        yield from lag_checks("quiet", self.quiet, "Seconds(30)")

    def _checks_of_columns(self) -> Iterable[tuple[bool, str, str]]:
        types = {column.name: column.type for column in self.columns if isinstance(column.name, str)}
        names = [column.name for column in self.declared_columns]
        of_name = is_pattern(self.pattern) and "country" in re.compile(self.pattern).groupindex
        country = self.country if isinstance(self.country, str) else ""
        own = f"the files' own column {_listed([self.changed_at])} has the name of the time of their pick-up"
        rename = 'Give that another one, such as changed_at="picked_up_at", or leave the column out.'
        text = f"pattern names the country, and column {_listed([country])} is no string"
        yield from super()._checks_of_columns()
        yield self.changed_at not in names, own, rename
        yield not of_name or types.get(country, "string") == "string", text, "Make it a string."

    _form_of_names = "Use texts of at least one sign."

    @staticmethod
    def _can_be_a_column(name: object) -> bool:
        return is_text(name)


_REMOVED_COLUMN = Column(REMOVED, "bool", nullable=False)


def validation_faults(checks: object, country_checks: object, countries: object, where: str) -> list[Fault]:
    """What is wrong with how a source's batches are checked."""
    of_countries = is_mapping_to(country_checks, Checks)
    shape = (
        (isinstance(checks, Checks), "checks is not a Checks", "Write checks=Checks(…)."),
        (of_countries, "country_checks is no mapping of codes to Checks", 'Write country_checks={"GB": Checks(…)}.'),
    )
    found = failed(where, shape)
    found += checks.faults(where) if isinstance(checks, Checks) else []
    if not isinstance(country_checks, Mapping) or not of_countries:
        return found
    found += [fault for each in country_checks.values() for fault in each.faults(where)]
    known = list(countries.values()) if isinstance(countries, Mapping) else []
    strangers = _listed(code for code in country_checks if code not in known)
    what = f"country_checks names {strangers}, which countries does not map to"
    return found + failed(where, [(not strangers, what, "Use codes of countries.")])
