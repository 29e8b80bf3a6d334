"""The audit: a healthy world breaks no rule, and each way of breaking one behind Perennial's back is found, as that rule's."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from toolbox import GB, TABLE, champion, execute, held_lock, manifest, point_at, releases

from perennial.__main__ import main
from perennial.cell import Cell
from perennial.core import artifacts, compaction
from perennial.errors import SettingsError
from perennial.shell.database import connect, migrate
from perennial.shell.keys import read_private_key
from perennial.shell.lake import open_batch
from perennial.steps.audit import RULES, audit, examine
from perennial.steps.compact import compact
from perennial.steps.manifests import pointer_key
from perennial.steps.report import announce

FR = Cell("weight", "FR")
ROLLBACK = """
INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason)
SELECT model, country, seq + 1, to_version, from_version, 'rollback', 'ann', 'worse than it looked'
FROM releases WHERE (country, seq) = ('GB', 2)
"""
HOLD = "INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'ann', 'rolled back')"


@pytest.fixture(scope="module")
def healthy(postgres, open_zoo, tmp_path_factory):
    """Two countries with two releases, one of them rolled back; one country in quarantine. Copied for each test."""
    store = tmp_path_factory.mktemp("healthy")
    for name in ("healthy", "healthy_shop"):
        execute(postgres.dsn("postgres"), f"CREATE DATABASE {name}")
    world = open_zoo(postgres.dsn("healthy_shop"), postgres.dsn("healthy"), store)
    migrate(world.resources.database)
    execute(world.shop, TABLE)
    for days in (range(60), range(60, 90)):
        world.see("Britain", days)
        world.see("France", days)
        world.see("Germany", days, per_day=2, slope=1e6)
        world.ingest()
        world.retrain()
    world.sql(HOLD)
    world.sql(ROLLBACK)
    announce(world.resources, world.catalog, "zoo")
    return store


@pytest.fixture
def world(healthy, postgres, open_zoo, tmp_path):
    """A copy of the healthy world, to be broken."""
    for name in ("broken", "broken_shop"):
        template = name.replace("broken", "healthy")
        execute(postgres.dsn("postgres"), f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    shutil.copytree(healthy, tmp_path / "store")
    yield open_zoo(postgres.dsn("broken_shop"), postgres.dsn("broken"), tmp_path / "store", first=100_000)
    for name in ("broken", "broken_shop"):
        execute(postgres.dsn("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def behind(world, *statements):
    """Run statements with triggers and foreign keys switched off."""
    for statement in statements:
        world.sql(f"SET session_replication_role = replica; {statement}")


def forget(world, table, constraint):
    """Take a constraint away."""
    world.sql(f"ALTER TABLE {table} DROP CONSTRAINT {constraint} CASCADE")


def broken(world, **options):
    """The rules that the audit finds broken."""
    found = audit(world.resources, world.catalog, **options)
    assert all(violation.what and violation.where for violation in found)
    return {violation.rule for violation in found}


def test_a_healthy_world_breaks_no_rule(world):
    findings = examine(world.resources, world.catalog, deep=True)
    assert (findings.violations, findings.unseen) == ([], [])
    assert {name: findings.seen[name] for name in ("releases", "cells", "by_hand", "artifacts", "pointers", "loaded")} == {
        "releases": 5, "cells": 2, "by_hand": 1, "artifacts": 4, "pointers": 2, "loaded": 4,
    }  # fmt: skip
    assert findings.seen["rows"] == findings.seen["compared"] == 2 * 90 * 20 + 90 * 2
    assert len(findings.lines()) == len(RULES) == 11


def test_an_empty_world_breaks_no_rule(zoo):
    assert audit(zoo.resources, zoo.catalog) == []


def test_a_world_at_work_breaks_no_rule(world):
    world.see("Britain", range(90, 120))
    world.see("France", range(90, 120))
    assert broken(world) == set()
    world.ingest()
    world.see("France", range(120, 121))
    world.plan()
    assert broken(world) == set()


def last_of(cell, column):
    return f"(SELECT {column} FROM releases WHERE country = '{cell.country}' ORDER BY seq DESC LIMIT 1)"


ROWS = {
    "a release is gone": ({1, 10}, "DELETE FROM releases WHERE (country, seq) = ('GB', 2)"),
    "the last release is gone": ({1, 2}, "DELETE FROM releases WHERE (country, seq) = ('GB', 3)"),
    "a release does not continue the chain": (
        1, "UPDATE releases SET from_version = to_version WHERE (country, seq) = ('GB', 2)"
    ),
    "a champion has no artifact on record": (
        1, "UPDATE versions SET artifact_key = NULL, sha256 = NULL, size = NULL, served_until = NULL "
        f"WHERE id = {last_of(FR, 'to_version')}",
    ),
    "a snapshot is gone": (2, "DELETE FROM snapshots"),
    "a recipe is gone": (2, "DELETE FROM recipes"),
    "an attempt has no plan": (
        2, "INSERT INTO attempts (run_id, model, country, attempt, worker) VALUES ('zoo/run-2', 'weight', 'ES', 1, 'x')"
    ),
    "a promotion was none": (
        3, "UPDATE verdicts SET decision = 'keep' WHERE (country, against_seq) = ('FR', 1)"
    ),
    "a release's verdict is of another release": (
        3, "UPDATE verdicts SET against_seq = 0 WHERE (country, against_seq) = ('FR', 1)"
    ),
    "a release's verdict is of another version": (
        3, "UPDATE verdicts SET challenger = (SELECT to_version FROM releases WHERE (country, seq) = ('FR', 1)) "
        "WHERE (country, against_seq) = ('FR', 1)",
    ),
    "a verdict is against a release that is not there": (
        3, "INSERT INTO verdicts (challenger, model, country, against_seq, window_start, window_end, as_of, rows, clusters, "
        "decision, gates, reason) SELECT challenger, model, country, 9, window_start, window_end, as_of, rows, clusters, "
        "'keep', gates, reason FROM verdicts WHERE against_seq = 1",
    ),
    "a rollback names nobody": (3, "UPDATE releases SET person = '' WHERE kind = 'rollback'"),
    "a challenger has learned from the span": (
        4, f"UPDATE versions SET judged_until = served_until WHERE id = {last_of(FR, 'to_version')}"
    ),
    "a champion has learned from the span": (
        4, f"UPDATE versions SET judged_until = served_until WHERE id = {last_of(FR, 'from_version')}"
    ),
    "a span ends after as_of": (4, "UPDATE verdicts SET window_end = as_of + interval '1 day' WHERE country = 'FR'"),
    "a gate failed": (
        4, """UPDATE verdicts SET gates = gates || '[{"gate": "new", "value": 1, "bound": 2, "passed": false}]'
        WHERE against_seq = 1""",
    ),
    "a served fit has learned from the future": (
        4, f"UPDATE versions SET served_until = served_until + interval '1 day' WHERE id = {last_of(FR, 'to_version')}"
    ),
    "a first model did not pass its floor": (
        5, """UPDATE verdicts SET gates = '[{"gate": "floor", "passed": false}, {"gate": "baseline", "passed": true}]'
        WHERE against_seq = 0""",
    ),
    "a first model met no baseline": (5, """UPDATE verdicts SET gates = '[{"gate": "floor", "passed": true}]'
        WHERE against_seq = 0"""),
    "a batch is gone": (6, "DELETE FROM batches WHERE (country, seq) = ('FR', 1); DELETE FROM announcements"),
    "batches overlap": (
        6, "UPDATE batches SET lower = lower - interval '1 day', previous_upper = previous_upper - interval '1 day' "
        "WHERE (country, seq) = ('FR', 2)",
    ),
    "the cursor is behind": (6, "UPDATE cursors SET position = position - interval '1 day'"),
    "rows are counted wrong": (6, "UPDATE batches SET rows = rows + 1 WHERE (country, seq) = ('FR', 2)"),
    "a quarantine has no reason": (7, "UPDATE batches SET reason = '' WHERE country = 'DE'"),
    "a batch was never validated": (7, "UPDATE batches SET report = '[]' WHERE (country, seq) = ('FR', 1)"),
    "a bad batch was accepted": (7, "UPDATE batches SET state = 'accepted', reason = '' WHERE country = 'DE'"),
    "a batch has no moment of its decision": (7, "UPDATE batches SET decided_at = NULL WHERE country = 'FR'"),
    "a snapshot reads a batch in quarantine": (
        7, "UPDATE batches SET state = 'quarantined', reason = 'bad' WHERE (country, seq) = ('FR', 1); "
        "DELETE FROM announcements"
    ),
    "a snapshot reads a batch that was retracted": (
        7, "UPDATE batches SET state = 'retracted', reason = 'bad', decided_at = '2020-01-01' WHERE (country, seq) = ('FR', 1)"
    ),
    "a version was trained on another country's rows": (7, "UPDATE snapshots SET country = 'ES'"),
    "a run released twice": (
        8, "UPDATE releases SET run_id = 'zoo/run-1' WHERE country = 'FR'; "
        "UPDATE outcomes SET state = 'kept', release_seq = NULL WHERE (run_id, country) = ('zoo/run-2', 'FR'); "
        "UPDATE runs SET finished_at = NULL",
    ),
    "attempts overlap": (
        8, "INSERT INTO attempts (run_id, model, country, attempt, worker, started_at, finished_at) "
        "SELECT run_id, model, country, 2, 'x', started_at + (finished_at - started_at) / 2, finished_at FROM attempts "
        "WHERE (run_id, country) = ('zoo/run-2', 'FR')",
    ),
    "an attempt is gone": (8, "UPDATE attempts SET attempt = 2 WHERE country = 'FR'"),
    "a cell of an ended run has no outcome": (
        10, "UPDATE outcomes SET state = 'pending', decided_at = NULL, release_seq = NULL WHERE (run_id, country) = "
        "('zoo/run-2', 'FR'); UPDATE releases SET run_id = NULL WHERE (country, seq) = ('FR', 2)",
    ),
    "a release is not its run's outcome": (
        10, "UPDATE outcomes SET state = 'failed', release_seq = NULL WHERE (run_id, country) = ('zoo/run-2', 'FR')"
    ),
    "an outcome names another run's release": (
        10, "UPDATE outcomes SET release_seq = 1 WHERE (run_id, country) = ('zoo/run-2', 'FR')"
    ),
    "a release is of no run": (
        10, "UPDATE releases SET run_id = 'zoo/run-9' WHERE (country, seq) = ('FR', 2); "
        "UPDATE outcomes SET state = 'kept', release_seq = NULL WHERE (run_id, country) = ('zoo/run-2', 'FR')",
    ),
    "a release was made past a hold": (11, "UPDATE blockers SET created_at = '2020-01-01'"),
    "a rollback put no hold": (11, "DELETE FROM blockers"),
}  # fmt: skip


@pytest.mark.parametrize("how", ROWS)
def test_rows_that_break_a_rule_are_found(world, how):
    rules, statement = ROWS[how]
    behind(world, statement)
    assert broken(world) == (rules if isinstance(rules, set) else {rules})


def test_two_champions_at_once_are_found(world):
    forget(world, "releases", "releases_pkey")
    behind(world, "INSERT INTO releases (model, country, seq, from_version, to_version, kind, verdict, reason, run_id) "
           "SELECT model, country, seq, from_version, from_version, kind, verdict, reason, NULL FROM releases "
           "WHERE (country, seq) = ('FR', 2)")  # fmt: skip
    assert 1 in broken(world)


def test_two_outcomes_of_a_cell_are_found(world):
    forget(world, "outcomes", "outcomes_pkey")
    behind(world, "INSERT INTO outcomes SELECT * FROM outcomes WHERE (run_id, country) = ('zoo/run-2', 'FR')")
    assert broken(world) == {10}


def test_a_version_released_again_is_found(world):
    behind(world, "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason) "
           "SELECT model, country, 4, to_version, to_version, 'undo', 'ann', '' FROM releases WHERE seq = 3")  # fmt: skip
    announce(world.resources, world.catalog, "zoo")
    assert broken(world) == {8}


def test_a_state_that_is_none_is_found(world):
    forget(world, "batches", "batches_state_check")
    behind(world, "UPDATE batches SET state = 'lost' WHERE country = 'DE'")
    assert broken(world) == {7}


def test_a_training_that_outlives_its_run_is_found(world):
    behind(world, "UPDATE attempts SET finished_at = NULL WHERE (run_id, country) = ('zoo/run-2', 'GB')")
    assert broken(world) == set()
    session = held_lock(world)
    assert broken(world) == {10}
    world.see("Britain", range(90, 120))
    world.ingest()
    run_id = world.plan()
    behind(world, "INSERT INTO attempts (run_id, model, country, attempt, worker) "
           f"VALUES ('{run_id}', 'weight', 'GB', 1, 'x')")  # fmt: skip
    assert broken(world) == set()
    session.close()


def files(world, cell=FR):
    """Keys of the champion's manifest and its two files."""
    return [champion(world, cell).artifact_key, *(entry["key"] for entry in manifest(world, cell)["files"].values())]


