"""What people write: fleets, models, sources. Cheap to import, and a spec never raises: it says its faults."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from perennial.errors import Fault

METRICS = ("rmse", "mae", "log_loss", "brier")
COLUMN_TYPES = ("string", "int64", "float64", "bool", "timestamp")
REJECT_ROW, QUARANTINE_BATCH, WARN = "warning", "critical", "info"
SEVERITIES = {REJECT_ROW: "REJECT_ROW", QUARANTINE_BATCH: "QUARANTINE_BATCH", WARN: "WARN"}
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
COUNTRY = re.compile(r"[A-Z]{2}")
FILE_NAMES = {"csv": r".+\.csv(\.gz)?", "jsonl": r".+\.(jsonl|ndjson|json)(\.gz)?", "parquet": r".+\.parquet"}
REMOVED = "removed"
UNKNOWN_COUNTRY = "ZZ"


def Days(number: float) -> timedelta:  # noqa: N802 - reads as a unit in specs
    """A span of ``number`` days."""
    return timedelta(days=number)


def Minutes(number: float) -> timedelta:  # noqa: N802
    """A span of ``number`` minutes."""
    return timedelta(minutes=number)


def Seconds(number: float) -> timedelta:  # noqa: N802
    """A span of ``number`` seconds."""
    return timedelta(seconds=number)


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
        is_tuple = isinstance(self.alerts, tuple) and all(isinstance(address, str) for address in self.alerts)
        checks = (
            (isinstance(self.name, str) and bool(self.name.strip()), "an owner has no name", 'Write Owner("team").'),
            (is_tuple, "an owner's alerts are not a tuple of addresses", 'Write alerts=("mailto://team@example.com",).'),
            (isinstance(self.tier, int), f"an owner's tier {self.tier!r} is not a number", "Give 1, 2, …"),
        )
        return [Fault(where=where, what=what, fix=fix) for passed, what, fix in checks if not passed]


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
        checks = (
            (0 <= self.margin < 1, f"gate margin {self.margin} is not in [0, 1)", "Give a share such as 0.01."),
            (0.5 < self.confidence < 1, f"gate confidence {self.confidence} is not in (0.5, 1)", "Give 0.95."),
            (self.min_rows >= 2, f"gate min_rows {self.min_rows} is below 2", "Give at least 2."),
            (self.min_clusters >= 2, f"gate min_clusters {self.min_clusters} is below 2", "Give at least 2."),
            (self.min_train_rows >= 1, f"gate min_train_rows {self.min_train_rows} is below 1", "Give at least 1."),
            (
                isinstance(self.cluster, str) and self.cluster != "",
                "gate cluster is no name",
                'Write "day", "hour" or a column.',
            ),
            (self.max_refit_distance > 0, "gate max_refit_distance is not positive", "Give e.g. 0.5."),
            (
                0 <= self.max_missing_labels <= 1,
                f"gate max_missing_labels {self.max_missing_labels} is no share",
                "Give e.g. 0.2.",
            ),
        )
        return [Fault(where=where, what=what, fix=fix) for passed, what, fix in checks if not passed]


@dataclass(frozen=True, kw_only=True)
class Cadence:
    """When a cell is due: ``min_new_rows`` rows its last verdict has not seen, or nothing asked for ``max_age``.

    After an inconclusive verdict it also waits until a promotion is within reach; ``max_age`` ends that wait, too.
    """

    min_new_rows: int = 100
    max_age: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is predicted, from which source, by which recipe, judged how.

    ``examples(rows, as_of)`` returns one row per prediction with ``event_time``, ``label_time``, ``target`` and raw
    columns under a unique index; ``features(examples)`` works row by row and learns nothing; ``estimator()`` returns
    an unfitted scikit-learn pipeline. ``columns`` names the source columns ``examples`` reads (empty: all).
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
        if not isinstance(self.countries, tuple):
            return [Fault(where=self.where, what="countries is not a tuple", fix='Write countries=("GB", …).')]
        functions = {"examples": self.examples, "features": self.features, "estimator": self.estimator}
        checks = [
            (_is_name(self.name), f"model name {self.name!r} is not a name", "Use lower case, digits and _."),
            (self.metric in METRICS, f"unknown metric {self.metric!r}", f"Use one of {', '.join(METRICS)}."),
            (_is_span(self.window), "window is not a positive span", "Write e.g. window=Days(180)."),
            (_is_span(self.holdout), "holdout is not a positive span", "Write e.g. holdout=Days(30)."),
            (_is_span(self.time_limit), "time_limit is not a positive span", "Write e.g. time_limit=Minutes(10)."),
            (self.attempts >= 1, f"attempts is {self.attempts}", "Give at least 1."),
            (isinstance(self.gate, Gate), "gate is not a Gate", "Write gate=Gate(floor=…)."),
            (len(self.countries) > 0, "countries is empty", 'Write countries=("GB", …).'),
            (len(set(self.countries)) == len(self.countries), "a country is named twice", "Name each country once."),
        ]
        checks += [
            (callable(function) and getattr(function, "__name__", "<lambda>") != "<lambda>",
             f"{name} is not a named function", f"Write def {name}(…) in this file.")
            for name, function in functions.items()
        ]  # fmt: skip
        found = [Fault(where=self.where, what=what, fix=fix) for passed, what, fix in checks if not passed]
        found += owner_faults(self.owner, self.where)
        return found + (self.gate.faults(self.where) if isinstance(self.gate, Gate) else [])


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
        wrong = [code for code in self.countries if not re.fullmatch(self.country_pattern, code)]
        checks = (
            (_is_name(self.name), f"fleet name {self.name!r} is not a name", "Use lower case, digits and _."),
            (self.workers >= 1, f"workers is {self.workers}", "Give at least 1."),
            (0 <= self.failure_limit <= 1, "failure_limit is not in [0, 1]", "Give a share such as 0.1."),
            (not wrong, f"no country codes: {', '.join(wrong)}", "Use ISO 3166-1 alpha-2 or set country_pattern."),
        )
        found = [Fault(where=self.where, what=what, fix=fix) for passed, what, fix in checks if not passed]
        return found + owner_faults(self.owner, self.where)


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
        bounds = [bound for bound in (self.min_value, self.max_value) if bound is not None]
        kinds = {"int64": (int, float), "float64": (int, float), "timestamp": (datetime,)}.get(self.type, ())
        checks = (
            (self.type in COLUMN_TYPES, f"unknown column type {self.type}", f"Use {', '.join(COLUMN_TYPES)}."),
            (self.severity in SEVERITIES, f"unknown severity {self.severity!r}", f"Use {', '.join(SEVERITIES.values())}."),
            (all(isinstance(bound, kinds) for bound in bounds), "bounds do not fit the type", "Use numbers or datetimes."),
            (
                all(bound.tzinfo for bound in bounds if isinstance(bound, datetime)),
                "a bound has no time zone",
                "Write datetime(…, tzinfo=UTC).",
            ),
            (not self.regex or self.type == "string", "a regex needs a string column", "Leave it out."),
            (_is_regex(self.regex), f"{self.regex!r} is no regular expression", "Mend it."),
        )
        return [Fault(where=where, what=f"column {self.name}: {what}", fix=fix) for passed, what, fix in checks if not passed]


@dataclass(frozen=True)
class Limit:
    """From which deviation on a check warns, and from which it quarantines the batch. None: never."""

    warn: float | None
    quarantine: float | None = None


@dataclass(frozen=True, kw_only=True)
class Checks:
    """How a batch is compared with its country's accepted past. Deviations are effect sizes beyond what the number of rows
    explains; most only warn, because a surprising batch is rarely a wrong one, and a held one keeps its country waiting.

    ``volume``: factor between the rows of a day and those of the same weekday lately and of the same season a year ago;
    only too many rows quarantine: what is missing may still come.
    ``shares``: of nulls and categories, as Cohen's h beyond all of the last ``memory`` batches.
    ``freshness``: how many times longer than ever the newest event has been waited for.
    ``max_rejected``: the share of rejected rows above which the whole batch is kept aside.
    ``copies``: what happens to rows like an earlier row in all but key and ``changed_at``, under a key not seen before.
    WARN looks within the batch; REJECT_ROW and QUARANTINE_BATCH also into the accepted ones of the same time.
    ``max_future``: how far an event may lie ahead of the source's clock. ``max_text``: characters of a text.
    """

    volume: Limit = Limit(2.0, 20.0)
    shares: Limit = Limit(0.3, 1.5)
    freshness: Limit = Limit(3.0)
    memory: int = 20
    max_rejected: float = 0.2
    copies: str = WARN
    max_future: timedelta = timedelta(days=1)
    max_text: int = 10_000

    def faults(self, where: str) -> list[Fault]:
        """Every limit that cannot be used."""
        limits = {"volume": self.volume, "shares": self.shares, "freshness": self.freshness}
        checks = [
            (0 <= self.max_rejected <= 1, f"max_rejected {self.max_rejected} is no share", "Give e.g. 0.2."),
            (self.copies in SEVERITIES, f"unknown severity {self.copies!r}", f"Use {', '.join(SEVERITIES.values())}."),
            (self.memory >= 1, f"memory is {self.memory}", "Give at least 1 batch."),
            (self.max_text >= 1, f"max_text is {self.max_text}", "Give e.g. 10_000."),
            (self.max_future >= timedelta(0), "max_future is negative", "Give e.g. Days(1)."),
        ]
        checks += [(isinstance(limit, Limit), f"{name} is not a Limit", "Write Limit(2.0).") for name, limit in limits.items()]
        return [Fault(where=where, what=f"checks: {what}", fix=fix) for passed, what, fix in checks if not passed]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Postgres table that fresh rows are extracted from.

    ``key`` and ``changed_at`` identify a change of a row; ``changed_at`` is ``timestamptz``, set no earlier than the
    start of the writing transaction. ``country`` is the column that ``countries`` maps to codes. ``expectations()``
    returns row-wise Great Expectations objects beside those that ``columns`` imply; their ``severity`` says what happens
    where they fail: REJECT_ROW, QUARANTINE_BATCH (Great Expectations' own default; ``mostly`` says from which share on) or
    WARN. ``checks`` compare a batch with its country's past, ``country_checks`` by other limits for some countries.
    ``connection`` names an Airflow Connection.

    ``deleted`` names the column that marks a row as deleted, if there is one: a bool that is true, or a timestamp that is not
    null. Such a row lands as removed: nothing reads its key any more, and no expectation is asked of it.
    """

    name: str
    owner: Owner
    connection: str
    table: str
    key: tuple[str, ...]
    event_time: str
    changed_at: str
    country: str
    countries: Mapping[str, str]
    columns: tuple[Column, ...]
    expectations: Callable[[], list[Any]]
    checks: Checks = Checks()
    country_checks: Mapping[str, Checks] = field(default_factory=dict)
    deleted: str = ""
    max_commit_lag: timedelta = timedelta(seconds=5)
    schedule: str = "*/5 * * * *"
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())

    @property
    def revision_columns(self) -> tuple[str, ...]:
        """The columns that say which row it is, when it happened, and which of its revisions is the latest."""
        return (*self.key, self.event_time, self.changed_at)

    def faults(self) -> list[Fault]:
        """Every fault of this spec that can be seen without the source."""
        types = {column.name: column.type for column in self.columns}
        missing = [name for name in (*self.key, self.event_time, self.changed_at, self.country) if name not in types]
        times = [name for name in (self.event_time, self.changed_at) if types.get(name, "timestamp") != "timestamp"]
        checks = (
            (_is_name(self.name), f"source name {self.name!r} is not a name", "Use lower case, digits and _."),
            (not missing, f"no Column for {', '.join(missing)}", "Declare it in columns."),
            (not times, f"{', '.join(times)} must be of type timestamp", "Change the Column."),
            (bool(self.key), "key is empty", "Name the columns that identify a row."),
            (
                not self.deleted or types.get(self.deleted) in ("bool", "timestamp"),
                f"deleted names {self.deleted!r}, which is no bool or timestamp of columns",
                "Name a Column that is true, or has a time, where the row is deleted.",
            ),
            (
                REMOVED not in types or isinstance(self, FileSource) or (self.deleted, types[REMOVED]) == (REMOVED, "bool"),
                f"a column is named {REMOVED}, which the lake has for rows that are gone",
                f'Set deleted="{REMOVED}" if it is a bool that says so, else rename it by a view.',
            ),
            (self.max_commit_lag >= timedelta(0), "max_commit_lag is negative", "Give e.g. Seconds(5)."),
            (callable(self.expectations), "expectations is not a function", "Write def expectations() in this file."),
        )
        found = [Fault(where=self.where, what=what, fix=fix) for passed, what, fix in checks if not passed]
        found += [fault for column in self.columns for fault in column.faults(self.where)]
        found += validation_faults(self.checks, self.country_checks, self.countries, self.where)
        return found + owner_faults(self.owner, self.where)


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", self.where or calling_line())
        object.__setattr__(self, "max_commit_lag", self.quiet)
        object.__setattr__(self, "columns", (*self.file_columns, Column(self.changed_at, "timestamp", nullable=False),
                                             Column(REMOVED, "bool", nullable=False)))  # fmt: skip

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

    def faults(self) -> list[Fault]:
        """Every fault of this spec that can be seen without the source."""
        parts = self.prefix.split("/")
        is_prefix = len(parts) > 1 and parts[-1] == "" and all(part not in ("", ".", "..") for part in parts[:-1])
        checks = (
            (is_prefix, f"prefix {self.prefix!r} is no folder of a store", 'Write e.g. prefix="flights/".'),
            (self.format in FILE_NAMES, f"unknown format {self.format!r}", f"Use one of {', '.join(FILE_NAMES)}."),
            (_is_regex(self.pattern), f"pattern {self.pattern!r} is no regular expression", "Mend it, or leave it out."),
            (self.quiet >= timedelta(0), "quiet is negative", "Give e.g. Seconds(30)."),
        )
        found = [Fault(where=self.where, what=what, fix=fix) for passed, what, fix in checks if not passed]
        return super().faults() + found


def validation_faults(
    checks: Checks, country_checks: Mapping[str, Checks], countries: Mapping[str, str], where: str
) -> list[Fault]:
    """What is wrong with how a source's batches are checked."""
    strangers = sorted(set(country_checks) - set(countries.values()))
    found = [fault for each in (checks, *country_checks.values()) for fault in each.faults(where)]
    if strangers:
        what = f"country_checks names {', '.join(strangers)}, which countries does not map to"
        found.append(Fault(where=where, what=what, fix="Use codes of countries."))
    return found


def _is_regex(value: str) -> bool:
    try:
        re.compile(value)
    except re.error:
        return False
    return True


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_span(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)
