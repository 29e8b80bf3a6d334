"""The shop's and the airports' real rows, month by month or week by week: no country waits longer than a batch.

Held against their past alone, in memory: what rules reject is another matter, and thousands of batches take seconds so.
"""

from collections import Counter
from datetime import date

import pandas as pd
import pyarrow as pa
import pytest

from perennial import Checks
from perennial.core.profiles import Held, Past, Profiler, compare, confirmed, days_to_ask, last_telling
from perennial.shell.lake import schema_of
from sources.flights import flights as flights_source
from sources.order_lines import order_lines
from worlds import flights, retail

COUNTRIES = ("United Kingdom", "EIRE", "Germany", "France", "Spain", "Japan")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def shop(cache):
    """Lines of large, middle and thin countries, as first written."""
    lines = retail.read_lines(cache)
    lines = lines[lines["country"].isin(COUNTRIES)]
    return order_lines, lines.assign(changed_at=lines["invoice_date"])


@pytest.fixture(scope="module")
def airports(cache):
    rows = flights.read_flights(cache)
    return flights_source, rows.assign(changed_at=rows["scheduled_at"], removed=False)


class Ledger:
    """One country's batches as validation would decide them by their past."""

    def __init__(self):
        self.accepted, self.held, self.days, self.since = [], [], Counter(), None

    def decide(self, seq, upper, made):
        """Whether the batch is accepted."""
        starts, ends = days_to_ask(made, [each.profile for each in self.accepted[:20]])
        asked = {day: n for day, n in self.days.items() if any(a <= day <= b for a, b in zip(starts, ends, strict=True))}
        past = Past(
            batches=tuple((each.upper, each.profile) for each in self.accepted[:20]), days=asked, since=self.since,
            held=tuple(each for each in self.held if each.seq > last_telling(self.accepted[:20])),
        )  # fmt: skip
        found = compare(made, upper, past, Checks())
        held = Held(seq=seq, upper=upper, profile=made, surprises=frozenset(each.subject for each in found if each.holds))
        if held.surprises:
            self.held.insert(0, held)
            return False
        freed = confirmed(found, past)
        self.held = [each for each in self.held if each not in freed]
        for each in (*freed, held):
            self._accept(each)
        return True

    def _accept(self, held):
        self.accepted.insert(0, held)
        days = {date.fromisoformat(day): number for day, number in held.profile["days"].items()}
        self.days.update(days)
        self.since = min([*days, *([self.since] if self.since else [])])


def replayed(table, every, change=lambda part, number: part):
    """For each country, which of its batches were accepted at their turn, and its ledger."""
    source, rows = table
    named = [field.name for field in schema_of(source)]
    states = {}
    for country, own in rows.groupby(source.country):
        ledger, accepted = Ledger(), []
        for number, (upper, part) in enumerate(own.groupby(pd.Grouper(key=source.event_time, freq=every, label="right"))):
            if len(part):
                profiler = Profiler(source)
                made = change(part, number)[named]
                profiler.add(pa.Table.from_pandas(made, schema=schema_of(source), preserve_index=False))
                accepted.append(ledger.decide(number, upper.to_pydatetime(), profiler.profile()))
        states[country] = accepted, ledger
    return states


def longest_wait(accepted):
    """The most batches in a row that were kept aside."""
    return max(len(run) for run in "".join("A" if each else "H" for each in accepted).split("A"))


@pytest.mark.parametrize("every", ["MS", "W"])
def test_no_country_of_the_shop_waits_longer_than_a_batch(shop, every):
    waits = {country: longest_wait(accepted) for country, (accepted, _) in replayed(shop, every).items()}
    assert max(waits.values()) <= 1, waits
    assert len(waits) == len(COUNTRIES)


@pytest.mark.parametrize("every", ["MS", "W"])
def test_no_airport_waits_at_all(airports, every):
    assert [accepted.count(False) for accepted, _ in replayed(airports, every).values()] == [0, 0, 0]


@pytest.mark.parametrize("column", ["customer_id", "description"])
def test_a_real_column_that_appears_keeps_no_country_waiting(shop, column):
    """In its first year nobody wrote it down."""
    emptied = lambda part, number: part.assign(**{column: None}) if number < 12 else part  # noqa: E731
    for accepted, ledger in replayed(shop, "MS", emptied).values():
        assert (longest_wait(accepted), ledger.held) == (0, [])


def test_a_real_column_that_vanishes_keeps_its_country_waiting_for_one_batch(shop):
    emptied = lambda part, number: part if number < 12 else part.assign(customer_id=None)  # noqa: E731
    found = replayed(shop, "MS", emptied)
    accepted, ledger = found["United Kingdom"]
    assert (accepted.count(False), accepted[12], ledger.held) == (1, False, [])
    assert max(longest_wait(accepted) for accepted, _ in found.values()) == 1


def test_real_prices_in_cents_are_caught_in_every_country_of_some_size(shop):
    cents = lambda part, number: part.assign(price=part["price"] * 100) if number == 12 else part  # noqa: E731
    for country in COUNTRIES[:4]:
        accepted, ledger = replayed((shop[0], shop[1][shop[1]["country"] == country]), "MS", cents)[country]
        assert [place for place, each in enumerate(accepted) if not each] == [12], country
        assert ledger.held[0].surprises == {("scale", ("price",))}
