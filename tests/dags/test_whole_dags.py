"""Whole DAGs over a real database: what the states of runs and tasks say."""

import json
import mailbox
import socket
from dataclasses import replace

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from perennial import Checks, Limit, Owner
from perennial.catalog import RefusedSpec
from perennial.errors import Fault

TASKS = ("land", "validate", "announce", "document")  # of an ingest, before its report


@pytest.fixture
def two_countries(world):
    """A world with two months of sightings in Britain and France, taken in; one model."""
    world.keep("weight")
    for country in ("Britain", "France"):
        world.see(country, range(60))
    world.ingest()
    return world


def test_ingest_lands_validates_and_announces(world):
    world.see("Britain", range(3))
    assert world.ingest() == ("success", dict.fromkeys((*TASKS, "report"), "success"))


def test_ingest_without_new_rows_skips_its_tasks_and_is_no_failure(world):
    world.see("Britain", range(3))
    world.ingest()
    assert world.ingest() == ("success", {**dict.fromkeys(TASKS, "skipped"), "report": "success"})


def test_ingest_validates_what_an_interrupted_run_has_landed(world):
    from perennial.steps import validate

    world.see("Britain", range(3))
    with world.patch.context() as patch:
        patch.setattr(validate, "validate", lambda *_: None)
        assert world.ingest()[1]["announce"] == "skipped"
    state, tasks = world.ingest()
    assert (state, tasks.pop("land"), set(tasks.values())) == ("success", "skipped", {"success"})


def test_bad_data_of_a_country_is_kept_aside_and_no_failure(world):
    world.see("Britain", range(3))
    world.see("Atlantis", range(3))
    state, _ = world.ingest()
    found = dict(world.execute(world.perennial, "SELECT country, state FROM perennial.batches"))
    assert (state, found) == ("success", {"GB": "accepted", "ZZ": "quarantined"})


def test_retrain_publishes_the_first_models(two_countries):
    state, tasks = two_countries.retrain()
    assert state == "success"
    assert set(tasks.values()) == {"success"}
    assert two_countries.outcomes() == {"weight/GB": "published", "weight/FR": "published"}


def test_retrain_has_as_many_workers_as_the_fleet_says_and_no_more_than_cells(two_countries):
    _, tasks = two_countries.retrain(countries=["FR"])
    assert [key for key in tasks if "train" in key] == [("train", 0)]
    assert two_countries.outcomes() == {"weight/FR": "published"}


def test_a_run_without_a_due_cell_is_no_failure(two_countries):
    two_countries.retrain()
    state, tasks = two_countries.retrain()
    assert state == "success"
    assert tasks == {"plan": "success", "train": "skipped", "announce": "skipped", "report": "success"}


def test_a_dry_run_publishes_nothing(two_countries):
    state, tasks = two_countries.retrain(dry_run=True)
    assert (state, tasks["announce"]) == ("success", "skipped")
    assert set(two_countries.outcomes().values()) == {"skipped"}


def test_a_failing_cell_fails_the_run_and_the_report_names_it(two_countries, capsys):
    spoil = "ALTER TABLE perennial.batches DISABLE TRIGGER ALL; UPDATE perennial.batches SET sha256 = 'x' WHERE country = 'FR'"
    two_countries.execute(two_countries.perennial, spoil)
    state, tasks = two_countries.retrain()
    assert state == "failed"
    assert {name for name, task in tasks.items() if task != "success"} == {"report"}
    assert two_countries.outcomes() == {"weight/GB": "published", "weight/FR": "failed"}
    assert "1 of 2 cells of run" in (said := capsys.readouterr().out)
    assert "weight/FR: StoreError" in said


@pytest.fixture
def maildir(world, tmp_path):
    """Where a real SMTP server puts what comes through the connection perennial_mail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Controller(Mailbox(tmp_path / "mail"), hostname="127.0.0.1", port=port)
    server.start()
    extra = {"from": "perennial@example.com", "security": "none"}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    world.patch.setenv("AIRFLOW_CONN_PERENNIAL_MAIL", json.dumps(connection))
    yield mailbox.Maildir(tmp_path / "mail")
    server.stop()


def test_the_owner_is_told_with_the_page_of_the_run(two_countries, maildir):
    two_countries.patch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    two_countries.keep("weight", owner=Owner("keepers", alerts=("mailto://keepers@example.com",)), features=broken, attempts=1)
    assert two_countries.retrain()[0] == "failed"
    (letter,) = maildir.values()
    assert (letter["To"], letter["Subject"]) == ("keepers@example.com", "[zoo] 2 of 2 cells failed")
    text = letter.get_payload(decode=True).decode()
    assert "https://airflow.example.com/dags/retrain_zoo/runs/manual__" in text


def rangers(world):
    """Give the source's owner an address."""
    owner = Owner("rangers", alerts=("mailto://rangers@example.com",))
    source = replace(world.catalog.source("sightings"), owner=owner)
    world.catalog = replace(world.catalog, sources={"sightings": source})