def remove(world, key):
    Path(world.resources.store.url.removeprefix("file://"), key).unlink()


@pytest.mark.parametrize("which", [0, 1, 2], ids=["manifest", "judged", "served"])
def test_a_champion_whose_artifact_is_missing_is_found(world, which):
    remove(world, files(world)[which])
    assert broken(world) == {1}


@pytest.mark.parametrize("which", [0, 1, 2], ids=["manifest", "judged", "served"])
def test_an_altered_object_is_found(world, which):
    key = files(world)[which]
    world.resources.store.put(key, world.resources.store.get(key) + b" ")
    assert broken(world) == {2}


def test_a_former_version_whose_artifact_is_missing_is_found(world):
    (former,) = world.sql(
        "SELECT * FROM versions WHERE id = (SELECT from_version FROM releases WHERE country = 'FR' AND seq = 2)"
    )
    remove(world, former.artifact_key)
    assert broken(world) == {2}


def test_a_rebuild_of_another_model_is_found(world):
    behind(world, "UPDATE releases SET kind = 'rebuild', person = 'perennial', verdict = NULL WHERE country = 'FR' AND seq = 2")
    assert 3 in broken(world)


def forge(world, payload, key):
    """Put another manifest, signed by this key, on record for FR's champion; its pointer follows."""
    document = artifacts.sign(payload, key)
    version, digest = champion(world, FR), hashlib.sha256(document).hexdigest()
    world.resources.store.put(f"artifacts/{digest}.manifest", document)
    size = len(document) + sum(entry["size"] for entry in artifacts.entries_of(payload))
    behind(world, f"UPDATE versions SET artifact_key = 'artifacts/{digest}.manifest', sha256 = '{digest}', size = {size} "
           f"WHERE id = '{version.id}'")  # fmt: skip
    point_at(world, document, 2, FR)


