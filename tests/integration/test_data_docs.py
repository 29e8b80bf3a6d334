"""Data Docs: every decided batch has a page, the index leads to it, and neither ever changes a decision."""

import logging
import re
from contextlib import closing
from datetime import timedelta

import pytest
from psycopg2 import errors
from toolbox import edit_source, execute

from perennial import Checks
from perennial.core import data_docs
from perennial.errors import NothingToDo, ObjectMissing, RegistryError, StoreError
from perennial.pages import index_key, page_key
from perennial.shell.database import connect
from perennial.shell.store import open_store
from perennial.steps import document as step
from perennial.steps.audit import audit
from perennial.steps.document import document, expire
from perennial.steps.quarantine import accept_batch, retract_batch

ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, %s, %s, %s, %s)"
SOURCE = "sightings"


@pytest.fixture(params=["file", "s3"])
def documented(request, zoo, tmp_path):
    """A zoo on each kind of store: France is held, Britain has a rejected row, and all is documented."""
    if request.param == "s3":
        options = request.getfixturevalue("s3")
        object.__setattr__(zoo.resources, "store", open_store(f"s3://bucket/{tmp_path.name}", options))
    return landed(zoo, document=True)


def landed(zoo, *, document=False):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3), noise=5000)
    execute(zoo.shop, ROW, 7001, "2099-01-05", "Britain", 1, 2)
    zoo.ingest()
    if document:
        assert step.document(zoo.resources, SOURCE) == {"pages": 2, "failed": 0}
    return zoo


def pages(zoo):
    return {row.country: row.page for row in zoo.sql("SELECT country, page FROM batches")}


def read(zoo, key):
    return zoo.resources.store.get(key).decode()


def links(zoo):
    return re.findall(r'href="([^"]+)"', read(zoo, index_key(SOURCE)))


def aged(zoo, days):
    """Let every decision, and the page of it, be of some days before."""
    zoo.sql("SET session_replication_role = replica; UPDATE batches SET decided_at = decided_at - %s, "
            "documented_at = documented_at - %s", timedelta(days=days), timedelta(days=days))  # fmt: skip


def test_every_decided_batch_has_a_page_on_its_row_and_in_the_index(documented):
    assert pages(documented) == {"GB": page_key(SOURCE, "GB", 1), "FR": page_key(SOURCE, "FR", 1)}
    britain, france = (read(documented, page_key(SOURCE, country, 1)) for country in ("GB", "FR"))
    assert "2099-01-05" in britain
    assert "Kept aside in" in britain
    assert 'class="state quarantined"' in france
    assert links(documented) == ["FR/1.html", "GB/1.html"]  # held ones first


def test_documenting_again_has_nothing_to_do(documented):
    with pytest.raises(NothingToDo, match="Every decided batch of sightings has its page"):
        document(documented.resources, SOURCE)


def test_a_decision_of_a_person_makes_the_page_due_again(documented):
    accept_batch(documented.resources, SOURCE, "FR", 1, "ann", "the scale was new")
    retract_batch(documented.resources, SOURCE, "GB", 1, "ann", "the scale was broken")
    assert document(documented.resources, SOURCE) == {"pages": 2, "failed": 0}
    assert "Accepted by ann: the scale was new" in read(documented, page_key(SOURCE, "FR", 1))
    assert "Retracted by ann: the scale was broken" in read(documented, index_key(SOURCE))


def test_a_page_that_cannot_be_made_changes_no_decision_and_is_made_the_next_time(zoo, monkeypatch, caplog):
    landed(zoo)
    decided = zoo.sql("SELECT country, state, reason, report, decided_at FROM batches ORDER BY country")
    make = data_docs.batch_page

    def failing(batch):
        if batch.country == "FR":
            raise ValueError("no such renderer")
        return make(batch)

    with monkeypatch.context() as patch:
        patch.setattr(data_docs, "batch_page", failing)
        assert document(zoo.resources, SOURCE) == {"pages": 1, "failed": 1}
    assert "The page of sightings/FR batch 1 could not be made" in caplog.text
    assert "no such renderer" in caplog.text
    assert (pages(zoo)["FR"], links(zoo)) == (None, ["GB/1.html"])
    assert zoo.sql("SELECT country, state, reason, report, decided_at FROM batches ORDER BY country") == decided
    assert document(zoo.resources, SOURCE) == {"pages": 1, "failed": 0}
    assert links(zoo) == ["FR/1.html", "GB/1.html"]
    assert audit(zoo.resources, zoo.catalog) == []


