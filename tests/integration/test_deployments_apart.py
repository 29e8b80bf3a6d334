"""Pointers name their deployment and its registry's generation: another's objects and a lost past are not followed."""

import shutil
import threading

import pytest
from toolbox import GB, TABLE, champion, cycle, execute, overwrite, predict, reader, releases

from perennial.cell import Cell
from perennial.client import Champions
from perennial.core import artifacts
from perennial.errors import ArtifactError
from perennial.shell.keys import read_private_key
from perennial.steps import manifests
from perennial.steps.audit import audit
from perennial.steps.manifests import pointer_key
from perennial.steps.pointers import begin_generation, repair_pointers

FR = Cell("weight", "FR")


@pytest.fixture
def published(zoo):
    """A zoo whose one cell has a champion."""
    cycle(zoo)
    return zoo


@pytest.fixture
def staging(open_zoo, new_database, tmp_path):
    """Another deployment with the same keys, whose champion is further and says something else."""
    zoo = open_zoo(new_database(None), new_database(), tmp_path / "staging")
    execute(zoo.shop, TABLE)
    zoo.sql("INSERT INTO generations (number, reason) SELECT max(number) + 1, 'another one' FROM generations")
    zoo.see("Britain", range(60), slope=-14)
    zoo.ingest()
    zoo.retrain()
    return zoo


def copy_over(staging, production):
    for folder in ("artifacts", "pointers"):
        shutil.copytree(
            staging.resources.store.root / folder,
            production.resources.store.root / folder,
            dirs_exist_ok=True,
        )


def restore(zoo, seq):
    """Take the registry back to a backup, behind its guards; what is in the store stays."""
    tables = ("releases", "announcements", "outcomes", "attempts", "runs")
    for table in tables:
        zoo.sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    zoo.sql("DELETE FROM announcements")
    zoo.sql("DELETE FROM attempts WHERE run_id IN (SELECT run_id FROM releases WHERE seq > %s)", seq)
    zoo.sql("DELETE FROM outcomes WHERE run_id IN (SELECT run_id FROM releases WHERE seq > %s)", seq)
    zoo.sql("DELETE FROM releases WHERE seq > %s", seq)
    for table in tables:
        zoo.sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def pinned(zoo, **given):
    return Champions.from_url(zoo.resources.store.url, zoo.resources.public_keys, **given)


def deployment(zoo):
    return zoo.rows("deployment_of")[0].deployment


def in_format_1(zoo, cell=GB):
    """Write a cell's pointer as it was before deployments had names."""
    payload = artifacts.json.loads(zoo.resources.store.get(pointer_key(cell)).partition(b"\n")[2])
    old = {name: value for name, value in payload.items() if name not in ("deployment", "generation")}
    key = read_private_key(zoo.resources.signing_key)
    overwrite(zoo, pointer_key(cell), artifacts.sign({**old, "format": 1}, key))


def test_another_deployments_objects_are_refused_by_a_running_reader_and_healed_by_repair(published, staging):
    champions = reader(published)
    assert predict(champions.load(*GB).estimator, 5) == pytest.approx(10, abs=0.5)
    copy_over(staging, published)
    with pytest.raises(ArtifactError, match="this reader follows"):
        champions.load(*GB)
    assert [each.rule for each in audit(published.resources, published.catalog)] == [9]
    assert repair_pointers(published.resources, published.catalog) == 1
    assert predict(champions.load(*GB).estimator, 5) == pytest.approx(10, abs=0.5)


def test_two_registries_that_write_to_one_store_are_named_in_the_log(published, staging, caplog):
    copy_over(staging, published)
    repair_pointers(published.resources, published.catalog)
    assert f"was of deployment {deployment(staging)}, this is {deployment(published)}" in caplog.text


def test_a_new_reader_that_is_given_its_deployment_refuses_anothers(published, staging):
    champions = pinned(published, deployment=deployment(published))
    copy_over(staging, published)
    with pytest.raises(ArtifactError, match="is of deployment"):
        champions.load(*GB)


def test_a_pointer_of_this_deployment_to_anothers_manifest_is_refused(published, staging):
    copy_over(staging, published)
    other, payload = (
        champion(staging),
        artifacts.json.loads(published.resources.store.get(pointer_key(GB)).partition(b"\n")[2]),
    )
    payload |= {"deployment": deployment(published)}
    key = read_private_key(published.resources.signing_key)
    published.resources.store.put(pointer_key(GB), artifacts.sign(payload, key))
    assert payload["version"] == other.id
    with pytest.raises(ArtifactError, match="The manifest of weight/GB is of deployment"):
        reader(published).load(*GB)


def test_a_release_that_a_restored_registry_has_lost_is_taken_back_from_readers(published):
    cycle(published, range(60, 90))
    champions = reader(published)
    assert champions.load(*GB).seq == 2
    restore(published, 1)
    assert audit(published.resources, published.catalog)[0].rule == 2
    assert repair_pointers(published.resources, published.catalog) == 1
    assert (champions.load(*GB).seq, champions.load(*GB).version) == (1, champion(published).id)