def test_a_manifest_signed_by_a_stranger_is_found(world):
    forge(world, manifest(world, FR), Ed25519PrivateKey.generate())
    assert broken(world) == {9}


@pytest.mark.parametrize("change", [{"country": "GB"}, {"version": "0" * 64}, {"recipe": "0" * 64}], ids=str)
def test_a_manifest_of_something_else_is_found(world, change):
    forge(world, {**manifest(world, FR), **change}, read_private_key(world.resources.signing_key))
    assert broken(world) == {9}


def test_a_champion_that_cannot_be_loaded_is_found_when_looking_deep(world):
    data = b"no model"
    entry = {"key": "artifacts/no.skops", "sha256": artifacts.sha256(data), "size": len(data)}
    world.resources.store.put(entry["key"], data)
    files = {**manifest(world, FR)["files"], "served": entry}
    forge(world, {**manifest(world, FR), "files": files}, read_private_key(world.resources.signing_key))
    assert (broken(world), broken(world, deep=True)) == (set(), {9})


def test_a_pointer_that_is_missing_or_lags_is_found_once_its_run_has_ended(world):
    (first,) = world.sql("SELECT v.* FROM versions AS v JOIN releases AS r ON r.to_version = v.id "
                         "WHERE r.country = 'FR' AND r.seq = 1")  # fmt: skip
    point_at(world, world.resources.store.get(first.artifact_key), 1, FR, first.id)
    assert broken(world) == {2}
    remove(world, pointer_key(FR))
    assert broken(world) == {2}
    behind(world, "DELETE FROM announcements", "UPDATE runs SET finished_at = NULL")
    assert broken(world) == set()
    announce(world.resources, world.catalog, "zoo")
    assert world.resources.store.get(pointer_key(FR))


