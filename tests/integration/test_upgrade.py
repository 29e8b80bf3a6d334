"""A registry that earlier migrations made is read as it was after the later ones."""

from datetime import UTC, datetime, timedelta

import pytest
from toolbox import execute

from perennial.shell import database
from perennial.shell.database import connect, fetch, fetch_one, migrate

CLOCK = datetime(2026, 1, 3, tzinfo=UTC)
DAY = timedelta(days=1)
MOVED = "2026-01-01 03:00:00+00, the cursor only to 2026-01-01 02:00:00+00"
PASSED = '[{"expectation": "not null", "success": true, "rows": 10, "unexpected": 0}]'
LAND = """
INSERT INTO perennial.batches (source, country, seq, lower, upper, previous_upper, rows, event_min, event_max, object_key,
                               sha256, size, state, report, decided_at)
SELECT 'sightings', %s, seq, '2026-01-01'::timestamptz + (seq - 1) * interval '1 hour',
       '2026-01-01'::timestamptz + seq * interval '1 hour',
       CASE WHEN seq > 1 THEN '2026-01-01'::timestamptz + (seq - 1) * interval '1 hour' END,
       10, '2026-01-01', '2026-01-02', 'k' || seq, repeat('0', 64), 1, %s, %s, CASE WHEN %s = 'landed' THEN NULL ELSE now() END
FROM generate_series(1, 2) AS seq
"""

RUN = """
INSERT INTO perennial.runs (id, fleet, requested, as_of, finished_at) VALUES (%s, 'zoo', '{"dry_run": false}', %s, now())
"""


@pytest.fixture
def upgraded(new_database, monkeypatch):
    """Two accepted batches and two undecided ones from before rows were rejected, in today's tables."""
    dsn = new_database(None)
    with monkeypatch.context() as before:
        everything = database.migrations()
        before.setattr(database, "migrations", lambda: [each for each in everything if each[0] < "0007"])
        migrate(dsn)
    execute(dsn, "INSERT INTO perennial.cursors VALUES ('sightings', '2026-01-01 02:00Z', %s)", CLOCK)
    execute(dsn, LAND, "GB", "accepted", PASSED, "accepted")
    execute(dsn, LAND, "FR", "landed", "[]", "landed")
    for number, as_of in enumerate(("{}", '{"sightings": "2026-01-02T00:00:00+00:00"}')):
        execute(dsn, RUN, f"zoo/run-{number}", as_of)
    assert migrate(dsn)[0] == "0007_quarantine.sql"
    connection = connect(dsn)
    yield connection
    connection.close()


def test_what_was_accepted_is_read_whole_and_passes_the_audit(upgraded):
    rows = fetch(upgraded, "batches_of", source="sightings", country="GB", last_seq=2, start=CLOCK - 3 * DAY, end=CLOCK)
    assert [(row.rows, row.object_key) for row in rows] == [(10, "k1"), (10, "k2")]
    assert fetch(upgraded, "as_of", source="sightings") == [("GB", datetime(2026, 1, 2, tzinfo=UTC))]
    assert fetch(upgraded, "audit_quarantine") == []
    (britain, france) = sorted(fetch(upgraded, "audit_balance"), key=lambda row: row.accepted, reverse=True)
    assert (britain.accepted, france.undecided) == (20, 20)


def test_a_runs_data_time_is_that_of_each_country(upgraded):
    told = fetch_one(upgraded, "run_of", id="zoo/run-1").as_of
    assert told == {"sightings": {"FR": "2026-01-02T00:00:00+00:00", "GB": "2026-01-02T00:00:00+00:00"}}
    assert fetch_one(upgraded, "run_of", id="zoo/run-0").as_of == {}
    asked = {"fleet": "zoo", "source": "sightings", "country": "GB"}
    assert [moment.as_of for moment in fetch(upgraded, "moments_of", **asked)] == [datetime(2026, 1, 2, tzinfo=UTC)]


def test_the_chain_of_batches_goes_on(upgraded):
    facts = {"source": "sightings", "rows": 1, "event_min": CLOCK, "event_max": CLOCK, "object_key": "k", "sha256": "0" * 64,
             "is_late": False}  # fmt: skip
    bounds = {"lower": datetime(2026, 1, 1, 2, tzinfo=UTC), "upper": datetime(2026, 1, 1, 3, tzinfo=UTC)}
    assert fetch_one(upgraded, "land_batch", country="GB", size=1, **facts, **bounds).seq == 3
    assert fetch(upgraded, "audit_ledger") == [("sightings", f"batches reach to {MOVED}")]


def test_what_has_no_profile_is_no_past_to_compare_with(upgraded):
    named = {"source": "sightings", "country": "GB", "seq": 3}
    assert fetch(upgraded, "recent_profiles", number=20, **named) == []
    assert fetch_one(upgraded, "first_event", **named).moment is None
