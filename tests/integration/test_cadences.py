"""When a cell is due: new rows, age, and whether a promotion is within reach; and runs as of past moments."""

from datetime import timedelta

import pytest
from toolbox import GB, START, cycle, edit_gate, releases

from perennial.errors import RequestError
from perennial.spec import Cadence, Days
from perennial.steps.plan import moment

DAY = timedelta(days=1)


def again(zoo, days, per_day=20, **request):
    """Further rows of Britain, ingested; the outcome of a run over them."""
    zoo.see("Britain", days, per_day)
    zoo.ingest()
    return zoo.retrain(**request).get("weight/GB")


def verdicts(zoo):
    return zoo.sql("SELECT rows, decision, against_seq, scores FROM verdicts ORDER BY id")


def doubtful(zoo, noise=3.0):
    """A champion, then rows so noisy that the next verdict cannot tell."""
    edit_gate(zoo, floor=100, margin=0.0)
    cycle(zoo)
    zoo.see("Britain", range(60, 66), noise=noise)
    zoo.ingest()
    return zoo.retrain()["weight/GB"]


def test_a_cell_with_too_few_new_rows_is_not_asked_again_and_says_how_many_it_needs(zoo):
    cycle(zoo)
    outcome = again(zoo, range(60, 61), per_day=15)
    assert (outcome.state, outcome.reason) == ("skipped", "Not due: 15 rows since the last verdict, 5 more are needed.")


def test_few_rows_at_a_time_add_up_until_the_cell_is_due(zoo):
    cycle(zoo)
    states = [again(zoo, range(day, day + 1), per_day=8).state for day in range(60, 66)]
    assert states == ["skipped", "skipped", "published", "skipped", "skipped", "published"]


def test_a_cycle_without_any_new_row_plans_nothing(zoo):
    cycle(zoo)
    assert zoo.retrain() == {}


def test_an_inconclusive_verdict_keeps_its_gain_and_bounds(zoo):
    outcome = doubtful(zoo)
    scores = verdicts(zoo)[-1].scores
    assert outcome.state == "inconclusive"
    assert scores["gain_lower"] < scores["gain"] < scores["gain_upper"]


def test_nothing_is_trained_while_a_promotion_is_out_of_reach(zoo):
    doubtful(zoo)
    looked_worse(zoo)
    outcome = again(zoo, range(66, 69))
    assert outcome.state == "skipped"
    assert "a promotion is out of reach. It needs about" in outcome.reason
    assert len(verdicts(zoo)) == 2


def test_with_the_rows_it_needs_the_cell_is_asked_on_all_of_them(zoo):
    doubtful(zoo)
    looked_worse(zoo, upper=0.06)
    assert again(zoo, range(66, 82)).state in ("published", "kept", "inconclusive")
    before, after = verdicts(zoo)[-2:]
    assert after.rows >= before.rows * (0.1 / 0.06) ** 2


@pytest.mark.parametrize("asked_by", ["force", "age"])
def test_force_and_age_end_the_wait_for_a_promotion_within_reach(zoo, asked_by):
    doubtful(zoo)
    looked_worse(zoo)
    if asked_by == "age":
        zoo.edit(cadence=Cadence(min_new_rows=20, max_age=Days(2)))
    assert again(zoo, range(66, 69), force=asked_by == "force").state != "skipped"
    assert len(verdicts(zoo)) == 3


def looked_worse(zoo, upper=0.001):
    """Make the last verdict one whose challenger looked worse: its scores are all that the next plan reads of it."""
    scores = f'{{"gain": {upper - 0.1}, "gain_lower": {upper - 0.2}, "gain_upper": {upper}}}'
    zoo.sql("ALTER TABLE verdicts DISABLE TRIGGER ALL")
    zoo.sql("UPDATE verdicts SET scores = scores || %s::jsonb WHERE id = (SELECT max(id) FROM verdicts)", scores)
    zoo.sql("ALTER TABLE verdicts ENABLE TRIGGER ALL")


def test_a_cell_that_nobody_asked_about_for_long_is_asked_once_and_not_in_each_cycle(zoo):
    zoo.edit(cadence=Cadence(min_new_rows=10_000, max_age=Days(10)))
    cycle(zoo)
    states = [again(zoo, range(day, day + 3), per_day=20).state for day in range(60, 84, 3)]
    assert [number for number, state in enumerate(states) if state != "skipped"] == [3, 7]


def test_a_run_as_of_a_past_moment_reads_nothing_later(zoo):
    cycle(zoo, range(90), as_of=zoo_day(60))
    (version,) = zoo.sql("SELECT judged_until, served_until, s.window_end FROM versions JOIN snapshots AS s ON s.id = snapshot")
    assert version.judged_until < version.served_until <= zoo_day(60) == version.window_end


def test_a_backfill_builds_the_history_a_new_model_would_have_had(zoo):
    zoo.see("Britain", range(90))
    zoo.ingest()
    for day in (60, 75, 90):
        assert zoo.retrain(as_of=zoo_day(day))["weight/GB"].state == "published"
    windows = zoo.sql("SELECT as_of FROM verdicts ORDER BY id")
    assert [window.as_of for window in windows[:2]] == [zoo_day(60), zoo_day(75)]


def test_a_backfill_of_dates_that_are_judged_already_changes_nothing(zoo):
    zoo.see("Britain", range(90))
    zoo.ingest()
    for day in (60, 90, 75, 60):
        zoo.retrain(as_of=zoo_day(day))
    assert [release.seq for release in releases(zoo)] == [1, 2]


def test_a_forced_run_as_of_the_past_does_not_move_a_later_champion(zoo):
    cycle(zoo, range(90))
    outcome = zoo.retrain(as_of=zoo_day(60), force=True)["weight/GB"]
    assert (outcome.state, len(releases(zoo))) == ("inconclusive", 1)


def test_an_interrupted_backfill_goes_on_where_it_was(zoo):
    zoo.see("Britain", range(60))
    zoo.see("France", range(60))
    zoo.ingest()
    run_id = zoo.plan(as_of=zoo_day(50))
    zoo.sql("UPDATE outcomes SET state = 'skipped', decided_at = now() WHERE country = 'FR'")
    assert zoo.train(run_id) == {"published": 1}
    assert zoo.train(run_id) == {}
    assert zoo.plan_again(run_id).cells == 0


def test_forcing_twice_trains_nothing_new(zoo):
    cycle(zoo)
    outcomes = [zoo.retrain(force=True)["weight/GB"] for _ in range(2)]
    assert {outcome.state for outcome in outcomes} <= {"skipped", "inconclusive"}
    assert len(releases(zoo, GB)) == 1


@pytest.mark.parametrize("text", ["yesterday", "2011-13-01", ""])
def test_a_moment_that_is_none_is_refused(text):
    with pytest.raises(RequestError, match="is no moment"):
        moment(text)


def test_a_moment_without_a_zone_is_utc():
    assert moment("2011-06-01") == moment("2011-06-01T00:00:00Z")


def zoo_day(number):
    return START + number * DAY
