"""However long the past is, what each cell and cycle asks of the registry reads as many rows.

Each query is run against a past and against one ten times as long; counted is what it reads, in triggers, foreign keys and
functions, too.
"""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from psycopg2.extras import Json
from toolbox import TABLE, execute

from perennial.core.source_messages import SourceRun
from perennial.errors import NothingToDo
from perennial.shell.database import connect, fetch, queries
from perennial.steps.report import announce
from perennial.steps.source_report import report as source_report
from worlds.long_past import write_past

RUNS = {"a year": 35_000, "five weeks": 3_500}
MODELS, COUNTRIES = ["model_03", "model_04"], ["C03", "C04", "C05"]
FILES = 5  # new ones in each run, beside the one that comes again
FEW = 60  # rows that a past ten times as long may add: held batches are listed, and there are more of them
BIG = (
    "announcements", "attempts", "batch_days", "batch_decisions", "batches", "causes", "cause_items",
    "compactions", "files", "key_filters",
    "key_places", "messages", "outcomes", "releases", "snapshots", "splits", "verdicts", "versions", "watermarks",
)  # fmt: skip
MAY_READ_MORE = {
    "accepted_batches": "a model in hindsight looks at every batch of a country, by hand",
    "audit_": "an audit looks at everything there is, by hand and read-only",
    "forget_key_places": "a whole index goes when it is made again",
    "fill_key_places": "a COPY into a table, which has no plan",
    "batches_since": "all keys of a source, once, and what came since an interval that lands late",
    "batches_by_state": "what a replay prints of a source, once a cycle",
    "endings_of": "how often a cell's runs ended how, by hand",
    "idle_compactions": "house-keeping: which compactions nobody is given any more",
    "moments_of": "what a replay prints in the end: every run of a fleet",
    **dict.fromkeys(
        (
            "source_clock",
            "source_server",
            "open_transactions",
            "prepared_transactions",
            "written_up_to",
            "replayed",
            "written_elsewhere",
            "finds_dates",
            "exact_texts",
            "columns_of",
            "unique_keys_of",
            "size_of",
        ),
        "asked of a source's own database",
    ),
    "reading_differently": "what people decided about a country's batches, by hand, as many rows as they decided",
    "recorded_compactions": "house-keeping: the store's objects beside those on record",
    "releases_of": "a model in hindsight looks at every release of a cell, by hand",
    "settled_batches": "held batches that wait for a person, as many as there are",
    "versions_trained_on": "a person takes a batch back, and is told of every version that has read it",
}
NOW, HOUR = datetime.now(UTC), timedelta(hours=1)
NO_NEWS = {"begun": 0, "ended": 0}
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
    "modified": NOW, "models": MODELS[:2], "name": "again.csv", "near": "C04", "object_key": "k", "owner": "keepers",
    "parameters": Json({}), "person": "Ada", "reached": [], "reason": "r", "removed": 0, "revision": 1, "since": NOW - HOUR,
    "stamp": "s", "recipe": "r", "release_seq": None, "report": Json([]), "requested": Json({}), "rows": 1, "run_id": RUN,
    "scores": Json({}), "seconds": 1.0, "seed": 0, "seq": 999, "served_until": NOW, "sha256": "s", "size": 1,
    "snapshot": "s", "source": "past", "sources": ["past", "past"], "state": "kept", "subject": "s", "tier": 1,
    "timings": Json({}), "to_version": VERSION, "tries": 1, "until": None, "upper": NOW, "verdict": 100, "version": VERSION,
    "window_end": NOW, "window_start": NOW, "worker": "host:1", "against_seq": 0, "accepted_key": "k", "accepted_rows": 1,
    "accepted_sha256": "s", "accepted_size": 1, "batches": 2, "ends": [NOW.date()], "number": 20, "overruled": "r",
    "rejected_key": "k", "rejected_rows": 1, "rejected_sha256": "s", "rejected_size": 1, "rejections": Json({}),
    "starts": [NOW.date()], "versions": [], "held": ["", ""], "replaced_country": "C04", "replaced_seq": 999, "days": 30,
    "decided_at": NOW, "page": "k", "is_late": False, "server": "1/1", "seen_at": NOW, "open_since": NOW,
    "ahead": timedelta(0), "recheck_from": None,
    "unreadable": Json({}), "unreadable_key": None, "unreadable_rows": 0,
    "unreadable_sha256": None, "unreadable_size": None, "ended": "e", "known_until": None,
    "names": ["again.csv", "new/7-1.csv", "unknown.csv"], "stamps": ["anew", "stamp-7", "new"],
    "key_types": "id int64", "filter": b"0000", "seqs": [7, 999], "uppers": [NOW - timedelta(minutes=30)], "older_at": NOW,
    "older_key": None, "older_sha256": None, "hashes": [1, 2], "made_of": "m", "places": [1, 2],
    "left_out": Json({}), "longest": HOUR,
    "scikit_learn": "1.0", "read_by": None, "former": VERSION,
    "scope": "past", "message": "past/1", "ids": [1], "ending": "over", "item": "C04",
    "as_first": False, "criteria": "c", "is_acquitted": False, "beyond": 0, "is_copy": False, "follows": "s",
}  # fmt: skip
OWN = {
    "begin_cause": {"kind": "held back"}, "begin_cause_of_items": {"kind": "batch held"}, "end_cause": {"id": 1},
    "end_causes": {"kind": "ingest failed"}, "open_causes": {"kind": "silent"},
    "add_run": {"as_of": Json({})}, "announce": {"asset": "past released"},
    "add_batch_decision": {"decision": "accept"}, "add_message": {"state": "pending"}, "decide_batch": {"state": "accepted"},
    "land_batch": {"lower": NOW + HOUR, "upper": NOW + 2 * HOUR},
    "pick_up_file": {
        "name": "new.csv", "revision": 1, "state": "landed", "reason": "", "sha256": "s" * 64, "left_out": 0,
        "upper": NOW + timedelta(microseconds=1),
    },
    "unannounced_releases": {"asset": "past released"}, "unannounced_batches": {"asset": "past accepted"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pasts(postgres):
    """Registries with a long past and with a shorter one, by length."""
    dsns = {}
    for number, (length, runs) in enumerate(RUNS.items()):
        execute(postgres.dsn("postgres"), f"CREATE DATABASE past_{number} TEMPLATE template STRATEGY FILE_COPY")
        dsns[length] = postgres.dsn(f"past_{number}")
        write_past(dsns[length], runs * len(MODELS) * len(COUNTRIES), MODELS, COUNTRIES, files=FILES)
    yield dsns
    for number in range(len(RUNS)):
        execute(postgres.dsn("postgres"), f"DROP DATABASE past_{number} WITH (FORCE)")


def facts_of(query, runs):
    """What a query is asked with: the newest run, batch and version of a past."""
    newest = {
        "run_id": f"past/past-{runs:07}",
        "id": f"past/past-{runs:07}",
        "seq": runs,
        "last_seq": runs,
        "first_seq": runs - 20,
        "revision": runs - 1,
    }
    return {**FACTS, **newest, **OWN.get(query, {})}


def nodes(plan):
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def in_plan(plan):
    """Rows that the nodes of a plan have read of tables and indexes, those that they left out included."""
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    read = [node for node in nodes(plan) if "Relation Name" in node or "Index Name" in node]
    return sum((node["Actual Rows"] + sum(node.get(name, 0) for name in removed)) * node["Actual Loops"] for node in read)


def in_tables(cursor):
    """Rows that this transaction has read of tables so far, by whatever."""
    cursor.execute("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
    return int(cursor.fetchone()[0])


def rows_read(dsn, query, facts):
    """How many rows a query reads; what it changes is taken back, and one that the registry refuses has read until then."""
    with closing(connect(dsn)) as database, database.cursor() as cursor:
        database.autocommit = False
        before, plan = in_tables(cursor), {}
        cursor.execute("SAVEPOINT asked")
        try:
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + queries()[query], facts)
            plan = cursor.fetchall()[0][0][0]["Plan"]
        except (psycopg2.IntegrityError, psycopg2.InternalError):
            cursor.execute("ROLLBACK TO asked")
        read = max(in_tables(cursor) - before, in_plan(plan))
        database.rollback()
        return read


ASKED = sorted(name for name in queries() if not name.startswith(tuple(MAY_READ_MORE)))


@pytest.mark.parametrize("query", ASKED)
def test_a_past_ten_times_as_long_costs_a_query_nothing(pasts, query):
    read = {length: rows_read(dsn, query, facts_of(query, RUNS[length])) for length, dsn in pasts.items()}
    assert read["a year"] <= 1.5 * read["five weeks"] + FEW


@pytest.mark.parametrize("query", sorted(name for name in queries() if name.startswith("audit_outcomes")))
def test_an_audit_does_so_the_test_would_tell(pasts, query):
    read = {length: rows_read(dsn, query, facts_of(query, RUNS[length])) for length, dsn in pasts.items()}
    assert read["a year"] > 5 * read["five weeks"] > 0


def test_what_a_training_reads_of_a_long_past_is_a_few_rows_of_the_ledger(pasts):
    past, last = pasts["a year"], RUNS["a year"]
    asked = {"source": "past", "country": "C04", "last_seq": last, "start": NOW - timedelta(days=5), "end": NOW}
    with closing(connect(past)) as database:
        assert len(fetch(database, "batches_of", **asked)) > 400
        assert len(fetch(database, "objects_of", **asked)) == 2 + 71
    assert 71 < rows_read(past, "objects_of", asked) < 400


def test_the_data_time_of_a_country_is_a_few_rows_of_its_past(pasts):
    asked = {"source": "past", "country": "C04"}
    assert 0 < rows_read(pasts["a year"], "as_of", asked) < 60
    assert 0 < rows_read(pasts["a year"], "last_decided", asked) < 60


def test_the_list_of_what_may_read_more_names_nothing_that_is_gone():
    assert [start for start in MAY_READ_MORE if not any(name.startswith(start) for name in queries())] == []


def test_a_file_that_came_each_quarter_of_an_hour_for_a_year_is_found_in_a_few_rows(pasts):
    for query in (
        "changed_files",
        "standing_revision",
        "intervals_from",
        "intervals_since",
        "batches_of_intervals",
        "batches_beside",
    ):
        assert 0 < rows_read(pasts["a year"], query, facts_of(query, RUNS["a year"])) < 60, query


def scans(dsn):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'perennial'")
        return {table: number for table, number in cursor.fetchall() if table in BIG}


def test_a_whole_cycle_scans_no_big_table_in_triggers_and_foreign_keys_either(pasts, open_zoo, new_database, tmp_path):
    past = pasts["a year"]
    shop = new_database(None)
    execute(shop, TABLE)
    zoo = open_zoo(shop, past, tmp_path / "store")
    for country in ("Britain", "France"):
        zoo.see(country, range(60))
    before = scans(past)
    zoo.ingest()
    assert source_report(zoo.resources.post, zoo.catalog.source("sightings"), SourceRun(run_id="i"), {}) == NO_NEWS
    assert zoo.retrain()["weight/GB"].state == "published"
    assert sorted(announce(zoo.resources, zoo.catalog, "zoo"))[-1].startswith("weight/")
    with pytest.raises(NothingToDo):
        announce(zoo.resources, zoo.catalog, "zoo")
    assert scans(past) == before
    zoo.sql("SELECT count(*) FROM attempts WHERE error = 'none of an index'")
    deadline = time.monotonic() + 10
    while scans(past) == before:
        assert time.monotonic() < deadline, "a scan is not counted"


def test_what_is_left_to_do_is_found_beside_a_long_past(pasts):
    past = pasts["a year"]
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
