"""A batch's profile, small enough to be kept for ever, and the comparison with those of its country's accepted past.

Differences are measured as effect sizes: at 100,000 rows a test's p-value sees differences that mean nothing, at 200 none.
A finding needs a deviation that matters, and one beyond what that number of rows scatters by itself.

A surprise holds nobody for good: what a batch was kept aside for and the next one shows, too, is how the country looks now.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from perennial.core.findings import Finding, Subject
from perennial.core.removals import present
from perennial.spec import QUARANTINE_BATCH, WARN, Checks, Source

MANY = 50
LOOK = 2_000
TEXT = 60
WEEKS, SEASON = range(0, 29, 7), (357, 364, 371)  # days back: the same weekday lately, and around the same day a year ago
LEAST_WEEKS, LEAST_GROUPS, LEAST_ROWS = 3, 3, 100
SIGMAS = 4.0  # of the scatter that the number of rows explains; rows come in clusters, which scatter more
LEAST_WAIT = timedelta(hours=1)
SHOWN = 3
HARMFUL = ("volume", "scale")  # what is read before a person has looked does harm that waiting does not
TIME_TO_LOOK = timedelta(days=1)
BINS_PER_DECADE, DECADES, SAMPLE = 5, 12, 4_000
LEAST_BIN, NUMBER_OF_BINS = -DECADES * BINS_PER_DECADE, 2 * DECADES * BINS_PER_DECADE + 1
QUARTILES = (0.25, 0.5, 0.75)
SURPRISES = ("volume", "share", "scale", "freshness")
Group = list[Mapping[str, Any]]
EPOCH = date(1970, 1, 1)
DAY_IN_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a country's accepted batches looked like. ``batches``: (upper, profile), the newest first; ``days``: rows by the
    day of their event, around the days that are asked about; ``since``: the day of the first event; ``held``: what is kept
    aside since the last of them as a surprise, the newest first."""

    batches: tuple[tuple[datetime, Mapping[str, Any]], ...] = ()
    days: Mapping[date, int] = field(default_factory=dict)
    since: date | None = None
    held: tuple["Held", ...] = ()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A batch that is kept aside for surprises alone: it differs from its past, and breaks no rule."""

    seq: int
    upper: datetime
    profile: Mapping[str, Any]
    surprises: frozenset[Subject]


class Profiler:
    """Collects a batch's profile table by table."""

    def __init__(self, source: Source) -> None:
        self.source, self.event_time = source, source.event_time
        self.columns = [column.name for column in source.columns]
        self.rows = 0
        self.newest: datetime | None = None
        self.days: Counter[date] = Counter()
        self.nulls: Counter[str] = Counter()
        categorical = [each.name for each in source.columns if each.value_set or each.is_category or each.type == "bool"]
        self.categories: dict[str, Counter[str]] = {name: Counter() for name in (*categorical, source.country)}
        self.scales: dict[str, Counter[int]] = {name: Counter() for name in _measured(source) if name not in self.categories}

    def add(self, table: pa.Table) -> None:
        """Look at some more rows, less removed ones."""
        table = present(table, self.source)
        self.rows += table.num_rows
        for name in self.columns:
            self.nulls[name] += table[name].null_count
        self._add_days(table[self.event_time].drop_null())
        for name in [*self.categories]:
            self._add_categories(name, table[name])
        if self.scales and table.num_rows:
            self._add_scales(table.select([*self.scales]))

    def profile(self) -> dict[str, Any]:
        """What is kept: rows, rows by day, by category and by size of numbers, missing values, the newest event."""
        return {
            "rows": self.rows,
            "days": {day.isoformat(): number for day, number in sorted(self.days.items())},
            "nulls": dict(self.nulls),
            "categories": {name: dict(counts) for name, counts in self.categories.items()},
            "scales": {name: {str(bin): counts[bin] for bin in sorted(counts)} for name, counts in self.scales.items()},
            "newest": self.newest.isoformat() if self.newest else None,
        }

    def _add_days(self, moments: pa.ChunkedArray) -> None:
        if not len(moments):
            return
        micros = moments.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
        days, numbers = _counted(micros // DAY_IN_MICROSECONDS)
        for day, number in zip(days.tolist(), numbers.tolist(), strict=True):
            self.days[_day(day)] += number
        newest = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(micros.max()))
        self.newest = max(filter(None, (self.newest, newest)))

    def _add_scales(self, table: pa.Table) -> None:
        """Count the sizes of numbers; of many rows every so manieth is looked at."""
        step = table.num_rows // SAMPLE + 1
        if step > 1:
            table = table.take(pa.array(np.arange(0, table.num_rows, step)))
        numbers = np.column_stack([column.to_numpy().astype(np.float64) for column in table.columns])

        for name, counts in zip(self.scales, _bins(numbers), strict=True):
            found = np.flatnonzero(counts)
            self.scales[name].update(dict(zip((found + LEAST_BIN).tolist(), (counts[found] * step).tolist(), strict=True)))

    def _add_categories(self, name: str, values: pa.ChunkedArray) -> None:
        if len(pc.unique(values[:LOOK])) <= MANY:
            for entry in pc.value_counts(values.drop_null()).to_pylist():
                self.categories[name][str(entry["values"])[:TEXT]] += entry["counts"]
            if len(self.categories[name]) <= MANY:
                return
        del self.categories[name]  # too many values to be categories