@pytest.mark.parametrize(("seq", "cell"), [(3, FR), (1, Cell("weight", "DE"))], ids=["ahead", "without a release"])
def test_a_pointer_that_leads_is_found(world, seq, cell):
    version = champion(world, FR)
    point_at(world, world.resources.store.get(version.artifact_key), seq, cell, version.id)
    assert broken(world) == {2}


def test_a_pointer_to_another_version_is_found(world):
    (other,) = world.sql("SELECT * FROM versions WHERE id = %s", releases(world, FR)[0].to_version)
    point_at(world, world.resources.store.get(other.artifact_key), 2, FR, other.id)
    assert broken(world) == {2}


def test_a_pointer_that_nobody_signed_is_found(world):
    document = world.resources.store.get(pointer_key(GB))
    world.resources.store.put(pointer_key(GB), document.replace(b'"seq":3', b'"seq":4'))
    assert broken(world) == {9}


def batch(world, country="FR", seq=1):
    return world.sql("SELECT * FROM batches WHERE (country, seq) = (%s, %s)", country, seq)[0]


def rewrite(world, change):
    """Change the rows of a batch, with the ledger in step."""
    there = batch(world)
    table = change(open_batch(world.resources.store, there.object_key, there.sha256).read())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    world.resources.store.put(there.object_key, data)
    behind(world, f"UPDATE batches SET sha256 = '{artifacts.sha256(data)}', rows = {table.num_rows}, size = {len(data)} "
           "WHERE (country, seq) = ('FR', 1)")  # fmt: skip


