"""A batch compared with its country's past: what is unusual, and what is not."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from toy_sources.sightings import sightings

from perennial import Checks, Column, Limit
from perennial.core.profiles import Past, Profiler, cohens_h, compare, days_to_ask
from perennial.shell.lake import schema_of

MONDAY = date(2026, 3, 2)
DAYS = timedelta(days=1)


def profile(days, missing=0.0, categories=None, rows=None):
    """Of so many rows by day, a share of them without a weight."""
    total = rows or sum(days.values())
    return {
        "rows": total,
        "days": {day.isoformat(): number for day, number in days.items()},
        "nulls": {"weight": round(missing * total)},
        "categories": {"country": categories or {"Britain": total}},
        "newest": datetime.combine(max(days), datetime.min.time(), UTC).isoformat() if days else None,
    }


def upper_of(made):
    return datetime.fromisoformat(made["newest"]) + timedelta(hours=12)


def history(weeks=10, number=lambda day: 100, **shares):
    """A past of weekly batches before MONDAY."""
    made = []
    for week in range(1, weeks + 1):
        days = [MONDAY - 7 * week * DAYS + day * DAYS for day in range(7)]
        if any(number(day) for day in days):
            made.append(profile({day: number(day) for day in days if number(day)}, **shares))
    total = Counter({date.fromisoformat(day): n for each in made for day, n in each["days"].items()})
    return Past(batches=tuple((upper_of(each), each) for each in made), days=total, since=MONDAY - 7 * weeks * DAYS)


def said(made, past, checks=None, upper=None):
    found = compare(made, upper or upper_of(made), past, checks or Checks())
    first = {}
    for finding in found:
        if not finding.success:
            first.setdefault(finding.expectation, (finding.severity, str(finding)))
    return first


def week(number):
    return {MONDAY + day * DAYS: number for day in range(7)}


def test_a_week_like_the_others_is_not_unusual():
    assert said(profile(week(100)), history()) == {}
    assert said(profile(week(120)), history()) == {}


def test_the_first_batch_of_a_country_is_compared_with_nothing():
    assert said(profile(week(100)), Past()) == {}


def test_a_day_with_far_too_few_rows_is_noticed_and_named():
    severity, text = said(profile({**week(100), MONDAY + 2 * DAYS: 20}), history())["volume"]
    assert (severity, text) == (
        "info", "volume: 1 of 7 days are unusual: 2026-03-04: 20 rows, 100 to 100 are usual"
    )  # fmt: skip


def test_a_day_on_which_nothing_came_is_noticed():
    days = {day: number for day, number in week(100).items() if day != MONDAY + 3 * DAYS}
    assert "2026-03-05: 0 rows" in said(profile(days), history())["volume"][1]


def test_the_newest_day_may_be_incomplete():
    assert said(profile({**week(100), MONDAY + 7 * DAYS: 2}), history()) == {}


def test_days_without_rows_are_normal_where_history_says_so():
    closed = lambda day: 0 if day.weekday() == 5 else 100  # noqa: E731
    days = {day: number for day, number in week(100).items() if day.weekday() != 5}
    assert said(profile(days), history(number=closed)) == {}


def test_a_season_that_was_closed_a_year_ago_is_no_incident():
    closed = lambda day: 0 if date(2025, 3, 2) <= day <= date(2025, 3, 9) else 100  # noqa: E731
    days = {day: number for day, number in week(100).items() if day.weekday() in (0, 6)}
    assert "volume" in said(profile(days), history(weeks=30))
    assert said(profile(days), history(weeks=60, number=closed)) == {}


def test_few_rows_scatter_more_than_many():
    assert said(profile(week(2)), history(number=lambda day: 5)) == {}
    assert "volume" in said(profile(week(200)), history(number=lambda day: 500))


def test_a_flood_holds_the_batch_and_a_drought_does_not():
    assert said(profile(week(5000)), history())["volume"][0] == "critical"
    assert said(profile(week(300)), history())["volume"][0] == "info"
    assert said(profile(week(1)), history())["volume"][0] == "info"


def test_limits_are_the_sources_own():
    assert said(profile(week(300)), history(), Checks(volume=Limit(5.0))) == {}
    assert said(profile(week(5000)), history(), Checks(volume=Limit(None))) == {}
    assert said(profile(week(300)), history(), Checks(volume=Limit(1.5, 2.0)))["volume"][0] == "critical"


def test_a_share_of_missing_values_beyond_all_before_is_noticed():
    severity, text = said(profile(week(100), missing=0.3), history(missing=0.1))["share"]
    assert (severity, text) == ("info", "share of missing weight: 30.0% of 700 rows, 10.0% to 10.0% before")


def test_all_values_missing_at_once_holds_the_batch():
    assert said(profile(week(100), missing=1.0), history(missing=0.1))["share"][0] == "critical"


def test_of_a_handful_of_rows_no_share_is_told():
    assert said(profile({MONDAY: 4}, missing=1.0), history(missing=0.3)) == {}


def fewer(past, batches):
    """The past's newest batches alone."""
    return replace(past, batches=past.batches[:batches])


