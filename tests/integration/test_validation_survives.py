"""Rule 7: a batch that ends its validation, never gets done or fills the memory is set aside, and the others go on."""

import faulthandler
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import psutil
import pytest
from toolbox import edit_source, execute

from perennial import Checks, Seconds
from perennial.core import expectations
from perennial.errors import PerennialError, RegistryError, RequestError
from perennial.shell.database import connect
from perennial.steps import batch_attempts, ingest
from perennial.steps import validate as step
from perennial.steps.audit import audit
from perennial.steps.quarantine import accept_batch, extract_again, retract_batch, validate_again
from perennial.steps.validate import validate

COUNTRIES = ("Britain", "France", "Germany")


@pytest.fixture
def landed(zoo):
    """A batch for each of three countries, landed and not validated."""
    for country in COUNTRIES:
        zoo.see(country, range(3))
    ingest.land(zoo.resources, source_of(zoo))
    return zoo


def source_of(zoo):
    return zoo.catalog.source("sightings")


def states(zoo):
    return {f"{row.country} {row.seq}": row.state for row in zoo.sql("SELECT * FROM batches ORDER BY country, seq")}


def reason(zoo, country="FR", seq=1):
    return zoo.sql("SELECT reason FROM batches WHERE (country, seq) = (%s, %s)", country, seq)[0].reason


def attempts(zoo, country="FR"):
    """Of a country's batches: how many attempts there were, and how many of them never finished."""
    rows = zoo.sql("SELECT finished_at FROM batch_attempts WHERE country = %s", country)
    return len(rows), sum(row.finished_at is None for row in rows)


def harmful(monkeypatch, harm, country="France"):
    """Have the suite do harm wherever it meets the country's rows."""
    run = expectations.Suite._run

    def harming(self, frame, *given):
        if country in set(frame["country"]):
            harm()
        return run(self, frame, *given)

    monkeypatch.setattr(expectations.Suite, "_run", harming)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def abort():
    faulthandler.disable()
    os.abort()


def hang():
    time.sleep(600)


HARMS = {
    "killed, as for want of memory": (kill, "SIGKILL. So the system ends what takes too much memory"),
    "ended by a library": (lambda: os._exit(137), "ended with code 137. See the end of that task's log"),
    "crashed": (abort, "ended by SIGABRT"),
    "hanging": (hang, "met its time limit. Look for a regex that backtracks"),
}


@pytest.mark.parametrize("how", HARMS)
def test_a_batch_that_ends_its_validation_twice_is_set_aside_and_the_others_are_accepted(landed, monkeypatch, how):
    harm, said = HARMS[how]
    harmful(monkeypatch, harm)
    edit_source(landed, checks=Checks(time_limit=Seconds(1.5)))
    assert validate(landed.resources, source_of(landed)) == {"accepted": 2, "quarantined": 1}
    assert states(landed) == {"DE 1": "accepted", "FR 1": "quarantined", "GB 1": "accepted"}
    assert "The validation could not run: killed its validation 2 times" in reason(landed)
    assert said in reason(landed)
    assert audit(landed.resources, landed.catalog) == []


def test_a_regex_that_backtracks_for_hours_costs_its_country_alone(landed):
    columns = tuple(
        replace(each, regex=r"^(?=B|G|(\w+\s?)+$)") if each.name == "country" else each for each in source_of(landed).columns
    )
    text = "F" + "x" * 60 + "!"
    edit_source(landed, columns=columns, countries={**source_of(landed).countries, text: "FR"})
    edit_source(landed, checks=Checks(time_limit=Seconds(2)))
    landed.see(text, range(3))
    ingest.land(landed.resources, source_of(landed))
    validate(landed.resources, source_of(landed))
    assert states(landed) == {"DE 1": "accepted", "FR 1": "accepted", "FR 2": "quarantined", "GB 1": "accepted"}
    assert "time limit" in reason(landed, seq=2)


def test_later_batches_of_the_same_country_go_on(landed, monkeypatch):
    monkeypatch.setattr(step, "_fits", lambda pile, each: False)
    slices = step._slices
    monkeypatch.setattr(step, "_slices", lambda bench, batch: kill() if (batch.country, batch.seq) == ("FR", 1)
                        else slices(bench, batch))  # fmt: skip
    landed.see("France", range(3, 6))
    ingest.land(landed.resources, source_of(landed))
    validate(landed.resources, source_of(landed))
    assert (states(landed)["FR 1"], states(landed)["FR 2"]) == ("quarantined", "accepted")


def test_a_batch_that_ends_its_process_once_is_accepted_at_once(landed, monkeypatch, tmp_path):
    def once():
        if not (tmp_path / "was here").exists():
            (tmp_path / "was here").touch()
            kill()

    harmful(monkeypatch, once)
    assert validate(landed.resources, source_of(landed)) == {"accepted": 3, "quarantined": 0}
    assert (attempts(landed), attempts(landed, "GB")) == ((2, 1), (2, 1))


def test_batches_that_were_judged_together_are_not_blamed_for_the_one_that_killed(landed, monkeypatch):
    harmful(monkeypatch, kill)
    validate(landed.resources, source_of(landed))
    assert (attempts(landed, "FR"), attempts(landed, "GB"), attempts(landed, "DE")) == ((3, 3), (2, 1), (2, 1))


