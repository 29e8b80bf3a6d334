"""Rule 1: once a cell has a champion it never has none, and never two."""

from dataclasses import replace

import pytest
from psycopg2 import errors
from toolbox import GB, champion, cycle, manifest, reader, releases, workers

from perennial.errors import ArtifactError, RegistryError
from perennial.shell.database import connect
from perennial.shell.lifeline import LOST
from perennial.shell.registry import champion_of
from perennial.steps import train as train_step
from perennial.steps.cell import Outcome

UNDO = """
INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason)
SELECT model, country, {seq}, {before}, {after}, 'undo', 'ann', 'oops' FROM releases WHERE seq = 1
"""


@pytest.fixture
def published(zoo):
    """A zoo whose one cell has a champion."""
    cycle(zoo)
    return zoo


def another(zoo):
    """New rows and a run that may fail: the outcome of weight/GB."""
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    run_id = zoo.plan()
    zoo.train(run_id)
    return zoo.outcomes(run_id)["weight/GB"]


@pytest.mark.parametrize(
    ("seq", "before", "after", "refusal"),
    [
        (1, "NULL", "to_version", (errors.CheckViolation, errors.UniqueViolation)),
        (2, "to_version", "NULL", (errors.NotNullViolation, errors.RestrictViolation)),
        (2, "NULL", "to_version", errors.CheckViolation),
        (3, "to_version", "to_version", errors.ForeignKeyViolation),
    ],
)
def test_a_first_release_cannot_be_undone(published, seq, before, after, refusal):
    with pytest.raises(refusal):
        published.sql(UNDO.format(seq=seq, before=before, after=after))
    assert len(releases(published)) == 1


def test_a_cell_cannot_begin_with_an_undo(zoo):
    zoo.sql("INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'ann', '')")
    cycle(zoo)
    with pytest.raises(errors.CheckViolation):
        zoo.sql(
            "INSERT INTO releases (model, country, seq, to_version, kind, person, reason) "
            "SELECT model, country, 1, id, 'undo', 'ann', 'oops' FROM versions"
        )


@pytest.mark.parametrize(
    "statement",
    ["UPDATE releases SET reason = ''", "DELETE FROM releases", "TRUNCATE releases CASCADE", "DELETE FROM versions",
     "UPDATE versions SET artifact_key = NULL, sha256 = NULL, size = NULL, served_until = NULL"],
)  # fmt: skip
def test_the_history_of_champions_is_append_only(published, statement):
    before = releases(published)
    with pytest.raises(errors.RestrictViolation):
        published.sql(statement)
    assert releases(published) == before


@pytest.mark.parametrize("lost", ["manifest", "judged"])
def test_a_champion_whose_artifact_is_missing_stays_in_force_until_another_one_follows(published, lost):
    keys = {"manifest": champion(published).artifact_key, "judged": manifest(published)["files"]["judged"]["key"]}
    (published.resources.store.root / keys[lost]).unlink()
    outcome = another(published)
    first, second = releases(published)
    assert (outcome.state, second.from_version) == ("published", first.to_version)
    assert outcome.reason.startswith("The champion, release 1, cannot be read: ")
    assert keys[lost] in outcome.reason


def test_a_champion_without_a_recorded_artifact_is_no_first_run(published):
    published.sql("ALTER TABLE versions DISABLE TRIGGER guard_version")
    published.sql("UPDATE versions SET artifact_key = NULL, sha256 = NULL, size = NULL, served_until = NULL")
    database = connect(published.resources.database)
    with pytest.raises(ArtifactError, match="has no artifact on record"):
        champion_of(database, GB)
    database.close()


def test_an_unreachable_registry_is_no_first_run(published):
    healthy = published.resources
    published.resources = replace(healthy, database="host=/nowhere")
    with pytest.raises(RegistryError, match="Perennial's database cannot be reached"):
        published.plan()
    published.resources = healthy
    assert len(releases(published)) == 1


def test_a_registry_that_cannot_be_read_is_no_first_run(published):
    published.see("Britain", range(60, 90))
    published.ingest()
    run_id = published.plan()
    published.sql("ALTER TABLE releases RENAME TO mislaid")
    with pytest.raises(RegistryError, match=r"cannot be read.*Was it migrated"):
        published.train(run_id)
    published.sql("ALTER TABLE mislaid RENAME TO releases")
    assert (published.outcomes(run_id)["weight/GB"].state, len(releases(published))) == ("pending", 1)


def test_a_registry_that_goes_away_in_mid_run_ends_the_training_and_nothing_is_lost(published, monkeypatch):
    original = train_step.train_cell

    def cut(job, timings) -> Outcome:
        published.sql("SELECT pg_terminate_backend(%s)", job.database.info.backend_pid)
        return original(job, timings)

    published.see("Britain", range(60, 90))
    published.ingest()
    run_id = published.plan()
    monkeypatch.setattr(train_step, "train_cell", cut)
    assert workers(published, run_id) == [LOST]
    monkeypatch.setattr(train_step, "train_cell", original)
    assert published.train(run_id) == {"published": 1}


def test_a_reader_keeps_an_answer_through_every_move(published):
    champions = reader(published)
    assert champions.load(*GB).seq == 1
    another(published)
    assert champions.load(*GB).seq == 2