@pytest.mark.parametrize(("rows", "batches", "severity"), [(100, 3, "critical"), (99, 3, "info"), (100, 2, "info")])
def test_a_share_of_few_rows_or_beside_few_batches_is_told_only(rows, batches, severity):
    past = fewer(history(missing=0.1), batches)
    assert said(profile({MONDAY: rows}, missing=1.0), past)["share"][0] == severity


def test_a_past_of_few_rows_tells_no_share():
    tiny = history(weeks=1, number=lambda day: 14, missing=0.1)
    enough = history(weeks=1, number=lambda day: 15, missing=0.1)
    assert "share" not in said(profile(week(14), missing=1.0), tiny)
    assert said(profile(week(14), missing=1.0), enough)["share"][0] == "info"


@pytest.mark.parametrize(("batches", "expected"), [(3, {"freshness"}), (2, set())])
def test_a_newest_event_is_compared_with_those_of_three_batches_at_least(batches, expected):
    made = profile(week(100))
    found = said(made, fewer(history(), batches), upper=upper_of(made) + timedelta(days=2))
    assert {name for name in found if name == "freshness"} == expected


@pytest.mark.parametrize(("weeks", "expected"), [(3, {"volume"}), (2, set())])
def test_a_day_is_compared_with_the_same_weekday_of_three_weeks_at_least(weeks, expected):
    found = said(profile({**week(100), MONDAY + 2 * DAYS: 20}), history(weeks=weeks))
    assert {name for name in found if name == "volume"} == expected


def test_at_100_000_rows_a_small_difference_is_none():
    assert said(profile(week(100_000), missing=0.11), history(number=lambda day: 100_000, missing=0.10)) == {}


def test_a_new_category_is_noticed():
    made = profile(week(100), categories={"Britain": 500, "Albion": 200})
    assert "country 'Albion': 28.6% of 700 rows, 0.0% to 0.0% before" in said(made, history())["share"][1]


def test_what_was_within_the_range_of_earlier_batches_is_usual():
    past = history()
    shares = (0.1, 0.5, 0.9, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.5)
    batches = tuple((upper, {**each, "nulls": {"weight": round(share * 700)}})
                    for (upper, each), share in zip(past.batches, shares, strict=True))  # fmt: skip
    assert said(profile(week(100), missing=0.85), replace(past, batches=batches)) == {}


def test_a_newest_event_far_older_than_ever_is_noticed():
    made = profile(week(100))
    assert said(made, history(), upper=upper_of(made) + timedelta(hours=20)) == {}
    assert said(made, history(), upper=upper_of(made) + timedelta(days=2))["freshness"][0] == "info"


def test_days_are_asked_for_around_the_batch_and_around_a_year_before():
    starts, ends = days_to_ask(profile(week(100)), [])
    assert (starts[0], ends[0]) == (MONDAY - 42 * DAYS, MONDAY + 6 * DAYS)
    assert (starts[1], ends[1]) == (MONDAY - 371 * DAYS, MONDAY - 351 * DAYS)


def test_a_profile_counts_rows_days_missing_values_and_categories_over_tables():
    def table(*rows):
        made = [{"id": 1, "changed_at": seen, "seen_at": seen, "country": land, "length": 1.0, "weight": weight}
                for seen, land, weight in rows]  # fmt: skip
        return pa.Table.from_pylist(made, schema=schema_of(sightings))

    profiler = Profiler(sightings)
    early, late = pd.Timestamp("2026-01-01 23:00", tz="UTC"), pd.Timestamp("2026-01-02 01:00", tz="UTC")
    profiler.add(table((early, "Britain", 1.0), (late, "Britain", None)))
    profiler.add(table((late, "Wales", 1.0), (None, None, 1.0)))
    made = profiler.profile()
    assert (made["rows"], made["days"]) == (4, {"2026-01-01": 1, "2026-01-02": 2})
    assert (made["nulls"]["weight"], made["nulls"]["country"], made["newest"]) == (1, 1, late.isoformat())
    assert made["categories"] == {"country": {"Britain": 2, "Wales": 1}}


def test_a_column_of_too_many_values_has_no_categories():
    profiler = Profiler(sightings)
    rows = [{"id": n, "country": f"land {n}"} for n in range(60)]
    profiler.add(pa.Table.from_pylist(rows, schema=schema_of(sightings)))
    assert profiler.profile()["categories"] == {}


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_cohens_h_scatters_alike_for_every_share(share):
    random = np.random.default_rng(0)
    drawn = [cohens_h(number / 400, share) for number in random.binomial(400, share, 4000)]
    assert np.sqrt(np.mean(np.square(drawn))) == pytest.approx(1 / np.sqrt(400), rel=0.1)


def test_numbers_that_no_float_holds_and_numbers_without_a_size_have_a_profile():
    weight = Column("weight", "int64")
    source = replace(sightings, columns=tuple(weight if each.name == "weight" else each for each in sightings.columns))
    table = pa.table(
        {name: pa.nulls(5, kind) for name, kind in zip(schema_of(source).names, schema_of(source).types, strict=True)}
    )
    numbers = pa.array([2**53 + 1, -(2**63), 0, None, 30])
    table = table.set_column(table.column_names.index("weight"), "weight", numbers)
    table = table.set_column(table.column_names.index("removed"), "removed", pa.array([False] * 5))
    profiler = Profiler(source)
    profiler.add(table)
    assert profiler.profile()["scales"]["weight"] == {"7": 1, "60": 2}