def test_an_altered_or_missing_batch_is_found(world):
    key = batch(world).object_key
    world.resources.store.put(key, b"altered")
    assert broken(world) == {6}
    remove(world, key)
    assert broken(world) == {6}


def test_a_change_that_is_landed_twice_is_found(world):
    rewrite(world, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    (violation,) = audit(world.resources, world.catalog)
    assert violation.what.startswith("1 changes are landed twice, such as id ")


def test_a_change_that_is_lost_is_found(world):
    rewrite(world, lambda table: table.slice(1))
    (violation,) = audit(world.resources, world.catalog)
    assert (violation.rule, "1 changes up to" in violation.what) == (6, True)


def test_a_change_that_committed_too_late_is_found(world):
    execute(world.shop, "INSERT INTO sightings (id, changed_at, seen_at, country) SELECT 0, min(changed_at), min(seen_at), "
            "'France' FROM sightings")  # fmt: skip
    assert broken(world) == {6}


def test_changes_that_the_cursor_has_passed_over_are_found(world):
    world.see("France", range(90, 91))
    assert broken(world) == set()
    behind(world, "UPDATE cursors SET position = position + interval '1 day'")
    (violation,) = audit(world.resources, world.catalog)
    assert (violation.rule, violation.what.startswith("20 changes up to")) == (6, True)


def test_a_change_of_another_time_is_found(world):
    def later(table):
        moved = pa.compute.add(table["changed_at"], pa.scalar(10**12, "duration[us]"))
        return table.set_column(1, "changed_at", moved)

    rewrite(world, later)
    assert broken(world) == {6}


def test_a_source_that_cannot_be_reached_is_said_and_breaks_no_rule(world):
    def unset(name):
        raise SettingsError(f"{name} is not set.")

    findings = examine(replace(world.resources, source_dsn=unset), world.catalog)
    assert (findings.violations, findings.unseen) == (
        [],
        ["Source sightings was not compared with its batches: zoo_db is not set."],
    )
    world.catalog = replace(world.catalog, sources={})
    findings = examine(world.resources, world.catalog)
    assert (findings.violations, len(findings.unseen)) == ([], 1)


def test_rows_that_the_source_has_lost_since_break_no_rule(world):
    execute(world.shop, "DELETE FROM sightings WHERE id < 100")
    assert broken(world) == set()


@pytest.fixture
def compacted(world, monkeypatch):
    """The same world with France's two batches put together; returns the object's key."""
    monkeypatch.setattr(compaction, "LEAST", 2)
    assert compact(world.resources, world.catalog)["made"] == 2
    return world.sql("SELECT object_key FROM compactions WHERE country = 'FR'")[0].object_key


def test_a_healthy_compaction_breaks_no_rule(world, compacted):
    findings = examine(world.resources, world.catalog, deep=True)
    assert (findings.violations, findings.seen["compactions"]) == ([], 2)


def test_a_compaction_that_is_missing_or_altered_is_found(world, compacted):
    world.resources.store.put(compacted, b"altered")
    assert broken(world) == {2}
    remove(world, compacted)
    assert broken(world) == {2}


OTHER_ROWS = {
    "one of another value": lambda table: table.set_column(5, "weight", pa.array([1.0, *table["weight"].to_pylist()[1:]])),
    "in another order": lambda table: table.take(pa.array(range(table.num_rows))[::-1]),
}


@pytest.mark.parametrize("how", OTHER_ROWS)
def test_a_compaction_of_other_rows_is_found_by_a_deep_audit(world, compacted, how):
    table = pq.read_table(pa.BufferReader(world.resources.store.get(compacted)))
    sink = pa.BufferOutputStream()
    pq.write_table(OTHER_ROWS[how](table), sink)
    data = sink.getvalue().to_pybytes()
    world.resources.store.put(compacted, data)
    behind(world, f"UPDATE compactions SET sha256 = '{artifacts.sha256(data)}' WHERE country = 'FR'")
    assert broken(world) == set()
    assert broken(world, deep=True) == {6}


@pytest.mark.parametrize("change", ["rows = rows - 1", "event_max = event_max - interval '1 day'"])
def test_a_compaction_that_says_otherwise_than_its_batches_is_found(world, compacted, change):
    behind(world, f"UPDATE compactions SET {change} WHERE country = 'FR'")
    assert broken(world) == {6}


@pytest.fixture
def command(world, monkeypatch, capsys):
    """Runs ``python -m perennial audit`` on the world; its exit code and what it printed."""
    settings = {
        "PERENNIAL_DATABASE_URL": world.resources.database,
        "PERENNIAL_STORE_URL": world.resources.store.url,
        "PERENNIAL_SIGNING_KEY": str(world.resources.signing_key),
        "PERENNIAL_PUBLIC_KEYS": str(world.resources.public_keys),
        "PERENNIAL_SOURCE_ZOO_DB": world.shop,
        "PERENNIAL_MODELS": "toy_models",
        "PERENNIAL_SOURCES": "toy_sources",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    def run():
        code = main(["audit", "--deep"])
        return code, "".join(capsys.readouterr())

    return run


def test_the_command_says_how_much_was_checked(command):
    code, said = command()
    assert (code, said.count("no violations")) == (0, 11)
    assert "4 manifests, 2 pointers, 4 fits loaded" in said


def test_the_command_fails_with_the_violations(command, world):
    remove(world, pointer_key(FR))
    code, said = command()
    assert code == 1
    assert "Rule 2, the pointer of weight/FR: it is missing, release 2 is in force." in said


def test_the_audit_changes_nothing(world):
    before = json.dumps(world.sql("SELECT * FROM outcomes ORDER BY 1, 2, 3"), default=str)
    database = connect(world.resources.database)
    audit(world.resources, world.catalog, deep=True)
    database.close()
    assert json.dumps(world.sql("SELECT * FROM outcomes ORDER BY 1, 2, 3"), default=str) == before