def test_a_second_release_of_one_number_is_told_from_the_lost_one(published):
    cycle(published, range(60, 90))
    champions = reader(published)
    lost = champions.load(*GB)
    restore(published, 1)
    assert cycle(published, range(90, 120)).state == "published"
    assert [each.seq for each in releases(published)] == [1, 2]
    living, fresh = champions.load(*GB), reader(published).load(*GB)
    assert (living.version, living.mark) == (fresh.version, fresh.mark)
    assert living.mark > lost.mark
    assert living.version == champion(published).id


def test_another_version_under_a_number_that_was_seen_is_refused(published):
    cycle(published, range(60, 90))
    champions, store = reader(published), published.resources.store
    champions.load(*GB)
    payload = artifacts.json.loads(store.get(pointer_key(GB)).partition(b"\n")[2])
    key = read_private_key(published.resources.signing_key)
    overwrite(
        published,
        pointer_key(GB),
        artifacts.sign({**payload, "version": releases(published)[0].to_version}, key),
    )
    with pytest.raises(ArtifactError, match="The registry was restored"):
        champions.load(*GB)


def test_a_person_lets_a_restored_registry_count_and_no_two_lives_share_a_generation(published):
    cycle(published, range(60, 90))
    champions = reader(published)
    champions.load(*GB)
    restore(published, 1)
    first, number = begin_generation(published.resources, published.catalog, "restored from Monday's backup")
    second, again = begin_generation(published.resources, published.catalog, "and once more")
    assert (number, again, champions.load(*GB).seq) == (1, 1, 1)
    assert first.generation < second.generation
    assert first.id == second.id


def test_a_copied_registry_gets_a_name_of_its_own(published):
    before = deployment(published)
    made, _ = begin_generation(published.resources, published.catalog, "a copy for staging", is_copy=True)
    assert made.id == deployment(published) != before


def test_a_later_generation_in_the_store_is_one_that_the_registry_has_lost(published):
    begin_generation(published.resources, published.catalog, "the first restore")
    champions = reader(published)
    mark = champions.load(*GB).mark
    published.sql("ALTER TABLE generations DISABLE TRIGGER USER")
    published.sql("DELETE FROM generations WHERE number = %s", mark.generation)
    assert audit(published.resources, published.catalog)[0].rule == 2
    repair_pointers(published.resources, published.catalog)
    assert champions.load(*GB).mark.generation > mark.generation


def test_a_repair_in_a_sound_world_raises_no_generation(published):
    before = published.rows("deployment_of")
    cycle(published, range(60, 90))
    (published.resources.store.root / pointer_key(GB)).unlink()
    assert repair_pointers(published.resources, published.catalog) == 1
    assert published.rows("deployment_of") == before


def test_a_pointer_of_before_deployments_is_believed_until_it_is_written_again(published):
    in_format_1(published)
    champions = reader(published)
    assert champions.load(*GB).mark == (0, 1)
    assert audit(published.resources, published.catalog) == []
    with pytest.raises(ArtifactError, match="names no deployment"):
        pinned(published, deployment=deployment(published)).load(*GB)
    assert repair_pointers(published.resources, published.catalog) == 1
    assert champions.load(*GB).mark.generation > 0
    in_format_1(published)
    with pytest.raises(ArtifactError, match="It was put back"):
        champions.load(*GB)


def test_a_reader_takes_the_least_release_that_it_is_to_believe(published):
    before = published.resources.store.get(pointer_key(GB))
    cycle(published, range(60, 90))
    mark = reader(published).load(*GB).mark
    overwrite(published, pointer_key(GB), before)
    assert pinned(published).load(*GB).seq == 1
    with pytest.raises(ArtifactError, match="names release 1, but 2 has been seen"):
        pinned(published, at_least={GB: mark}).load(*GB)


def test_a_slow_thread_does_not_take_back_what_a_quick_one_has_seen(published, monkeypatch):
    store, champions = published.resources.store, reader(published)
    old = store.get(pointer_key(GB))
    waiting, let_go, load = threading.Event(), threading.Event(), manifests.load_fit

    def slow(*given):
        if threading.current_thread() is not threading.main_thread():
            waiting.set()
            let_go.wait(30)
        return load(*given)

    monkeypatch.setattr("perennial.client.load_fit", slow)
    thread = threading.Thread(target=champions.load, args=GB)
    thread.start()
    waiting.wait(30)
    cycle(published, range(60, 90))
    assert champions.load(*GB).seq == 2
    let_go.set()
    thread.join()
    overwrite(published, pointer_key(GB), old)
    with pytest.raises(ArtifactError, match="has been seen"):
        champions.load(*GB)
    store.put(pointer_key(GB), old)
    assert champions.loaded[GB].seq == 2
