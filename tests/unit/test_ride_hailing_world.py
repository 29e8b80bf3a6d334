"""The simulated world: the same however it is cut, of the sizes, drift, delays and incidents that its parameters say."""

import itertools

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rides import BY_CODE, a_country, day, rows_of
from sklearn.linear_model import LogisticRegression

from models.ride_hailing import ride_hailing as fleet
from models.ride_hailing.cancellation import cancellation
from models.ride_hailing.eta import eta
from models.ride_hailing.rider_demand import rider_demand
from perennial.core.examples import matured_examples
from perennial.core.metrics import METRICS, predict
from perennial.spec import Days, Seconds
from sources.trips import CODES
from sources.trips import trips as source
from worlds import ride_hailing
from worlds.ride_hailing.countries import COUNTRIES, FAST, HISTORY, SLOW, START, STATIC, Incident
from worlds.ride_hailing.files import write_files
from worlds.ride_hailing.table import SCHEMA
from worlds.ride_hailing.trips import changes, demand, known, trips


def befallen(kind, start, end):
    """A country as it would be, and as it is with one incident."""
    return a_country("FR"), a_country("FR", incidents=(Incident(kind=kind, start=day(start), end=day(end)),))


def test_two_makings_are_the_same():
    pd.testing.assert_frame_equal(trips(a_country(), range(5)), trips(a_country(), range(5)))