def _counted(days: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The days there are, and how often: without sorting them, where they lie close together."""
    first, last = int(days.min()), int(days.max())
    if last - first > len(days) + SAMPLE:
        return np.unique(days, return_counts=True)
    counts = np.bincount(days - first)
    found = np.flatnonzero(counts)
    return found + first, counts[found]


def _measured(source: Source) -> list[str]:
    """The columns whose numbers have a size: those of a key only count."""
    return [each.name for each in source.columns if each.type in ("int64", "float64") and each.name not in source.key]


def _bins(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """For each column of numbers, how many have which order of magnitude, in fifths of decades from the least one on."""
    columns, sizes = numbers.shape[1], np.abs(numbers)
    has_size = (sizes > 0) & (sizes < np.inf)  # a missing value is no number, and has none
    sizes[~has_size] = 1
    bins = np.floor(np.log10(sizes).clip(-DECADES, DECADES) * BINS_PER_DECADE).astype(np.int64)
    places = bins - LEAST_BIN + np.arange(columns) * NUMBER_OF_BINS
    return np.bincount(places[has_size], minlength=columns * NUMBER_OF_BINS).reshape(columns, NUMBER_OF_BINS)


def _day(number: int) -> date:
    """The day so many days after 1970, of those that can be written."""
    return EPOCH + timedelta(days=min(max(number, -700_000), 2_900_000))


def days_to_ask(profile: Mapping[str, Any], before: Iterable[Mapping[str, Any]]) -> tuple[list[date], list[date]]:
    """Which days' rows a profile is to be compared with, as spans: its own, the weeks before them, and a year ago."""
    days = _asked_days(profile, [earlier["newest"] for earlier in before if earlier.get("newest")])
    if not days:
        return [], []
    first, last = days[0], days[-1]
    spans = [(first - timedelta(days=max(WEEKS) + 14), last)]
    spans.append((first - timedelta(days=max(SEASON)), last - timedelta(days=min(SEASON))))
    return [start for start, _ in spans], [end for _, end in spans]


def compare(profile: Mapping[str, Any], upper: datetime, past: Past, checks: Checks) -> list[Finding]:
    """What is unusual in a batch's profile for its country. Nothing is, where the past is too short to say.

    What batches before it are kept aside for holds it no more where they and it are alike: findings then ``confirm``. Harmful
    are confirmed only after a day, by what people have had the time to look at.
    """
    found = _compared(profile, upper, past, (), checks)
    looked_at = tuple(held for held in past.held if upper - held.upper >= TIME_TO_LOOK)
    for harmful, held in ((False, past.held), (True, looked_at)):
        if held and any(finding.holds for finding in found):
            still = {finding.subject for finding in _compared(profile, upper, past, held, checks) if finding.holds}
            found = [
                _confirming(finding)
                if finding.holds and (finding.expectation in HARMFUL) == harmful and finding.subject not in still
                else finding
                for finding in found
            ]
    return found


def confirmed(found: Iterable[Finding], past: Past) -> list[Held]:
    """The batches that are kept aside for nothing but what findings confirm."""
    subjects = {finding.subject for finding in found if finding.confirms}
    return [held for held in past.held if held.surprises and held.surprises <= subjects]


def surprises(findings: Iterable[Mapping[str, Any]]) -> frozenset[Subject]:
    """What a batch with these findings, as they are kept, is kept aside for; nothing, where it is not for surprises alone."""
    holding = [each for each in findings if not each["success"] and each["severity"] == QUARANTINE_BATCH]
    if any(each["expectation"] not in SURPRISES for each in holding):
        return frozenset()
    return frozenset((each["expectation"], tuple(each["columns"])) for each in holding)


def last_telling(before: Iterable[Any]) -> int:
    """The ``seq`` of the last accepted batch (``seq``, ``profile``) with enough rows to say how things are; 0 without one."""
    return max((row.seq for row in before if row.profile and row.profile["rows"] >= LEAST_ROWS), default=0)


def _confirming(finding: Finding) -> Finding:
    text = f"{finding}, and likewise in the batch before, which was kept aside: so it is now"
    return replace(finding, severity=WARN, text=text, confirms=True)


def _compared(
    profile: Mapping[str, Any], upper: datetime, past: Past, held: Sequence[Held], checks: Checks
) -> list[Finding]:  # fmt: skip
    """What is unusual, where some batches that are kept aside belong to the past, too."""
    groups = _groups([earlier for _, earlier in past.batches], profile["rows"])
    if groups:
        groups = [*([each.profile] for each in held if each.profile["rows"]), *groups]
    known = replace(past, batches=(*((each.upper, each.profile) for each in held), *past.batches))
    found = [_volume(profile, known, checks), *_shares(profile, groups, checks), *_scales(profile, groups, checks)]
    found.append(_freshness(profile, upper, known, checks))
    return [finding for finding in found if finding is not None]


def _asked_days(profile: Mapping[str, Any], newest_before: Sequence[str]) -> list[date]:
    """The days of the batch's events, and those since the events before it, on which nothing may have come."""
    days = {date.fromisoformat(day) for day in profile["days"]}
    if days and newest_before:
        last_before = max(datetime.fromisoformat(text).date() for text in newest_before)
        gap = (max(days) - last_before).days
        days |= {last_before + timedelta(days=number) for number in range(1, min(gap, 400))}
    return sorted(days)


def _volume(profile: Mapping[str, Any], past: Past, checks: Checks) -> Finding | None:
    newest_before = [earlier["newest"] for _, earlier in past.batches if earlier.get("newest")]
    days, limit = _asked_days(profile, newest_before), checks.volume
    if not days or not newest_before or past.since is None or limit.warn is None:
        return None
    start = max(datetime.fromisoformat(text).date() for text in newest_before)
    own = {date.fromisoformat(day): number for day, number in profile["days"].items()}
    total = Counter(past.days)
    total.update(own)
    busiest = max((number for _, earlier in past.batches for number in earlier["days"].values()), default=0)
    odd, seen, most = [], 0, 0
    for day in days:
        usual = _usual(day, min(day, start), total, past.since)
        if usual is None:
            continue
        if day in own:
            seen, most = seen + total[day], most + max(usual[1], busiest)
        is_over = day < days[-1]  # events of the newest day may still come
        too_few = is_over and _exceeds(usual[0], total[day], limit.warn)
        if too_few or _exceeds(total[day], usual[1] or busiest, limit.warn):  # where days are often empty, any may be busy
            odd.append(f"{day}: {total[day]:,} rows, {usual[0]:,} to {usual[1]:,} are usual")
    flood = limit.quarantine is not None and _exceeds(seen, most, limit.quarantine)
    text = f"volume: {len(odd)} of {len(days)} days are unusual: {'; '.join(odd[:SHOWN])}{'; …' if odd[SHOWN:] else ''}"
    return Finding(
        expectation="volume", columns=(), severity=QUARANTINE_BATCH if flood else WARN, success=not odd and not flood,
        rows=profile["rows"], examples=tuple(odd[:SHOWN]), text=text if odd else f"volume: {seen:,} rows",
    )  # fmt: skip


def _usual(day: date, start: date, total: Mapping[date, int], since: date) -> tuple[int, int] | None:
    """The fewest and the most rows of comparable days: the same weekday in the weeks before ``start``, lest a long batch be
    its own measure, and about a year ago. None where there are too few."""
    same = start - timedelta(days=(start - day).days % 7 or 7)
    lately = [before for days in WEEKS if since <= (before := same - timedelta(days=days))]
    if len(lately) < LEAST_WEEKS:
        return None
    a_year_ago = [before for days in SEASON if since <= (before := day - timedelta(days=days)) < start]
    numbers = [total.get(before, 0) for before in (*lately, *a_year_ago)]
    return min(numbers), max(numbers)


def _exceeds(larger: int, smaller: int, factor: float) -> bool:
    """Whether it is more than so many times as much, and beyond what counts of that size scatter by themselves.

    The scatter by Anscombe's square root (1948), after which counts of every size vary alike.
    """
    sigmas = math.sqrt(2) * (math.sqrt(larger + 3 / 8) - math.sqrt(smaller + 3 / 8))
    return (larger + 1) / (smaller + 1) > factor and sigmas > SIGMAS


def _shares(profile: Mapping[str, Any], groups: Sequence[Group], checks: Checks) -> list[Finding]:
    if not groups or checks.shares.warn is None or not profile["rows"]:
        return []
    found = []
    for name, number in profile["nulls"].items():
        told = [(sum(each["nulls"][name] for each in group), _rows(group)) for group in groups if _tell(group, "nulls", name)]
        missing = _share(f"missing {name}", name, number, profile["rows"], told, checks)
        found.append(_only_told(missing) if missing and _is_better(number, profile["rows"], told) else missing)
    for name in profile["categories"]:
        found += _category_shares(profile, name, groups, checks)
    return [finding for finding in found if finding is not None]


def _category_shares(
    profile: Mapping[str, Any], name: str, groups: Sequence[Group], checks: Checks
) -> list[Finding | None]:  # fmt: skip
    """Findings about the values of a column, as shares of the rows that have one: what is missing is told elsewhere."""
    counts, rows = profile["categories"][name], _present([profile], name)
    told_by = [group for group in groups if _tell(group, "categories", name)]
    known = {value for group in told_by for each in group for value in each["categories"][name]}
    found = []
    for value in sorted({*counts, *known}) if rows else ():
        told = [(sum(each["categories"][name].get(value, 0) for each in group), _present(group, name)) for group in told_by]
        found.append(_share(f"{name} {value!r}", name, counts.get(value, 0), rows, told, checks))
    return found


def _present(profiles: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(profile["rows"] - profile["nulls"].get(name, 0) for profile in profiles)


def _is_better(number: int, rows: int, told: Sequence[tuple[int, int]]) -> bool:
    """Whether less is missing than ever."""
    return number / rows < min((part / whole for part, whole in told if whole), default=0)


def _only_told(finding: Finding) -> Finding:
    return replace(finding, severity=WARN)


def _scales(profile: Mapping[str, Any], groups: Sequence[Group], checks: Checks) -> list[Finding | None]:
    """Findings about columns whose numbers have another size than in all batches before."""
    if checks.scale.warn is None:
        return []
    found = []
    for name, counts in profile.get("scales", {}).items():
        told = [_together(group, name) for group in groups if _tell(group, "scales", name)]
        told = [earlier for earlier in told if sum(earlier.values())]
        if told and sum(counts.values()):
            found.append(_scale(name, counts, told, checks))
    return found


def _together(group: Group, name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for profile in group:
        total.update(profile["scales"][name])
    return total


def _scale(name: str, counts: Mapping[str, int], told: Sequence[Mapping[str, int]], checks: Checks) -> Finding | None:
    limit, rows = checks.scale, sum(counts.values())
    own, before = _quartiles(counts), np.array([_quartiles(earlier) for earlier in told])
    shifts = np.maximum(own - before.max(axis=0), 0) + np.minimum(own - before.min(axis=0), 0)
    least, middle = (abs(shifts).min() if abs(np.sign(shifts).sum()) == len(shifts) else 0.0), abs(shifts[1])

    # The standard error of a median, of a spread as wide as a bin at least.
    spread = max(own[2] - own[0], *(before[:, 2] - before[:, 0]), 1 / BINS_PER_DECADE) / 1.35
    fewest = min(sum(earlier.values()) for earlier in told)
    scatter = SIGMAS * 1.25 * spread * math.sqrt(1 / rows + 1 / fewest)

    if limit.warn is None or middle <= max(math.log10(limit.warn), scatter):
        return None
    enough = len(told) >= LEAST_GROUPS and rows >= LEAST_ROWS
    extreme = limit.quarantine is not None and enough and least > math.log10(limit.quarantine) + scatter / 2
    usual = f"{10 ** before[:, 1].min():.3g} to {10 ** before[:, 1].max():.3g}"
    text = f"scale of {name}: half of {rows:,} values are above {10 ** own[1]:.3g}, {usual} before"
    return Finding(
        expectation="scale", columns=(name,), severity=QUARANTINE_BATCH if extreme else WARN, success=False, rows=rows,
        text=text,
    )  # fmt: skip


def _quartiles(counts: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """Quartiles of the orders of magnitude, as decades, each bin's values spread evenly over it."""
    bins = sorted((int(bin), number) for bin, number in counts.items())
    reached = np.cumsum([0, *(number for _, number in bins)])
    places = np.array(QUARTILES) * reached[-1]
    inside = np.searchsorted(reached, places, side="right") - 1
    starts, numbers = np.array([start for start, _ in bins]), np.diff(reached)
    within: npt.NDArray[np.float64] = (starts[inside] + (places - reached[inside]) / numbers[inside]) / BINS_PER_DECADE
    return within


def _groups(profiles: Sequence[Mapping[str, Any]], rows: int) -> list[Group]:
    """Earlier batches put together, newest first, until each group may be compared with a batch of so many rows."""
    groups: list[Group] = [[]]
    for profile in profiles:
        if _rows(groups[-1]) >= rows / 2 and groups[-1]:
            groups.append([])
        groups[-1].append(profile)
    whole = [group for group in groups if _rows(group) >= max(rows / 2, 1)] or groups
    return whole if _rows(profiles) >= LEAST_ROWS else []


def _rows(profiles: Iterable[Mapping[str, Any]]) -> int:
    return sum(profile["rows"] for profile in profiles)


def _tell(group: Iterable[Mapping[str, Any]], what: str, name: str) -> bool:
    return all(name in profile.get(what, {}) for profile in group)


def _share(
    what: str, column: str, number: int, rows: int, told: list[tuple[int, int]], checks: Checks
) -> Finding | None:  # fmt: skip
    """A finding where a share lies outside of all that earlier batches of such a size had."""
    if not told or checks.shares.warn is None:
        return None
    share, past = number / rows, sorted((part / whole, whole) for part, whole in told if whole)
    if not past:
        return None
    edge, whole = past[0] if share < past[0][0] else past[-1]
    if past[0][0] <= share <= past[-1][0]:
        return None
    effect, scatter = cohens_h(share, edge), SIGMAS * math.sqrt(1 / rows + 1 / whole)
    if effect <= max(checks.shares.warn, scatter):
        return None
    limit = checks.shares.quarantine
    enough = len(past) >= LEAST_GROUPS and rows >= LEAST_ROWS
    extreme = limit is not None and enough and effect > limit + scatter
    text = f"share of {what}: {share:.1%} of {rows:,} rows, {past[0][0]:.1%} to {past[-1][0]:.1%} before"
    return Finding(
        expectation="share", columns=(column,), severity=QUARANTINE_BATCH if extreme else WARN, success=False, rows=rows,
        unexpected=number, text=text,
    )  # fmt: skip


def cohens_h(one: float, other: float) -> float:
    """The effect size of two shares' difference: 0 to π, with the same variance 1/n for every share."""
    return abs(2 * math.asin(math.sqrt(one)) - 2 * math.asin(math.sqrt(other)))


def _freshness(profile: Mapping[str, Any], upper: datetime, past: Past, checks: Checks) -> Finding | None:
    waits = [
        before - datetime.fromisoformat(earlier["newest"]) for before, earlier in past.batches if earlier.get("newest")
    ]  # fmt: skip
    if len(waits) < LEAST_GROUPS or not profile["newest"] or checks.freshness.warn is None:
        return None
    wait, longest = upper - datetime.fromisoformat(profile["newest"]), max(*waits, timedelta(0))
    severity = _exceeded(wait, longest, checks)
    text = f"freshness: the newest event was {wait} old, {longest} at most before"
    return Finding(
        expectation="freshness", columns=(), severity=severity or WARN, success=not severity, rows=profile["rows"], text=text
    )


def _exceeded(wait: timedelta, longest: timedelta, checks: Checks) -> str:
    def beyond(factor: float | None) -> bool:
        return factor is not None and wait > max(longest * factor, longest + LEAST_WAIT)

    if beyond(checks.freshness.quarantine):
        return QUARANTINE_BATCH
    return WARN if beyond(checks.freshness.warn) else ""
