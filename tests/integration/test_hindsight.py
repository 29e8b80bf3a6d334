"""Hindsight over real cycles: the ways differ as they should, and the figures are those of the rows that came later."""

import numpy as np
import pytest
from toolbox import GB, add_model, cycle, edit_gate, reader

from perennial.core.hindsight import ALWAYS, NEVER, SERVED
from perennial.steps.hindsight import hindsight
from perennial.steps.succession import check_champions


def looking_back(zoo, workers=1):
    return {str(made.cell): made for made in hindsight(zoo.resources, zoo.catalog, "zoo", workers, lambda fact: None)}


@pytest.fixture
def changing(zoo):
    """Three cycles in which the weights rise, and a fourth whose rows nobody has learned from."""
    edit_gate(zoo, floor=100)
    for number, slope in enumerate((2.0, 2.5, 3.0, 3.5)):
        zoo.see("Britain", range(60 + 15 * (number - 1) if number else 0, 60 + 15 * number), slope=slope)
        zoo.see("France", range(15 * number, 15 * number + 1))
        zoo.ingest()
        zoo.retrain(force=True)
    return zoo


def test_a_champion_that_follows_a_change_beats_the_one_never_retrained(changing):
    made = looking_back(changing)["weight/GB"]
    assert made.ratio(NEVER) == 1.0
    assert made.ratio(SERVED) < 0.95
    assert len(made.stretches) == 3
    assert made.outcomes["published"] == len(made.released) >= 2


def test_the_error_is_that_of_the_served_champion_on_the_rows_of_the_next_cycle(zoo):
    cycle(zoo)
    served = reader(zoo).load(*GB).estimator
    ids = cycle_of_later_rows(zoo)
    (last,) = looking_back(zoo)["weight/GB"].stretches
    assert last.rows == len(ids)
    assert last.losses[SERVED] == pytest.approx(mean_squared_error(zoo, served, ids))


def test_where_a_former_champion_took_over_its_error_counts(changing):
    *_, former, last = changing.rows("releases_of", model="weight", country="GB")
    changing.resources.store.root.joinpath(last.artifact_key).unlink()
    assert check_champions(changing.resources, changing.catalog)["replaced by a former one"] == 1
    served = reader(changing).load(*GB)
    assert (served.version, served.seq) == (former.version, last.seq + 1)

    ids = changing.see("Britain", range(105, 120), slope=3.5)
    changing.ingest()
    changing.retrain()
    stretch = looking_back(changing)["weight/GB"].stretches[-1]
    assert stretch.losses[SERVED] == pytest.approx(mean_squared_error(changing, served.estimator, ids))


def cycle_of_later_rows(zoo):
    ids = zoo.see("Britain", range(60, 75), slope=2.2)
    zoo.ingest()
    zoo.retrain()
    return ids


def mean_squared_error(zoo, estimator, ids):
    import pandas as pd
    import psycopg2

    with psycopg2.connect(zoo.shop) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT length, weight FROM sightings WHERE id = ANY(%s)", (ids,))
        rows = pd.DataFrame(cursor.fetchall(), columns=["length", "weight"])
    connection.close()
    return float(np.mean((estimator.predict(rows[["length"]]) - rows["weight"]) ** 2))


def test_always_publishing_is_the_served_fit_where_each_cycle_published(changing):
    made = looking_back(changing)["weight/GB"]
    stretches = [s for s in made.stretches if s.start in made.released]
    assert stretches
    assert all(s.losses[ALWAYS] == s.losses[SERVED] for s in stretches)


def test_always_publishing_trains_where_perennial_kept_its_champion(zoo):
    cycle(zoo)
    edit_gate(zoo, floor=0.0)
    for start in (60, 75):
        zoo.see("Britain", range(start, start + 15), slope=3.0)
        zoo.ingest()
        zoo.retrain()
    made = looking_back(zoo)["weight/GB"]
    assert made.outcomes["kept"] == 2
    assert made.ratio(SERVED) == 1.0
    assert made.ratio(ALWAYS) < 0.9


def test_a_cell_that_never_had_a_champion_says_why(changing):
    made = looking_back(changing)["weight/FR"]
    assert made.stretches == ()
    assert "Too few rows" in made.last_reason


def test_several_processes_say_what_one_says(changing):
    add_model(changing, "other")
    assert looking_back(changing, workers=2) == looking_back(changing, workers=1)


def test_dry_runs_are_no_cycles(changing):
    before = looking_back(changing)
    changing.retrain(force=True, dry_run=True)
    after = looking_back(changing)
    assert after["weight/GB"].stretches == before["weight/GB"].stretches
