"""Rule 8: re-running anything is harmless."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from toolbox import GB, cycle, reader, releases

from perennial.errors import NothingToDo
from perennial.shell.database import migrate
from perennial.steps import ingest, pointers, validate
from perennial.steps.manifests import pointer_key
from perennial.steps.plan import Request, plan
from perennial.steps.pointers import repair_pointers
from perennial.steps.report import announce, report

TABLES = ("cursors", "batches", "snapshots", "recipes", "versions", "verdicts", "releases", "runs", "outcomes", "attempts")


def content(zoo):
    """Everything the registry and the ledger hold."""
    return {table: sorted(map(str, zoo.sql(f"SELECT * FROM {table}"))) for table in TABLES}


def announced(zoo):
    return announce(zoo.resources, zoo.catalog, "zoo")


@pytest.fixture
def ended(zoo):
    """A zoo after one whole run, named zoo/run-1."""
    cycle(zoo)
    return zoo


def test_planning_a_run_again_changes_nothing(ended):
    before = content(ended)
    again = plan(ended.resources, ended.catalog, "zoo", "zoo/run-1", Request(force=True))
    assert (again.cells, again.workers, content(ended)) == (0, 0, before)


def test_planning_again_before_training_finds_the_same_plan(zoo):
    zoo.see("Britain", range(60))
    zoo.ingest()
    zoo.plan()
    before = content(zoo)
    zoo.see("France", range(60))
    zoo.ingest()
    assert plan(zoo.resources, zoo.catalog, "zoo", "zoo/run-1", Request()).cells == 1
    assert content(zoo)["outcomes"] == before["outcomes"]


def test_training_a_run_again_changes_nothing(ended):
    before, objects = content(ended), ended.resources.store.keys("")
    assert ended.train("zoo/run-1") == {}
    assert (content(ended), ended.resources.store.keys("")) == (before, objects)


def test_reporting_a_run_again_changes_nothing(ended):
    before = content(ended)
    assert report(ended.resources, ended.catalog, "zoo/run-1") == {"published": 1}
    assert content(ended) == before


def test_retraining_on_the_same_rows_moves_nothing(ended):
    assert ended.retrain() == {}
    assert ended.retrain(force=True)["weight/GB"].state == "skipped"
    assert len(releases(ended)) == 1


def test_validating_again_decides_nothing_again(ended):
    before = content(ended)
    with pytest.raises(NothingToDo):
        validate.validate(ended.resources, ended.catalog.source("sightings"))
    assert content(ended) == before


def test_migrating_again_applies_nothing(ended):
    before = content(ended)
    assert migrate(ended.resources.database) == []
    assert content(ended) == before


def test_racing_migrations_apply_each_once(new_database):
    dsn = new_database(None)
    with ThreadPoolExecutor(4) as race:
        applied = [name for names in race.map(migrate, [dsn] * 4) for name in names]
    assert applied == sorted(set(applied)) != []


def test_accepted_batches_are_announced_once(ended):
    source = ended.catalog.source("sightings")
    assert ingest.announce(ended.resources, source) == ["GB/1"]
    with pytest.raises(NothingToDo):
        ingest.announce(ended.resources, source)


def test_releases_are_announced_once(ended):
    assert announced(ended) == ["weight/GB/1"]
    with pytest.raises(NothingToDo):
        announced(ended)
    cycle(ended, range(60, 90))
    assert announced(ended) == ["weight/GB/2"]


def damaged(zoo, damage, before):
    """GB's pointer after its second release and something else: lost, left at the first, or altered."""
    store, old = zoo.resources.store, zoo.resources.store.get(pointer_key(GB))
    cycle(zoo, range(60, 90))
    before()
    (store.root / pointer_key(GB)).unlink()
    if damage != "lost":
        store.put(pointer_key(GB), old if damage == "lagging" else old.replace(b"GB", b"FR"))


@pytest.mark.parametrize("damage", ["lost", "lagging", "altered"])
def test_a_pointer_is_in_step_before_its_release_is_announced(ended, damage):
    damaged(ended, damage, lambda: None)
    announced(ended)
    assert reader(ended).load(*GB).seq == 2


@pytest.mark.parametrize("damage", ["lost", "lagging", "altered"])
def test_a_pointer_that_is_damaged_later_is_repaired_by_the_daily_look_at_all(ended, damage):
    damaged(ended, damage, lambda: announced(ended))
    with pytest.raises(NothingToDo):
        announced(ended)
    assert repair_pointers(ended.resources, ended.catalog) == 1
    assert reader(ended).load(*GB).seq == 2
    assert repair_pointers(ended.resources, ended.catalog) == 0


def test_a_pointer_is_not_set_back_when_a_release_is_made_during_its_repair(ended, monkeypatch):
    (ended.resources.store.root / pointer_key(GB)).unlink()
    write = pointers.put_pointer

    def slow(*given):
        monkeypatch.setattr(pointers, "put_pointer", write)
        cycle(ended, range(60, 90))
        write(*given)

    monkeypatch.setattr(pointers, "put_pointer", slow)
    repair_pointers(ended.resources, ended.catalog)
    assert (len(releases(ended)), reader(ended).load(*GB).seq) == (2, 2)


def test_a_pointer_in_step_is_not_written_again(ended):
    path = ended.resources.store.root / pointer_key(GB)
    before = path.stat().st_mtime_ns
    announced(ended)
    assert path.stat().st_mtime_ns == before
