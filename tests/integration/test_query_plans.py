"""However long the past is, what each cell and cycle asks of the registry is found by an index."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extras import Json
from toolbox import TABLE, execute

from perennial.errors import NothingToDo
from perennial.shell.database import connect, fetch, queries
from perennial.steps.report import announce
from worlds.long_past import write_past

OUTCOMES = 200_000
MODELS, COUNTRIES = [f"model_{number:02}" for number in range(10)], [f"C{number:02}" for number in range(20)]
BIG = (
    "announcements", "attempts", "batch_decisions", "batches", "messages", "outcomes", "releases", "snapshots", "splits",
    "verdicts", "versions",
)  # fmt: skip
MAY_SCAN = {
    "audit_": "an audit looks at everything there is, by hand and read-only",
    "batches_by_state": "what a replay prints of a source, once a cycle",
    "moments_of": "what a replay prints in the end: every run of a fleet",
    "safe_bound": "asked of a source's own database",
}
OPEN = {
    "attempts_unfinished",
    "batches_undecided",
    "messages_waiting",
}  # indexes of what is still open: short, whatever is past
NOW = datetime.now(UTC)
RUN, VERSION = "past/past-0000999", "version-100".rjust(64, "0")
FACTS = {
    "artifact_key": "a", "as_of": NOW, "attempt": 1, "body": "b", "challenger": VERSION, "clock": NOW, "clusters": 10,
    "start": NOW, "end": NOW,
    "costs": [1.0, 2.0], "countries": ["C04", "C05"], "country": "C04", "deaths_allowed": 1, "decision": "keep",
    "delivered": True, "environment": Json({}), "error": None, "event_max": NOW, "event_min": NOW, "excluded": [],
    "first_seq": 1, "fleet": "past", "fresh": [True, False], "from_version": None, "gates": Json([]), "hash": "h", "id": RUN,
    "keep": timedelta(days=1),
    "items": ["C04/1"],
    "judged_until": NOW, "kind": "hold", "last_seq": 999, "lower": NOW, "metrics": Json({}), "model": "model_03",
    "modified": NOW, "models": MODELS[:2], "name": "f", "near": "C04", "object_key": "k", "owner": "keepers",
    "parameters": Json({}), "person": "Ada", "reached": [], "reason": "r", "removed": 0, "revision": 1, "since": NOW,
    "stamp": "s", "recipe": "r", "release_seq": None, "report": Json([]), "requested": Json({}), "rows": 1, "run_id": RUN,
    "scores": Json({}), "seconds": 1.0, "seed": 0, "seq": 999, "served_until": NOW, "sha256": "s", "size": 1,
    "snapshot": "s", "source": "past", "sources": ["past", "past"], "state": "kept", "subject": "s", "tier": 1,
    "timings": Json({}), "to_version": VERSION, "tries": 1, "until": None, "upper": NOW, "verdict": 100, "version": VERSION,
    "window_end": NOW, "window_start": NOW, "worker": "host:1", "against_seq": 0, "accepted_key": "k", "accepted_rows": 1,
    "accepted_sha256": "s", "accepted_size": 1, "batches": 2, "ends": [NOW.date()], "number": 20, "overruled": "r",
    "rejected_key": "k", "rejected_rows": 1, "rejected_sha256": "s", "rejected_size": 1, "rejections": Json({}),
    "starts": [NOW.date()], "versions": [], "held": ["", ""], "replaced_country": "C04", "replaced_seq": 999, "days": 30,
    "decided_at": NOW, "page": "k", "as_first": False, "beyond": 0, "is_copy": False, "follows": "s",
}  # fmt: skip
OWN = {
    "add_run": {"as_of": Json({})}, "announce": {"asset": "past released"},
    "unannounced_releases": {"asset": "past released"}, "unannounced_batches": {"asset": "past accepted"},
}  # fmt: skip


@pytest.fixture(scope="module")
def past(postgres):
    """A registry with a long past."""
    name = "long_past"
    execute(postgres.dsn("postgres"), f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    write_past(postgres.dsn(name), OUTCOMES, MODELS, COUNTRIES)
    yield postgres.dsn(name)
    execute(postgres.dsn("postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def nodes(plan):
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def scanned(dsn, query):
    """The big tables that a query reads from end to end, or whose whole index it reads."""
    facts = {**FACTS, **OWN.get(query, {})}
    with closing(connect(dsn)) as database, database.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + queries()[query], facts)
        found = nodes(cursor.fetchall()[0][0][0]["Plan"])
    whole = [node for node in found if node["Node Type"] == "Seq Scan" or _reads_a_whole_index(node)]
    return sorted({node["Relation Name"] for node in whole if node.get("Relation Name") in BIG})


def _reads_a_whole_index(node):
    return node["Node Type"].startswith("Index") and "Index Cond" not in node and node["Index Name"] not in OPEN


ASKED = sorted(name for name in queries() if not name.startswith(tuple(MAY_SCAN)))


@pytest.mark.parametrize("query", ASKED)
def test_no_query_reads_a_big_table_from_end_to_end(past, query):
    assert scanned(past, query) == []


def test_what_a_training_reads_of_a_long_past_is_a_few_rows_of_the_ledger(past):
    asked = {"source": "past", "country": "C04", "last_seq": 999, "start": NOW - timedelta(days=5), "end": NOW}
    with closing(connect(past)) as database, database.cursor() as cursor:
        objects = fetch(database, "objects_of", **asked)
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + queries()["objects_of"], asked)
        found = nodes(cursor.fetchall()[0][0][0]["Plan"])
        batches = fetch(database, "batches_of", **asked)
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in found if node.get("Relation Name") == "batches")
    assert len(batches) > 400
    assert len(objects) == 2 + 999 - 944
    assert 50 < read < 100


def test_an_audit_does_so_the_test_would_tell(past):
    assert "outcomes" in scanned(past, "audit_outcomes")


def test_the_list_of_what_may_scan_names_nothing_that_is_gone():
    assert [start for start in MAY_SCAN if not any(name.startswith(start) for name in queries())] == []


def scans(dsn):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'perennial'")
        return {table: number for table, number in cursor.fetchall() if table in BIG}


def test_a_whole_cycle_scans_no_big_table_in_triggers_and_foreign_keys_either(past, postgres, open_zoo, new_database, tmp_path):
    shop = new_database(None)
    execute(shop, TABLE)
    zoo = open_zoo(shop, past, tmp_path / "store")
    for country in ("Britain", "France"):
        zoo.see(country, range(60))
    before = scans(past)
    zoo.ingest()
    assert zoo.retrain()["weight/GB"].state == "published"
    assert sorted(announce(zoo.resources, zoo.catalog, "zoo"))[-1].startswith("weight/")
    with pytest.raises(NothingToDo):
        announce(zoo.resources, zoo.catalog, "zoo")
    assert scans(past) == before
    zoo.sql("SELECT count(*) FROM attempts WHERE error = 'none of an index'")
    deadline = time.monotonic() + 10
    while scans(past) == before:
        assert time.monotonic() < deadline, "a scan is not counted"


def test_what_is_left_to_do_is_found_beside_a_long_past(past):
    asked = {"models": MODELS, "asset": "past released"}
    with closing(connect(past)) as database:
        assert fetch(database, "unannounced_releases", **asked) == []
        with database.cursor() as cursor:
            cursor.execute(
                "DELETE FROM announcements WHERE item IN (SELECT model || '/' || country || '/' || seq FROM releases "
                "WHERE model = 'model_03' AND country = 'C04' ORDER BY seq DESC LIMIT 3)"
            )
        left = fetch(database, "unannounced_releases", **asked)
    assert [(row.model, row.country) for row in left] == [("model_03", "C04")] * 3
    assert [row.seq - left[0].seq for row in left] == [0, 1, 2]