def test_a_batch_set_aside_for_its_kills_is_validated_again_by_a_person(landed, monkeypatch):
    with monkeypatch.context() as before:
        harmful(before, kill)
        validate(landed.resources, source_of(landed))
        again = validate_again(landed.resources, source_of(landed), "ann", "is it still so?", country="FR", seq=1)
        assert again == {"accepted": [], "quarantined": ["FR 1"]}
        assert attempts(landed) == (5, 5)
    again = validate_again(landed.resources, source_of(landed), "ann", "more memory", country="FR", seq=1)
    assert again == {"accepted": ["FR 1"], "quarantined": []}


def test_a_batch_set_aside_for_its_kills_is_extracted_again_by_a_person(landed, monkeypatch):
    with monkeypatch.context() as before:
        harmful(before, kill)
        validate(landed.resources, source_of(landed))
    with pytest.raises(RequestError, match="was not validated row by row"):
        accept_batch(landed.resources, "sightings", "FR", 1, "ann", "let it in")
    done = extract_again(landed.resources, source_of(landed), "FR", 1, "ann", "the rows were mended")
    assert done == {"replaced by": "FR 2", "accepted": ["FR 2"], "quarantined": []}
    assert retract_batch(landed.resources, "sightings", "FR", 2, "ann", "it was wrong") == []
    assert audit(landed.resources, landed.catalog) == []


def test_a_process_that_ends_outside_of_any_batch_is_not_replaced(landed):
    edit_source(landed, expectations=kill)
    with pytest.raises(PerennialError, match="ended by SIGKILL, outside of any batch"):
        validate(landed.resources, source_of(landed))
    assert set(states(landed).values()) == {"landed"}


def test_a_lost_registry_is_no_death(landed, monkeypatch):
    edit_source(landed, countries={"France": "FR"})

    def lose():
        landed.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")

    with monkeypatch.context() as while_lost:
        harmful(while_lost, lose)
        for _ in range(3):
            with pytest.raises(RegistryError, match="went away"):
                validate(landed.resources, source_of(landed))
    assert attempts(landed) == (3, 0)
    assert validate(landed.resources, source_of(landed)) == {"accepted": 3, "quarantined": 0}


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


@pytest.fixture
def at_work(landed, monkeypatch):
    """A task whose validation hangs in one country's batch; the task's process and that of its validation."""
    harmful(monkeypatch, hang)
    process = multiprocessing.get_context("fork").Process(target=validate, args=(landed.resources, source_of(landed)))
    process.start()
    wait_until(lambda: attempts(landed)[1])
    wait_until(lambda: psutil.Process(process.pid).children())
    yield process, psutil.Process(process.pid).children()[0]
    process.kill()
    process.join()


def test_a_validation_told_to_stop_is_no_death(landed, at_work):
    process, validation = at_work
    validation.terminate()
    process.join(20)
    assert (process.exitcode, attempts(landed)) == (1, (1, 0))
    assert set(states(landed).values()) == {"landed"}


def test_a_killed_task_takes_its_validation_with_it_and_the_next_one_goes_on(landed, at_work, monkeypatch):
    process, validation = at_work
    process.kill()
    wait_until(lambda: not validation.is_running() or validation.status() == psutil.STATUS_ZOMBIE)
    monkeypatch.undo()
    wait_until(lambda: not landed.sql("SELECT FROM pg_locks WHERE locktype = 'advisory'"))
    assert validate(landed.resources, source_of(landed)) == {"accepted": 3, "quarantined": 0}


def test_a_batch_that_another_session_validates_is_left_to_it(landed):
    session = connect(landed.resources.database)
    (batch,) = [row for row in landed.rows("undecided_batches", source="sightings") if row.country == "FR"]
    assert batch_attempts.begin(session, batch, "elsewhere:1").attempt
    assert validate(landed.resources, source_of(landed)) == {"accepted": 2, "quarantined": 0}
    session.close()
    landed.sql("UPDATE batch_attempts SET finished_at = now()")
    assert validate(landed.resources, source_of(landed)) == {"accepted": 1, "quarantined": 0}


@pytest.mark.parametrize("state", ["accepted", "quarantined"])
def test_of_two_validations_at_once_the_second_leaves_the_decision_to_the_first(zoo, monkeypatch, state):
    zoo.see("France", range(3))
    execute(zoo.shop, "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (7, now(), 'France', 'inf', 1)")
    ingest.land(zoo.resources, source_of(zoo))
    conclude = step._conclude

    def after_another(bench, opened):
        zoo.sql("UPDATE batches SET state = %s, reason = 'by another one', report = '{\"findings\": []}'", state)
        conclude(bench, opened)

    monkeypatch.setattr(step, "_conclude", after_another)
    said = {"accepted": 0, "quarantined": 0, state: 1}
    assert validate(zoo.resources, source_of(zoo)) == said
    assert (states(zoo), reason(zoo)) == ({"FR 1": state}, "by another one")
    assert zoo.sql("SELECT FROM splits") == []


def test_a_time_limit_that_is_none_is_a_fault():
    (fault,) = Checks(time_limit=Seconds(0)).faults("here")
    assert "time_limit" in fault.what