def letters(maildir):
    """Subject and text of each letter, oldest first."""
    found = [(letter["Subject"], letter.get_payload(decode=True).decode()) for letter in maildir.values()]
    return [(subject, text.replace("\r\n", "\n")) for subject, text in found]


def test_the_owner_of_a_source_is_told_of_a_failed_ingest_once_and_once_that_it_works_again(world, maildir, capsys):
    world.patch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    rangers(world)
    world.execute(world.zoo, "ALTER TABLE sightings RENAME TO elsewhere")
    failed = dict.fromkeys(TASKS, "upstream_failed")
    for _ in range(2):
        assert world.ingest() == ("failed", {**failed, "land": "failed", "report": "failed"})
    assert (world.tries["land"], world.tries["report"]) == (1, 1)
    ((subject, text),) = letters(maildir)
    assert subject == "[source sightings] ingest failed"
    assert "- land: SourceMismatch: Source sightings is not as" in text
    assert "https://airflow.example.com/dags/ingest_sightings/runs/manual__" in text
    assert "IngestFailed: land: SourceMismatch: Source sightings is not as" in capsys.readouterr().out
    world.execute(world.zoo, "ALTER TABLE elsewhere RENAME TO sightings")
    world.see("Britain", range(3))
    assert world.ingest()[0] == "success"
    assert sorted(subject for subject, _ in letters(maildir)) == [
        "[source sightings] ingest failed",
        "[source sightings] over: ingest failed",
    ]


def test_an_ingest_without_its_store_is_told_too(world, maildir):
    rangers(world)
    world.patch.delenv("AIRFLOW_CONN_PERENNIAL_STORE")
    assert world.ingest()[0] == "failed"
    ((_, text),) = letters(maildir)
    assert "- land: SettingsError: Airflow has no connection perennial_store." in text


def test_an_ingest_that_is_killed_without_a_word_is_told_too(world, maildir):
    from airflow.sdk.exceptions import AirflowTaskTimeout

    def meets_its_limit(*_):
        raise AirflowTaskTimeout("Timeout")

    from perennial.steps import ingest

    rangers(world)
    world.patch.setattr(ingest, "land", meets_its_limit)
    assert world.ingest()[1]["report"] == "failed"
    ((_, text),) = letters(maildir)
    assert "- land: It was killed, or met its time limit, without a word. See its log." in text


def test_a_failed_validation_is_told_with_its_own_sentence(world, maildir):
    from perennial.steps import validate

    def broken_step(*_):
        raise RuntimeError("the suite is away")

    rangers(world)
    world.see("Britain", range(3))
    world.patch.setattr(validate, "validate", broken_step)
    state, tasks = world.ingest()
    assert (state, tasks["land"], tasks["validate"], tasks["report"]) == ("failed", "success", "failed", "failed")
    ((_, text),) = letters(maildir)
    assert "- validate: RuntimeError: the suite is away" in text


def test_a_held_batch_is_told_and_its_acceptance_by_the_quarantines_own_report(world, maildir):
    rangers(world)
    world.patch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com")
    flood = replace(world.catalog.source("sightings"), country_checks={"GB": Checks(volume=Limit(2.0, 2.5))})
    world.catalog = replace(world.catalog, sources={"sightings": flood})
    world.see("Britain", range(60))
    world.ingest()
    world.see("Britain", range(60, 90), per_day=60)
    assert world.ingest()[0] == "success"
    ((subject, text),) = letters(maildir)
    assert subject == "[source sightings] 1 batch held"
    assert "action look, country GB, batch 2" in " ".join(text.split())
    assert "https://airflow.example.com/perennial/data-docs/sightings/index.html" in text
    assert world.decide("accept", "GB", 2, "the zoo has grown")[1]["report"] == "success"
    ((_, text),) = [letter for letter in letters(maildir) if "over" in letter[0]]
    assert "country GB, batch 2, is accepted by dag_test (accept: the zoo has grown)" in " ".join(text.split())


def test_within_the_failure_limit_a_failing_cell_leaves_the_run_green(two_countries):
    specs = two_countries.fleet
    lenient = replace(specs, fleet=replace(specs.fleet, failure_limit=1.0))
    two_countries.catalog = replace(two_countries.catalog, fleets={"zoo": lenient})
    two_countries.keep("weight", features=broken, attempts=1)
    assert two_countries.retrain()[0] == "success"
    assert set(two_countries.outcomes().values()) == {"failed"}


ABANDONED = """
INSERT INTO perennial.runs (id, fleet, requested, as_of) VALUES ('zoo/gone', 'zoo', '{"dry_run": false}', '{}'),
                                                                ('try/weight/GB/1', 'zoo', '{"dry_run": true}', '{}');
INSERT INTO perennial.outcomes (run_id, model, country, source, cost) VALUES ('zoo/gone', 'weight', 'GB', 'sightings', 1)
"""