@pytest.mark.parametrize("days", [[3], [7, 3], range(3, 8)], ids=str)
def test_any_days_alone_equal_the_same_days_of_a_longer_run(days):
    whole = trips(a_country(), range(10))
    wanted = whole[((whole["requested_at"] - START) // pd.Timedelta(days=1)).isin(days)].reset_index(drop=True)
    pd.testing.assert_frame_equal(trips(a_country(), days), wanted)


def test_before_the_start_there_is_nothing():
    assert trips(a_country(), [-2, -1]).empty


def test_another_country_has_other_trips():
    assert (
        not trips(a_country("NL"), [0])["distance_km"].isin(trips(a_country("PL", trips_a_day=36.0), [0])["distance_km"]).all()
    )


def test_no_two_trips_have_the_same_key():
    keys = pd.concat([trips(country, range(20))["trip_id"] for country in COUNTRIES])
    assert keys.is_unique


def test_sizes_are_as_said_and_spread_over_two_orders_of_magnitude():
    sizes = {country.code: len(trips(country, range(28))) / 28 for country in COUNTRIES}
    for country in COUNTRIES:
        assert sizes[country.code] == pytest.approx(country.trips_a_day, rel=4 / np.sqrt(28 * country.trips_a_day))
    assert max(sizes.values()) > 80 * min(sizes.values())


def test_demand_swings_over_the_day_and_the_week_as_said():
    calm, lively = a_country(daily=0.0, weekly=0.0), a_country(daily=1.0, weekly=0.5)
    assert np.ptp(demand(calm, 0), axis=1) == pytest.approx(0)
    assert demand(lively, 0)[0].max() > 5 * demand(lively, 0)[0].min()
    week = [demand(lively, number).sum() for number in range(7)]
    assert (max(week), (START + Days(int(np.argmax(week)))).weekday()) == (pytest.approx(1.5 * lively.trips_a_day), 5)


@pytest.mark.parametrize("cuts", [[60], [20, 60], [1, 2, 3.3, 30, 59.99, 60], [45, 45.01, 45.02, 60]], ids=str)
def test_however_the_time_is_cut_the_last_revision_of_each_trip_is_the_same(cuts):
    country = a_country(incidents=(Incident(kind="cents", start=day(44.5), end=day(45.5)),))
    bounds = [0, *cuts]
    steps = [changes(country, day(since), day(until)) for since, until in itertools.pairwise(bounds)]
    latest = pd.concat(steps).drop_duplicates("trip_id", keep="last").sort_values("trip_id").reset_index(drop=True)
    once = changes(country, day(0), day(60)).sort_values("trip_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(latest, once)


def test_what_becomes_known_at_the_very_end_of_a_step_is_written_by_the_next():
    country = a_country()
    trip = trips(country, [10]).query("cancelled == 0").iloc[0]
    moment = trip["settled_at"].to_pydatetime()
    until, after = (changes(country, day(0), moment), changes(country, moment, moment + Seconds(1)))
    assert np.isnan(until.set_index("trip_id").loc[trip["trip_id"], "fraud"])
    assert after.set_index("trip_id").loc[trip["trip_id"], "fraud"] == trip["fraud"]


def test_a_step_writes_no_trip_that_has_not_ended_and_none_that_nothing_new_is_known_of():
    country = a_country()
    step = changes(country, day(50), day(50.25))
    assert (step["ended_at"] < day(50.25)).all()
    truth = trips(country, range(51)).set_index("trip_id").loc[step["trip_id"]].reset_index()
    before = known(truth, country, day(50))
    columns = ["contacted", "churned", "fraud", "agreed_price"]
    same = (before[columns] == step[columns]) | (before[columns].isna() & step[columns].isna())
    is_new = step["ended_at"] >= day(50)
    assert 0 < is_new.sum() < len(step)
    assert (is_new | ~same.all(axis=1)).all()


def test_late_labels_come_after_their_delay_and_not_before():
    country = a_country()
    rows = rows_of(country, day(0), day(60))
    ages = pd.Timestamp(day(60)) - rows["requested_at"]
    for label, delay in (("contacted", 3), ("churned", 14), ("fraud", country.label_delay.days)):
        assert rows.loc[ages < pd.Timedelta(days=delay), label].isna().all()
        assert rows.loc[(ages >= pd.Timedelta(days=delay)) & (rows["cancelled"] == 0), label].notna().all()
    assert (rows["settled_at"].notna() == rows["fraud"].notna()).all()


def test_a_few_prices_are_mistyped_at_first_and_corrected_after_two_days():
    made = trips(a_country("US"), [40])
    at_once, later = (known(made, a_country("US"), day(at)) for at in (41, 44))
    wrong = at_once["agreed_price"] > 1.5 * later["agreed_price"]
    assert 0 < wrong.mean() < 0.02
    np.testing.assert_allclose(at_once.loc[wrong, "agreed_price"], 10 * later.loc[wrong, "agreed_price"])
    pd.testing.assert_series_equal(later["agreed_price"], made["agreed_price"])


def test_in_a_silence_nobody_rides():
    _, hit = befallen("silence", 42, 44)
    assert len(trips(hit, range(40, 42))) > 300
    assert trips(hit, range(42, 44)).empty


def test_in_a_strike_drivers_are_few_and_waits_are_long():
    country, hit = befallen("strike", 42, 44)
    normal, struck = (trips(each, range(42, 44)) for each in (country, hit))
    assert struck["drivers_nearby"].mean() < 0.5 * normal["drivers_nearby"].mean()
    assert struck["wait_minutes"].mean() > 1.3 * normal["wait_minutes"].mean()


def test_in_a_wave_fraud_is_several_times_as_frequent():
    country, hit = befallen("fraud_wave", 40, 50)
    assert trips(hit, range(40, 50))["fraud"].mean() > 2.5 * trips(country, range(40, 50))["fraud"].mean()


def test_prices_in_cents_are_written_so_until_the_incident_ends_and_then_corrected():
    _, hit = befallen("cents", 42, 43)
    during, after = changes(hit, day(42), day(42.9)), changes(hit, day(42.9), day(43.1))
    new = during["requested_at"] >= day(42)
    assert during.loc[new, "agreed_price"].median() > 300
    corrected = after[after["trip_id"].isin(during.loc[new, "trip_id"])]
    assert len(corrected) == new.sum()
    assert corrected["agreed_price"].median() < 30


def test_inverted_labels_are_the_true_ones_turned_round():
    country, hit = befallen("inverted", 42, 43)
    true, written = (trips(each, [41, 42])["bonus_taken"] for each in (country, hit))
    inside = trips(country, [41, 42])["requested_at"] >= day(42)
    np.testing.assert_array_equal(written[inside], 1 - true[inside])
    np.testing.assert_array_equal(written[~inside], true[~inside])


def test_outside_of_an_incident_nothing_is_changed_by_it():
    for kind in ("silence", "strike", "fraud_wave", "cents", "inverted"):
        country, hit = befallen(kind, 42, 44)
        columns = list(SCHEMA.names)
        pd.testing.assert_frame_equal(trips(hit, [41, 44])[columns], trips(country, [41, 44])[columns])


@pytest.mark.parametrize("model", [cancellation, eta, rider_demand], ids=lambda model: model.name)
def test_a_fresh_model_beats_a_stale_one_where_the_world_drifts_and_not_where_it_is_static(model):
    gains = {drift: gain_of_retraining(model, a_country(trips_a_day=250.0, drift=drift)) for drift in (STATIC, FAST)}
    assert abs(gains[STATIC]) < 0.03
    assert gains[FAST] > 0.08


def gain_of_retraining(model, country):
    """How much lower the error of a fit is than that of a fit thirty days older, on the same fortnight."""
    rows = rows_of(country, day(0), day(110))
    made = matured_examples(model.examples, rows, rows["requested_at"].max(), model.name)
    held, metric = made[made["event_time"] >= day(96)], METRICS[model.metric]
    errors = []
    for cut in (day(96), day(66)):
        train = made[(made["label_time"] < cut) & (made["event_time"] >= cut - model.window)]
        fit = model.estimator().fit(model.features(train), train["target"])
        losses = metric.loss(held["target"].to_numpy(dtype=float), predict(fit, model.features(held), metric, model.name))
        errors.append(float(metric.score(losses.mean())))
    return 1 - errors[0] / errors[1]


@pytest.mark.parametrize("drift", [STATIC, SLOW, FAST])
def test_the_causes_of_churn_turn_by_the_drift_s_degrees_a_day(drift):
    country = a_country(trips_a_day=2000.0, drift=drift)
    early, late = (direction_of_churn(trips(country, range(start, start + 20))) for start in (0, 50))
    assert (late - early + 180) % 360 - 180 == pytest.approx(50 * drift, abs=8)


def direction_of_churn(made):
    """In degrees: 0 where churn comes from the rider's past alone, 90 where from the surge alone."""
    causes = np.column_stack([(np.log(made["rider_trips"] + 0.5) - 2.5) / 1.1, np.log(made["surge"]) / 0.15])
    past, surge = LogisticRegression().fit(causes, made["churned"]).coef_[0]
    return np.degrees(np.arctan2(surge, past))


def test_a_file_per_country_and_day_holds_what_became_known_that_day(tmp_path):
    country = a_country("IE")
    files = write_files(tmp_path, day(30), day(33), [country])
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [f"IE/2016-01-{date}.parquet" for date in (31,)] + [
        f"IE/2016-02-0{date}.parquet" for date in (1, 2)
    ]
    held = pq.read_table(files[1]).to_pandas()
    assert set(held["trip_id"]) == set(changes(country, day(31), day(32))["trip_id"])
    assert (held["changed_at"] == day(32)).all()


def test_writing_files_again_adds_none(tmp_path):
    write_files(tmp_path, day(0), day(2), [a_country("IE")])
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}
    assert write_files(tmp_path, day(0), day(2), [a_country("IE")]) == []
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == before


def test_the_steps_are_its_history_and_then_days_without_end():
    moments = ride_hailing.steps()
    assert [next(moments) for _ in range(3)] == [START + HISTORY + Days(number) for number in range(3)]


def test_the_source_and_the_fleet_declare_the_world_s_table_and_countries():
    assert {column.name for column in source.columns} == {*SCHEMA.names, "changed_at"}
    assert source.faults() == []
    assert tuple(BY_CODE) == CODES == fleet.countries


def test_the_history_is_long_enough_for_the_latest_label():
    longest = max(country.label_delay for country in COUNTRIES)
    assert longest + cancellation.window + cancellation.holdout <= HISTORY