def test_a_store_that_is_away_changes_no_decision_and_leaves_all_pages_to_the_next_try(zoo, monkeypatch):
    landed(zoo)

    def away(key, data):
        raise StoreError("the store cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(zoo.resources.store, "put", away)
        with pytest.raises(StoreError):
            document(zoo.resources, SOURCE)
    assert {row.state for row in zoo.sql("SELECT state FROM batches")} == {"accepted", "quarantined"}
    assert document(zoo.resources, SOURCE) == {"pages": 2, "failed": 0}


def test_a_batch_decided_while_its_page_is_made_stays_due(zoo, monkeypatch):
    landed(zoo)
    make = data_docs.batch_page

    def slow(batch):
        if batch.country == "FR":
            accept_batch(zoo.resources, SOURCE, "FR", 1, "ann", "meanwhile")
        return make(batch)

    with monkeypatch.context() as patch:
        patch.setattr(data_docs, "batch_page", slow)
        document(zoo.resources, SOURCE)
    assert pages(zoo)["FR"] is None
    assert document(zoo.resources, SOURCE) == {"pages": 1, "failed": 0}
    assert "Accepted by ann: meanwhile" in read(zoo, page_key(SOURCE, "FR", 1))


def test_old_pages_are_deleted_but_for_held_batches_and_results_stay(documented):
    aged(documented, 31)
    reports = documented.sql("SELECT report FROM batches ORDER BY country")
    assert expire(documented.resources, [SOURCE], 30) == 1
    assert pages(documented) == {"GB": None, "FR": page_key(SOURCE, "FR", 1)}
    assert links(documented) == ["FR/1.html"]
    with pytest.raises(ObjectMissing):
        read(documented, page_key(SOURCE, "GB", 1))
    assert documented.sql("SELECT report FROM batches ORDER BY country") == reports
    assert expire(documented.resources, [SOURCE], 30) == 0
    with pytest.raises(NothingToDo):
        document(documented.resources, SOURCE)


def test_young_pages_stay(documented):
    aged(documented, 29)
    assert expire(documented.resources, [SOURCE], 30) == 0
    assert len(links(documented)) == 2


def test_a_run_deletes_so_many_pages_and_the_next_one_goes_on(zoo, monkeypatch):
    for day in range(3):
        zoo.see("Britain", range(day, day + 1))
        zoo.ingest()
    document(zoo.resources, SOURCE)
    aged(zoo, 31)
    monkeypatch.setattr(step, "EXPIRING", 2)
    assert [expire(zoo.resources, [SOURCE], 30) for _ in range(3)] == [2, 1, 0]


def test_the_index_lists_a_countrys_newest_batches_and_every_held_one(zoo, monkeypatch):
    edit_source(zoo, checks=Checks())
    zoo.see("Britain", range(3), noise=5000)
    zoo.ingest()
    for day in range(3, 6):
        zoo.see("Britain", range(day, day + 1))
        zoo.ingest()
    monkeypatch.setattr(step, "LISTED", 2)
    document(zoo.resources, SOURCE)
    assert links(zoo) == ["GB/1.html", "GB/4.html", "GB/3.html"]


@pytest.mark.parametrize("change", ["state = 'retracted'", "reason = 'x'", "object_key = 'x'"])
def test_a_page_is_never_noted_together_with_another_change(documented, change):
    with pytest.raises(errors.RestrictViolation):
        documented.sql(f"UPDATE batches SET page = 'x', {change} WHERE country = 'GB'")


def test_what_was_landed_is_guarded_as_before(documented):
    with pytest.raises(errors.RestrictViolation, match="immutable once landed"):
        documented.sql("UPDATE batches SET rows = 1")


@pytest.fixture
def log(tmp_path):
    """What this process and its children log."""
    handler, root = logging.FileHandler(tmp_path / "log"), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield tmp_path / "log"
    root.removeHandler(handler)
    root.setLevel(level)


def test_the_log_of_validate_names_the_page_of_each_batch_with_findings(zoo, log):
    object.__setattr__(zoo.resources, "pages", "http://airflow/perennial/data-docs")
    zoo.see("Germany", range(3))
    landed(zoo)
    named = re.findall(r"Data Docs: (\S+)", log.read_text())
    assert sorted(named) == [f"http://airflow/perennial/data-docs/sightings/{country}/1.html" for country in ("FR", "GB")]


def test_only_one_writes_an_index_at_a_time(documented):
    with closing(connect(documented.resources.database)) as other, closing(connect(documented.resources.database)) as own:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended('perennial data docs ' || %s, 0))", (SOURCE,))
        with own.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
        with pytest.raises(RegistryError, match="lock timeout"):
            step.write_index(documented.resources, own, SOURCE)
