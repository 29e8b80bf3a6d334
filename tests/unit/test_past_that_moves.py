"""A surprise holds nobody for good: what persists is the past that later batches are compared with, and better is no harm."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_profiles import MONDAY, history, profile, upper_of, week
from toy_sources.sightings import sightings

from perennial import Checks, Limit
from perennial.core.copies import contradictions, identities, shared
from perennial.core.profiles import Held, Profiler, compare, confirmed, surprises
from perennial.shell.lake import schema_of

HOUR = timedelta(hours=1)


def held(made, past, upper=None, seq=11):
    """A batch as it is kept aside after a past."""
    found = compare(made, upper or upper_of(made), past, Checks())
    kept = [{"expectation": each.expectation, "columns": [*each.columns], "severity": each.severity, "success": each.success}
            for each in found]  # fmt: skip
    return Held(seq=seq, upper=upper or upper_of(made), profile=made, surprises=surprises(kept))


def holding(made, past, upper=None):
    return {each.expectation for each in compare(made, upper or upper_of(made), past, Checks()) if each.holds}


def after(made, past, upper=None):
    """A past in whose end a batch is kept aside."""
    return replace(past, held=(held(made, past, upper),))


def later(made, days=7):
    """The same a week later."""
    moved = {(pd.Timestamp(day) + timedelta(days=days)).date(): number for day, number in made["days"].items()}
    return {**profile(moved), "nulls": made["nulls"], "categories": made["categories"], "scales": made.get("scales", {})}


def with_prices(made, factor=1.0, seed=0, number=700, spread=0.5):
    """The profile with the sizes of lognormal weights."""
    random = np.random.default_rng(seed)
    rows = [{"id": n, "weight": factor * float(np.exp(random.normal(2, spread)))} for n in range(number)]
    profiler = Profiler(sightings)
    profiler.add(pa.Table.from_pylist(rows, schema=schema_of(sightings)))
    return {**made, "scales": {"weight": profiler.profile()["scales"]["weight"]}}


def priced_history(**given):
    past = history()
    batches = tuple((upper, with_prices(each, seed=n, **given)) for n, (upper, each) in enumerate(past.batches))
    return replace(past, batches=batches)


def test_fewer_missing_values_than_ever_are_told_and_hold_nothing():
    (finding,) = [each for each in compare(profile(week(100)), upper_of(profile(week(100))), history(missing=0.63), Checks())
                  if each.expectation == "share"]  # fmt: skip
    assert (finding.severity, finding.success) == ("info", False)
    assert "missing weight: 0.0% of 700 rows, 63.0% to 63.0% before" in str(finding)


def test_a_category_that_was_missing_is_compared_among_the_rows_that_had_one():
    made = profile(week(100), categories={"Britain": 700})
    empty = history(categories={}, missing=1.0)
    batches = tuple((upper, {**each, "nulls": {"country": 700}}) for upper, each in empty.batches)
    assert holding({**made, "nulls": {"country": 0}}, replace(empty, batches=batches)) == set()


def test_what_the_next_batch_shows_too_is_the_new_normal():
    worse, past = profile(week(100), missing=1.0), history(missing=0.1)
    assert holding(worse, past) == {"share"}
    found = compare(later(worse), upper_of(later(worse)), after(worse, past), Checks())
    (finding,) = [each for each in found if each.confirms]
    assert (finding.severity, finding.holds) == ("info", False)
    assert "likewise in the batch before, which was kept aside" in str(finding)
    assert [each.seq for each in confirmed(found, after(worse, past))] == [11]


def test_one_that_looks_like_the_past_again_confirms_nothing():
    past = after(profile(week(100), missing=1.0), history(missing=0.1))
    usual = later(profile(week(100), missing=0.1))
    found = compare(usual, upper_of(usual), past, Checks())
    assert (holding(usual, past), confirmed(found, past)) == (set(), [])


def test_another_surprise_confirms_nothing():
    past = after(profile(week(100), missing=1.0), history(missing=0.1))
    other = later(profile(week(100), missing=0.1, categories={"Albion": 700}))
    assert holding(other, past) == {"share"}


def test_what_is_kept_aside_for_a_rule_is_no_past_to_compare_with():
    broken = {"expectation": "max_rejected", "columns": [], "severity": "critical", "success": False}
    assert surprises([broken, {**broken, "expectation": "share"}]) == frozenset()


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_prices_in_cents_hold_the_batch(factor):
    made, past = with_prices(profile(week(100)), factor, seed=99), priced_history()
    assert holding(made, past) == {"scale"}
    (finding,) = [each for each in compare(made, upper_of(made), past, Checks()) if each.expectation == "scale"]
    assert "scale of weight: half of 700 values are above" in str(finding)


@pytest.mark.parametrize(("rows", "batches", "severity"), [(100, 3, "critical"), (99, 3, "info"), (100, 2, "info")])
def test_a_scale_of_few_rows_or_beside_few_batches_is_told_only(rows, batches, severity):
    past = priced_history()
    made = with_prices(profile({MONDAY: rows}), 1000.0, seed=99, number=rows)
    found = compare(made, upper_of(made), replace(past, batches=past.batches[:batches]), Checks())
    assert [each.severity for each in found if each.expectation == "scale"] == [severity]


def test_prices_like_those_before_are_not_unusual():
    for seed in range(100, 120):
        made = with_prices(profile(week(100)), seed=seed)
        assert [str(each) for each in compare(made, upper_of(made), priced_history(), Checks()) if not each.success] == []


def test_prices_that_quadruple_are_told_only():
    made = with_prices(profile(week(100)), 4.0, seed=99)
    found = [each for each in compare(made, upper_of(made), priced_history(), Checks()) if each.expectation == "scale"]
    assert [each.severity for each in found] == ["info"]


def test_some_prices_in_cents_are_no_other_scale():
    usual, cents = (with_prices({}, factor, number=350)["scales"]["weight"] for factor in (1.0, 100.0))
    mixed = {bin: usual.get(bin, 0) + cents.get(bin, 0) for bin in {*usual, *cents}}
    assert holding({**profile(week(100)), "scales": {"weight": mixed}}, priced_history()) == set()


def test_of_a_handful_of_prices_no_scale_is_told():
    made = with_prices(profile({MONDAY: 4}), 100.0, seed=99, number=4)
    assert holding(made, priced_history()) == set()


def test_prices_in_cents_are_confirmed_only_once_people_had_a_day_to_look():
    made, past = with_prices(profile(week(100)), 100.0, seed=99), priced_history()
    assert holding(later(made), after(made, past, upper_of(later(made)) - 24 * HOUR)) == set()
    assert holding(later(made), after(made, past, upper_of(later(made)) - 23 * HOUR)) == {"scale"}


def test_a_flood_is_confirmed_only_once_people_had_a_day_to_look():
    flood, past = profile(week(5000)), history()
    assert holding(flood, past) == {"volume"}
    assert holding(later(flood), after(flood, past, upper_of(later(flood)) - HOUR)) == {"volume"}
    assert holding(later(flood), after(flood, past)) == set()


def test_limits_of_scale_are_the_sources_own():
    made = with_prices(profile(week(100)), 100.0, seed=99)
    for limit in (Limit(None), Limit(1000.0)):
        found = compare(made, upper_of(made), priced_history(), Checks(scale=limit))
        assert [each for each in found if each.expectation == "scale"] == []


def test_a_sketch_of_many_numbers_is_small_and_the_same_each_time():
    random = np.random.default_rng(0)
    table = pa.Table.from_pydict(
        {name.name: random.lognormal(0, 50, 100_000) if name.name == "weight" else [None] * 100_000
         for name in schema_of(sightings)}, schema=schema_of(sightings),
    )  # fmt: skip
    sketches = []
    for _ in range(2):
        profiler = Profiler(sightings)
        profiler.add(table)
        sketches.append(profiler.profile()["scales"]["weight"])
    assert sketches[0] == sketches[1]
    assert len(sketches[0]) <= 2 * 12 * 5 + 1
    assert sum(sketches[0].values()) == pytest.approx(100_000, rel=0.01)


def test_keys_have_no_scale():
    assert set(Profiler(sightings).profile()["scales"]) == {"length", "weight"}


def test_rows_that_contradict_each_other_under_one_key_are_counted():
    at = pd.Timestamp("2026-01-01", tz="UTC")
    rows = [(1, 1.0), (1, 1.0), (2, 1.0), (2, 5.0), (3, 1.0)]
    made = [{"id": key, "changed_at": at, "seen_at": at, "country": "GB", "length": 1.0, "weight": w} for key, w in rows]
    table = pa.Table.from_pylist(made, schema=schema_of(sightings))
    assert sorted(shared(identities(table, sightings))) == [0, 1, 2, 3]
    assert contradictions(table.to_pandas(), sightings) == 2
    by_name = replace(sightings, key=("country",))
    assert len(shared(identities(table, by_name))) == 5
    assert contradictions(table.to_pandas(), by_name) == 4
