"""The examples that can be replayed, the pace of their steps, and what a long run shows of itself."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from embedded import replay
from embedded.components import OPERATIONAL
from embedded.errors import EmbeddedError
from embedded.examples import EXAMPLES, RIDE_HAILING, SHOP
from perennial.catalog import load_catalog

START = datetime(2016, 4, 20, tzinfo=UTC)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda example: example.fleet)
def test_an_example_is_a_fleet_over_a_source_that_its_world_feeds(example):
    catalog = load_catalog()
    assert catalog.fleet(example.fleet).sources == (example.source,)
    fed = f"{example.database}_db" if example.database else "landing_store"
    assert catalog.source(example.source).connection == fed
    assert example.database in (None, *OPERATIONAL)
    assert example.checked(None) in example.world.FREQUENCIES


def test_the_shop_moves_by_months_and_the_rides_by_days_unless_told_otherwise():
    assert (SHOP.checked(None), RIDE_HAILING.checked(None)) == ("month", "day")
    assert (SHOP.checked("week"), RIDE_HAILING.checked("week")) == ("week", "week")


def test_a_step_that_the_world_does_not_know_is_refused_with_those_it_does():
    with pytest.raises(EmbeddedError, match=r"ride_hailing has no step EVERY=month\. Choose one of quarter, hour, day, week"):
        RIDE_HAILING.checked("month")


def waits(pace: float, hours: list[float]) -> list[float]:
    """How long each step after the first has to wait, when the cycles themselves take no time."""
    waited: list[float] = []
    assert len(list(replay.paced((START + timedelta(hours=hour) for hour in hours), pace, waited.append))) == len(hours)
    return waited


def test_a_step_comes_no_sooner_than_its_hours_times_the_pace_after_the_one_before():
    assert waits(2.0, [0, 24, 25]) == pytest.approx([48, 2], abs=0.1)


def test_without_a_pace_nothing_waits():
    assert waits(0.0, [0, 24, 25]) == [0, 0]


def test_nobody_waits_for_a_step_that_is_not_asked_for():
    waited: list[float] = []
    steps = replay.paced(iter([START, START + timedelta(days=1)]), 1.0, waited.append)
    assert (next(steps), waited) == (START, [])


def test_no_steps_are_paced_to_none():
    assert waits(1.0, []) == []


def outcomes(number: int) -> list[SimpleNamespace]:
    facts = {"champion": None, "champion_seq": None, "version": "abc", "seconds": 0.5, "reason": "First model."}
    made = [SimpleNamespace(model="eta", country=f"C{place}", state="published", **facts) for place in range(number - 2)]
    failed = SimpleNamespace(model="fraud", country="US", state="failed", **{**facts, "reason": "SanityError: odd."})
    return [*made, failed, SimpleNamespace(model="fraud", country="BR", state="kept", **facts)]


def shown(number: int) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(replay.table(load_catalog().fleet("ride_hailing"), "ride_hailing/1", outcomes(number)))
    return console.file.getvalue().splitlines()


def test_a_short_run_is_shown_by_cell():
    assert len([line for line in shown(replay.LONGEST_TABLE) if "eta/C" in line]) == replay.LONGEST_TABLE - 2


def test_a_long_run_is_shown_by_model_with_its_first_failure():
    lines = shown(200)
    (eta,), (fraud,) = ([line for line in lines if f" {name} " in line] for name in ("eta", "fraud"))
    assert [part.strip() for part in eta.split("│")[1:-1]] == ["eta", "198", "", "", "99.0", ""]
    assert [part.strip() for part in fraud.split("│")[1:-1]] == ["fraud", "", "1", "1", "1.0", "US: SanityError: odd."]