def test_a_run_that_airflow_does_not_know_any_more_is_closed_by_the_next_report(two_countries):
    two_countries.execute(two_countries.perennial, ABANDONED)
    assert two_countries.retrain()[0] == "success"
    left = "SELECT id FROM perennial.runs WHERE finished_at IS NULL"
    assert two_countries.execute(two_countries.perennial, left) == [("try/weight/GB/1",)]
    how = "SELECT state, reason FROM perennial.outcomes WHERE run_id = 'zoo/gone'"
    ((state, reason),) = two_countries.execute(two_countries.perennial, how)
    assert (state, reason.startswith("Its run is over")) == ("failed", True)


def test_a_run_that_airflow_is_at_is_not_over(two_countries):
    two_countries.patch.setattr("perennial_airflow.dags.scheduler_of", asked := Asked())
    two_countries.retrain()
    assert asked.answers == [False, True]


class Asked:
    """Asks whether the run of the task is over, and one that is not there."""

    def __call__(self, fleet, task):
        from perennial_airflow.border import scheduler_of

        scheduler = scheduler_of(fleet, task)
        self.answers = [scheduler.is_over(f"{fleet}/{run_id}") for run_id in (task.run_id, "gone")]
        return scheduler


def broken(examples):
    raise ValueError("no features today")


def test_a_refused_model_fails_its_cells_and_no_others(two_countries):
    specs = two_countries.fleet
    fault = Fault(where="height.py:1", what="the spec is wrong", fix="Mend it.")
    refused = RefusedSpec(name="height", countries=("GB",), faults=(fault,))
    two_countries.catalog = replace(two_countries.catalog, fleets={"zoo": replace(specs, refused={"height": refused})})
    assert two_countries.retrain()[0] == "failed"
    assert two_countries.outcomes() == {"weight/GB": "published", "weight/FR": "published", "height/GB": "failed"}


def test_small_batches_are_put_together_beside_another_run_that_is_not_waited_for(world):
    from perennial.core import compaction
    from perennial.shell.database import connect, fetch_one

    world.patch.setattr(compaction, "LEAST", 2)
    for day in range(3):
        world.see("Britain", range(day, day + 1))
        world.ingest()
    busy = connect(world.perennial)
    assert fetch_one(busy, "lock_compacting").locked
    assert world.compact() == ("success", {"compact": "skipped"})
    fetch_one(busy, "unlock_compacting")
    busy.close()
    assert world.compact() == ("success", {"compact": "success"})
    assert world.execute(world.perennial, "SELECT first_seq, last_seq FROM perennial.compactions") == [(1, 3)]


def test_a_plan_that_fails_is_tried_again_and_then_fails_the_run(world):
    world.patch.setenv("AIRFLOW_CONN_PERENNIAL_DB", '{"conn_type": "postgres", "host": "/nowhere", "schema": "perennial"}')
    state, tasks = world.retrain()
    assert state == "failed"
    assert (tasks["plan"], tasks["train"], tasks["report"]) == ("failed", "upstream_failed", "failed")
    assert (world.tries["plan"], world.tries["report"]) == (2, 2)


def test_a_missing_connection_fails_without_a_retry_and_is_named(world, capsys):
    world.patch.delenv("AIRFLOW_CONN_PERENNIAL_STORE")
    state, tasks = world.ingest()
    assert (state, tasks["land"], world.tries["land"]) == ("failed", "failed", 1)
    assert "Airflow has no connection perennial_store" in capsys.readouterr().out


def test_a_request_outside_the_matrix_fails_the_plan_without_a_retry(world, maildir, capsys):
    owner = Owner("keepers", alerts=("mailto://keepers@example.com",))
    specs = world.fleet
    fleet = replace(specs.fleet, owner=owner)
    world.catalog = replace(world.catalog, fleets={"zoo": replace(specs, fleet=fleet)})
    weight = world.fleet.models["weight"]
    models = {"weight": weight, "height": replace(weight, name="height", countries=("FR",))}
    world.catalog = replace(world.catalog, fleets={"zoo": replace(world.fleet, models=models)})
    state, tasks = world.retrain(models=["height"], countries=["GB"])
    assert (state, tasks["plan"], tasks["report"]) == ("failed", "failed", "failed")
    assert world.tries["plan"] == 1
    why = "RequestError: None of these models has any of these countries in fleet zoo."
    assert f"its plan task failed. {why}" in capsys.readouterr().out
    (letter,) = maildir.values()
    assert f"Why:\n- {why}" in letter.get_payload(decode=True).decode()


@pytest.mark.parametrize("conf", [{"countries": ["XX"]}, {"models": ["nothing"]}, {"countries": "GB"}, {"force": "yes"}])
def test_a_request_that_the_form_does_not_offer_makes_no_run(world, conf):
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        world.retrain(**conf)
