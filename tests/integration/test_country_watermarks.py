"""Each country has its own data time: how far its own accepted rows reach, whatever became of the others."""

import pandas as pd
import pytest
from toolbox import DAY, START, add_model, execute

from perennial import Cadence, Gate
from perennial.cell import Cell
from perennial.steps import ingest, validate
from perennial.steps.plan import Request, plan
from perennial.steps.quarantine import accept_batch, retract_batch

ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, 1, 2)"
FRANCE = Cell("sightings_a_day", "FR")


def examples(rows, as_of):
    """One row per day up to the data time, also where nothing was seen."""
    days = pd.date_range(rows["seen_at"].min().ceil("D"), as_of, freq="D", unit="us")
    counts = rows.groupby(rows["seen_at"].dt.floor("D")).size().reindex(days, fill_value=0)
    moments = pd.Series(days, index=days)
    return pd.DataFrame({"event_time": moments, "label_time": moments + DAY, "target": counts.astype(float)})


def features(examples):
    return pd.DataFrame({"weekday": examples["event_time"].dt.weekday}, index=examples.index)


def estimator():
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


@pytest.fixture
def counted(zoo):
    """Sixty days of three countries, and a model that counts the sightings of each day."""
    gate = Gate(floor=50.0, min_rows=5, min_clusters=5, min_train_rows=5, margin=0.5)
    functions = {"examples": examples, "features": features, "estimator": estimator}
    add_model(zoo, FRANCE.model, **functions, gate=gate, columns=("seen_at",), cadence=Cadence(min_new_rows=2))
    for country in ("Britain", "France", "Germany"):
        zoo.see(country, range(60))
    zoo.ingest()
    zoo.retrain()
    return zoo


def more(zoo, days, *countries, hold=()):
    """Further days of some countries, of which some batches are held."""
    for country in countries:
        zoo.see(country, days)
    ingest.land(zoo.resources, zoo.catalog.source("sightings"))
    reason = "UPDATE batches SET state = 'quarantined', reason = 'odd', decided_at = now() "
    zoo.sql(reason + "WHERE state = 'landed' AND country = ANY (%s)", list(hold))
    validate.validate(zoo.resources, zoo.catalog.source("sightings"))


def reached(zoo):
    """How many days each country has landed."""
    return {row.country: (row.as_of - START) // DAY + 1 for row in zoo.rows("as_of", source="sightings")}


def judged_until(zoo):
    """The newest day of France that the counting model was ever judged on."""
    (row,) = zoo.sql("SELECT max(window_end) AS newest FROM verdicts WHERE (model, country) = (%s, %s)", *FRANCE)
    return (row.newest - START) // DAY


def test_a_country_goes_as_far_as_its_own_accepted_rows(counted):
    more(counted, range(60, 70), "Britain", "France", hold=["FR"])
    assert reached(counted) == {"GB": 70, "FR": 60, "DE": 60}
    stored = counted.rows("run_of", id=counted.plan())[0].as_of["sightings"]
    assert {country: moment[:10] for country, moment in stored.items()} == {
        "GB": "2026-03-11", "FR": "2026-03-01", "DE": "2026-03-01",
    }  # fmt: skip


def test_a_held_or_late_country_is_not_asked_while_the_others_go_on(counted):
    more(counted, range(60, 70), "Britain", "France", hold=["FR"])
    outcomes = counted.retrain()
    assert outcomes["weight/GB"].state == "published"
    assert outcomes["weight/FR"].reason == "Batch sightings/FR 2 is held: odd"
    assert "weight/DE" not in outcomes


def test_a_forced_cell_of_a_late_country_is_judged_on_no_day_that_nobody_observed(counted):
    assert judged_until(counted) == 58
    more(counted, range(60, 70), "Britain", "France", hold=["FR"])
    assert counted.retrain(force=True)[str(FRANCE)].state == "kept"
    assert judged_until(counted) == 58


def test_a_country_goes_on_from_where_it_was_when_its_batch_is_accepted(counted):
    more(counted, range(60, 70), "Britain", "France", hold=["FR"])
    counted.retrain()
    accept = "UPDATE batches SET report = '{\"profile\": {\"rows\": 200}}' WHERE (country, seq) = ('FR', 2)"
    counted.sql(accept)
    accept_batch(counted.resources, "sightings", "FR", 2, "Ada", "is right")
    assert counted.retrain()["weight/FR"].state == "published"
    assert reached(counted) == {"GB": 70, "FR": 70, "DE": 60}


def test_one_row_dated_far_ahead_stops_no_other_country(counted):
    execute(counted.shop, ROW, 90_001, START + 300 * DAY, "Germany")
    more(counted, range(60, 70), "Britain", "France", "Germany")
    assert reached(counted) == {"GB": 70, "FR": 70, "DE": 301}
    outcomes = counted.retrain()
    assert [outcomes[f"weight/{country}"].state for country in ("GB", "FR")] == ["published"] * 2


def test_a_country_comes_back_from_a_row_dated_far_ahead_when_its_batch_is_retracted(counted):
    execute(counted.shop, ROW, 90_001, START + 300 * DAY, "Germany")
    more(counted, range(60, 70), "Germany")
    counted.retrain()
    retract_batch(counted.resources, "sightings", "DE", 2, "Ada", "a wrong date")
    assert reached(counted)["DE"] == 60
    more(counted, range(70, 80), "Germany")
    assert counted.retrain()["weight/DE"].state == "published"


def test_the_data_time_stops_before_a_batch_that_is_not_validated_yet(counted):
    more(counted, range(60, 70), "Germany")
    more(counted, range(70, 80), "Germany")
    counted.sql("ALTER TABLE batches DISABLE TRIGGER guard_batch")
    counted.sql("UPDATE batches SET state = 'landed', decided_at = NULL WHERE (country, seq) = ('DE', 2)")
    assert reached(counted)["DE"] == 60


def test_removed_rows_move_no_data_time(counted):
    profile = '{"profile": {"rows": 0, "newest": null}}'
    more(counted, range(60, 70), "Britain", "France", hold=["FR"])
    counted.sql("UPDATE batches SET state = 'accepted', report = %s WHERE (country, seq) = ('FR', 2)", profile)
    assert reached(counted)["FR"] == 60


def test_a_backfill_is_as_of_its_date_or_of_a_late_country_as_of_its_last_row(counted):
    more(counted, range(60, 70), "Britain")
    asked = START + 65 * DAY
    run = counted.rows("run_of", id=counted.plan(as_of=asked))[0].as_of["sightings"]
    assert run["GB"] == asked.isoformat()
    assert run["DE"] < (START + 60 * DAY).isoformat()


def test_a_country_without_an_accepted_row_is_not_planned_even_by_force(zoo):
    zoo.see("Britain", range(60))
    more(zoo, range(60), "France", hold=["FR"])
    made = plan(zoo.resources, zoo.catalog, "zoo", "zoo/run-1", Request(force=True))
    pending = zoo.sql("SELECT country FROM outcomes WHERE state = 'pending'")
    assert made.cells == len(pending)
    assert {row.country for row in pending} == {"GB"}


def test_what_was_retracted_since_the_plan_is_no_part_of_the_data_time(counted):
    more(counted, range(60, 70), "France")
    run_id = counted.plan()
    retract_batch(counted.resources, "sightings", "FR", 2, "Ada", "bad")
    counted.train(run_id)
    assert judged_until(counted) == 58
    verdicts = counted.sql("SELECT max(as_of) AS newest FROM verdicts WHERE country = 'FR'")
    assert verdicts[0].newest < START + 60 * DAY


def test_a_country_that_was_silent_wakes_with_its_next_row(counted):
    for first in (60, 70):
        more(counted, range(first, first + 10), "Britain")
        assert "weight/DE" not in counted.retrain()
    more(counted, range(80, 90), "Germany")
    assert counted.retrain()["weight/DE"].state == "published"
