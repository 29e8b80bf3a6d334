"""Rule 11 for sources: an owner is notified once when something begins and once when it is over."""

import itertools
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from histories import in_process, killed_at
from psycopg2 import errors
from toolbox import TABLE, edit_source, execute
from toy_files import sightings_files

from perennial import Checks, Limit, Owner
from perennial.core.source_messages import SourceRun
from perennial.errors import IngestFailed, NothingToDo
from perennial.failures import text_of
from perennial.shell.store import open_store
from perennial.steps import causes, ingest, source_report, validate
from perennial.steps.quarantine import accept_batch, extract_again, validate_again

RANGERS = Owner("rangers", alerts=("mailto://rangers@example.com",))
HEADER = "id,seen_at,country,length,weight"
ROW = "INSERT INTO sightings (id, seen_at, country, length, weight) VALUES (%s, '2026-01-05', 'Britain', 1, 2)"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NUMBERS = itertools.count(1)


@pytest.fixture
def zoo(zoo, post):
    """A zoo whose rangers have an address."""
    zoo.resources = replace(zoo.resources, mail=post.relay)
    edit_source(zoo, owner=RANGERS)
    return zoo


@pytest.fixture
def inbox(zoo, tmp_path):
    """The store of a zoo whose sightings come in files."""
    store = open_store((tmp_path / "inbox").as_uri())
    zoo.resources = replace(zoo.resources, source_store=lambda name: store)
    zoo.catalog = replace(zoo.catalog, sources={"sightings": replace(sightings_files, owner=RANGERS)})
    return store


def source_of(zoo):
    return zoo.catalog.source("sightings")


def ingest_run(zoo):
    """What a run of the source's DAG does; returns what its tasks failed with."""
    failures = {}
    for task, step in (("land", ingest.land), ("validate", validate.validate)):
        try:
            step(zoo.resources, source_of(zoo))
        except NothingToDo:
            continue
        except Exception as error:
            failures[task] = text_of(error)
            break
    report(zoo, failures)
    return failures


def report(zoo, failures=None):
    run_id = f"ingest_sightings/run-{next(NUMBERS)}"
    run = SourceRun(run_id=run_id, url="https://airflow.example.com/run", docs="https://docs")
    try:
        return source_report.report(zoo.resources.post, source_of(zoo), run, failures)
    except IngestFailed:
        return None


def subjects(post):
    return [subject for _, subject, _ in post.letters]


def bodies(post):
    return [text.replace("\r\n", "\n") for _, _, text in post.letters]


def last(post):
    return bodies(post)[-1]


def on_record(zoo):
    """Kinds of causes that are open, and of those that are over."""
    rows = zoo.sql("SELECT kind, ended_at FROM causes ORDER BY id")
    return [row.kind for row in rows if not row.ended_at], [row.kind for row in rows if row.ended_at]


def drop(store, name, *lines, header=HEADER):
    store.put(f"in/{name}", "\n".join([header, *lines, ""]).encode())


def test_nobody_is_notified_of_an_ingest_that_went_well(zoo, post):
    zoo.see("Britain", range(3))
    assert ingest_run(zoo) == {}
    assert ingest_run(zoo) == {}
    assert (post.letters, on_record(zoo)) == ([], ([], []))


def test_a_failed_ingest_is_told_once_with_its_own_sentence_and_once_that_it_works_again(zoo, post):
    execute(zoo.shop, "ALTER TABLE sightings RENAME TO elsewhere")
    for _ in range(3):
        assert list(ingest_run(zoo)) == ["land"]
    assert subjects(post) == ["[source sightings] ingest failed"]
    assert "SourceMismatch: Source sightings is not as" in last(post)
    assert 'relation "sightings" does not exist' in last(post)
    execute(zoo.shop, "ALTER TABLE elsewhere RENAME TO sightings")
    for _ in range(2):
        assert ingest_run(zoo) == {}
    assert subjects(post)[1:] == ["[source sightings] over: ingest failed"]
    assert "- Ingest works again. (Since 20" in last(post)


def test_another_failure_is_another_cause_and_a_number_in_it_makes_none(zoo, post):
    for reason in ("pid 12 is gone", "pid 13 is gone", "the table is locked", "pid 14 is gone"):
        report(zoo, {"land": reason})
    assert [text.split("\n")[1] for text in bodies(post)] == ["- land: pid 12 is gone", "- land: the table is locked"]
    report(zoo, {})
    assert last(post).count("- Ingest works again.") == 2


def test_a_failed_report_names_what_failed(zoo):
    run = SourceRun(run_id="ingest_sightings/1")
    with pytest.raises(IngestFailed, match="land: it is broken"):
        source_report.report(zoo.resources.post, source_of(zoo), run, {"land": "it is broken"})


def test_a_decision_says_nothing_of_whether_ingest_works(zoo, post):
    report(zoo, {"land": "it is broken"})
    assert report(zoo, None) == {"begun": 0, "ended": 0}
    assert on_record(zoo) == (["ingest failed"], [])


@pytest.fixture
def flooded(zoo):
    """A zoo whose second British batch is three times too big, and is held."""
    edit_source(zoo, country_checks={"GB": Checks(volume=Limit(2.0, 2.5))})
    zoo.see("Britain", range(60))
    ingest_run(zoo)
    zoo.see("Britain", range(60, 90), per_day=60)
    ingest_run(zoo)
    return zoo


def test_a_held_batch_is_told_with_what_the_form_asks_for_and_which_action_to_take(flooded, post):
    assert subjects(post) == ["[source sightings] 1 batch held"]
    assert "Held:\n- country GB, batch 2: volume: 30 of 30 days are unusual" in last(post)
    assert "Trigger quarantine_sightings with action look, country GB, batch 2" in " ".join(last(post).split())
    for action in ("accept, where they are right", "validate again", "extract again"):
        assert action in " ".join(last(post).split())
    ingest_run(flooded)
    assert len(post.letters) == 1


def test_the_end_of_a_held_batch_says_what_became_of_it_and_by_whom(flooded, post):
    accept_batch(flooded.resources, "sightings", "GB", 2, "Ada", "the zoo has grown")
    assert report(flooded) == {"begun": 0, "ended": 1}
    assert subjects(post)[1:] == ["[source sightings] over: 1 batch held"]
    text = " ".join(last(post).split())
    assert "- country GB, batch 2, is accepted by Ada (accept: the zoo has grown). (Since 20" in text
    assert "There is nothing to do." in text
    ingest_run(flooded)
    assert len(post.letters) == 2


def test_the_end_of_a_batch_that_was_replaced_names_the_one_in_its_place(flooded, post):
    execute(flooded.shop, "DELETE FROM sightings WHERE seen_at >= '2026-03-02' AND id %% 3 > 0")
    extract_again(flooded.resources, source_of(flooded), "GB", 2, "Ada", "doubles are gone")
    report(flooded)
    assert "country GB, batch 2, is replaced by GB 3 (extract again by Ada: doubles are gone)" in " ".join(last(post).split())


def test_batches_of_a_country_that_are_held_for_the_same_are_one_cause_for_a_day(zoo, post):
    for _ in range(3):
        zoo.see("Atlantis", range(1))
        ingest_run(zoo)
    assert subjects(post) == ["[source sightings] 1 batch held"]
    assert "then trigger quarantine_sightings with action validate again, country ZZ, batch 1" in " ".join(last(post).split())
    zoo.sql("SET session_replication_role = replica; UPDATE causes SET began_at = began_at - interval '25 hours'")
    zoo.see("Atlantis", range(1))
    ingest_run(zoo)
    assert len(post.letters) == 2
    countries = {**source_of(zoo).countries, "Atlantis": "AT"}
    edit_source(zoo, countries=countries)
    validate_again(zoo.resources, source_of(zoo), "Ada", "it is known now")
    report(zoo)
    assert (
        "- country ZZ, batch 1, is replaced by AT 1 (validate again by Ada: it is known now); country ZZ, batch 2, is"
        in " ".join(last(post).split())
    )
    assert len(post.letters) == 3


def broken():
    raise KeyError("weight_kg")


def test_batches_that_could_not_be_validated_are_told_together(zoo, post):
    edit_source(zoo, expectations=broken)
    for country in ("Britain", "France", "Germany"):
        zoo.see(country, range(3))
    ingest_run(zoo)
    assert subjects(post) == ["[source sightings] 3 batches could not be validated"]
    text = " ".join(last(post).split())
    assert "country DE, batch 1; country FR, batch 1; country GB, batch 1: e.g. The validation could not run" in text
    assert "with action validate again, country DE, batch 1, and so for each of them." in text
    assert "KeyError: 'weight_kg'" in text


def test_a_refused_file_is_told_once_and_once_that_it_was_taken(zoo, inbox, post):
    drop(inbox, "good.csv", "1,2026-01-01T00:00:00Z,Britain,1,2")
    drop(inbox, "bad.csv", "2,2026-01-01T00:00:00Z,Britain,1", header="id,seen_at,country,length")
    for _ in range(2):
        ingest_run(zoo)
    assert subjects(post) == ["[source sightings] 1 file refused"]
    assert "Refused:\n- bad.csv: " in last(post)
    drop(inbox, "bad.csv", "2,2026-01-01T00:00:00Z,Britain,1,2")
    for _ in range(2):
        ingest_run(zoo)
    assert subjects(post)[1:] == ["[source sightings] over: 1 file refused"]
    assert "- bad.csv was written again and taken. (Since 20" in last(post)


def test_a_file_that_is_refused_again_is_still_refused(zoo, inbox, post):
    for lines in (1, 2):
        drop(inbox, "bad.csv", *["2,2026-01-01T00:00:00Z"] * lines, header="id,seen_at")
        ingest_run(zoo)
    assert (len(post.letters), on_record(zoo)) == (1, (["file refused"], []))


def test_many_rejected_rows_of_an_accepted_batch_are_told_until_there_are_few(zoo, post):
    zoo.see("Britain", range(3))
    zoo.see("France", range(3))
    execute(zoo.shop, "UPDATE sightings SET weight = 5000 WHERE country = 'Britain' AND id %% 6 = 0")
    edit_source(zoo, expectations=rejecting)
    for _ in range(2):
        ingest_run(zoo)
    assert subjects(post) == ["[source sightings] many rows rejected"]
    assert "- 10 of 60 rows of country GB, batch 1, are rejected." in last(post)
    zoo.see("Britain", range(3, 6))
    ingest_run(zoo)
    assert "- Only 0 of 60 rows of country GB, batch 2, are rejected." in last(post)
    assert on_record(zoo) == ([], ["rows rejected"])


def rejecting():
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="weight", max_value=1000, severity="warning")]


def test_rows_that_no_landing_takes_are_told_and_when_they_are_gone(zoo, post):
    execute(zoo.shop, "ALTER TABLE sightings DROP CONSTRAINT sightings_pkey, ALTER COLUMN changed_at DROP NOT NULL")
    execute(zoo.shop, "CREATE INDEX ON sightings (changed_at)")
    zoo.see("Britain", range(3))
    execute(zoo.shop, "UPDATE sightings SET changed_at = NULL WHERE id %% 20 = 0")
    execute(zoo.shop, "UPDATE sightings SET changed_at = '2999-01-01' WHERE id = 7")
    for _ in range(2):
        ingest_run(zoo)
    assert subjects(post) == ["[source sightings] rows are never landed, rows are dated in the future"]
    assert "- 3 rows of table sightings have no changed_at" in last(post)
    assert "the earliest 2999-01-01 00:00:00+00" in last(post)
    execute(zoo.shop, "UPDATE sightings SET changed_at = now() WHERE changed_at IS NULL OR changed_at > now()")
    ingest_run(zoo)
    assert subjects(post)[1:] == ["[source sightings] over: rows are never landed, over: rows are dated in the future"]


def test_an_open_transaction_that_holds_rows_back_for_long_is_told_until_it_ends(zoo, post, monkeypatch):
    zoo.see("Britain", range(3))
    with closing(psycopg2.connect(zoo.shop, application_name="notebook")) as idle:
        idle.cursor().execute("SELECT 1")
        ingest_run(zoo)
        assert post.letters == []
        monkeypatch.setattr(causes, "LONGEST_BEHIND", timedelta(0))
        for _ in range(2):
            ingest_run(zoo)
        assert subjects(post) == ["[source sightings] rows are held back"]
        assert "application notebook" in last(post)
    ingest_run(zoo)
    assert subjects(post)[1:] == ["[source sightings] over: rows are held back"]


def test_a_clock_that_was_set_back_is_told(zoo, post):
    zoo.see("Britain", range(3))
    ingest_run(zoo)
    zoo.sql("UPDATE cursors SET position = now() + interval '3 hours'")
    ingest_run(zoo)
    assert "the source's clock is 3:00:0" in last(post)
    assert subjects(post) == ["[source sightings] rows are held back"]


ARRIVED = """
INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, object_key, sha256, size)
SELECT source, country, seq + 1, upper, now(), upper, 1, 'k', 's', 1 FROM batches ORDER BY seq DESC LIMIT 1"""


def landed(zoo, *moments):
    """Batches that arrived at these moments, nothing else of them mattering."""
    rows = [(number, moment) for number, moment in enumerate(sorted(moments), start=1)]
    zoo.sql("INSERT INTO cursors (source, position, clock) VALUES ('sightings', now(), now()) ON CONFLICT DO NOTHING")
    for number, moment in rows:
        zoo.sql(
            """INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, object_key, sha256, size,
                                    state, landed_at)
               VALUES ('sightings', 'GB', %s, %s, %s, %s, 1, 'k', 's', 1, 'accepted', %s)""",
            number, moment - timedelta(seconds=1), moment, rows[number - 2][1] if number > 1 else None, moment,
        )  # fmt: skip


def test_a_source_that_is_silent_for_longer_than_its_past_expects_is_told_once_until_rows_come(zoo, post):
    now = datetime.now(UTC)
    landed(zoo, *(now - number * DAY for number in range(2, 60)))
    for _ in range(2):
        report(zoo, {})
    assert subjects(post) == ["[source sightings] no rows come"]
    since = f"{now - 2 * DAY:%Y-%m-%d %H:%M} UTC"
    assert f"- None since {since}. By its past it is silent at this time for 24 hours at most." in last(post)
    zoo.sql(ARRIVED)
    for _ in range(2):
        report(zoo, {})
    assert subjects(post)[1:] == ["[source sightings] over: no rows come"]
    assert "- Rows come again, since 20" in last(post)


@pytest.mark.parametrize("failing", ["failed", "held back"])
def test_an_ingest_that_does_not_work_does_not_know_of_any_silence(zoo, post, failing):
    now = datetime.now(UTC)
    landed(zoo, *(now - number * DAY for number in range(2, 60)))
    if failing == "failed":
        report(zoo, {"land": "it is broken"})
        report(zoo, None)
    else:
        zoo.sql("INSERT INTO causes (source, kind, subject, reason) VALUES ('sightings', 'held back', '', 'somebody')")
        report(zoo, {})
    assert "silent" not in on_record(zoo)[0]


def test_pauses_are_noted_as_rows_arrive_and_not_for_what_replaces_a_batch(zoo):
    now = datetime.now(UTC)
    landed(zoo, now - 10 * HOUR, now - 9 * HOUR, now - 5 * HOUR, now)
    found = zoo.sql("SELECT began_at, ended_at FROM pauses ORDER BY ended_at")
    assert [tuple(row) for row in found] == [(now - 9 * HOUR, now - 5 * HOUR), (now - 5 * HOUR, now)]
    zoo.sql("UPDATE batches SET state = 'retracted' WHERE seq = 4")
    zoo.sql(
        """INSERT INTO batches (source, country, seq, lower, upper, previous_upper, rows, object_key, sha256, size, landed_at,
                                replaces_country, replaces_seq)
           SELECT source, country, 5, lower, upper, upper, 1, 'k', 's', 1, %s, country, seq FROM batches WHERE seq = 4""",
        now + 5 * HOUR,
    )
    assert len(zoo.sql("SELECT 1 FROM pauses")) == 2


def test_several_causes_of_a_run_are_one_mail_the_worst_first(zoo, post):
    zoo.see("Atlantis", range(1))
    ingest.land(zoo.resources, source_of(zoo))
    validate.validate(zoo.resources, source_of(zoo))
    report(zoo, {"announce": "it is broken"})
    assert subjects(post) == ["[source sightings] ingest failed, 1 batch held"]
    assert last(post).index("Ingest failed:") < last(post).index("Held:") < last(post).index("What to do:")
    assert last(post).endswith("https://airflow.example.com/run\n")


def test_an_owner_without_an_address_reads_it_in_the_log_alone(zoo, post, caplog):
    edit_source(zoo, owner=Owner("nomads"))
    report(zoo, {"land": "it is broken"})
    assert post.letters == []
    assert [row.state for row in zoo.sql("SELECT state FROM messages")] == ["nobody to tell"]
    assert "sightings: ingest failed: land: it is broken" in caplog.messages
    assert "Nobody to tell: nomads has no alerts in its specs. [source sightings] ingest failed" in caplog.messages


def test_what_begins_and_ends_between_two_reports_is_told_once_with_its_end(flooded, post):
    flooded.see("Atlantis", range(1))
    ingest.land(flooded.resources, source_of(flooded))
    validate.validate(flooded.resources, source_of(flooded))
    causes.begin(*(database := connected(flooded),), source_of(flooded), "held back", "somebody reads.")
    causes.end(database, source_of(flooded), "held back", "Nobody does any more.")
    report(flooded)
    assert "- somebody reads. It is over: Nobody does any more." in last(post)
    assert report(flooded) == {"begun": 0, "ended": 0}


def connected(zoo):
    from perennial.shell.database import connect

    return connect(zoo.resources.database)


def test_two_reports_side_by_side_notify_once(zoo, post, monkeypatch, caplog):
    zoo.see("Atlantis", range(1))
    ingest.land(zoo.resources, source_of(zoo))
    validate.validate(zoo.resources, source_of(zoo))
    compose, others = source_report.message_of_causes, []

    def beside_another_report(*given):
        monkeypatch.setattr(source_report, "message_of_causes", compose)
        others.append(threading.Thread(target=report, args=(zoo, {})))
        others[0].start()
        others[0].join(1)
        assert others[0].is_alive(), "it does not wait"
        return compose(*given)

    monkeypatch.setattr(source_report, "message_of_causes", beside_another_report)
    assert report(zoo, {}) == {"begun": 1, "ended": 0}
    others[0].join(20)
    assert (subjects(post), len(zoo.sql("SELECT 1 FROM causes"))) == (["[source sightings] 1 batch held"], 1)
    assert "ended early" not in caplog.text


@pytest.mark.parametrize("at", ["write_down", "deliver_waiting"])
def test_a_report_that_is_killed_is_made_good_by_the_next_one(zoo, post, at):
    zoo.see("Atlantis", range(1))
    ingest.land(zoo.resources, source_of(zoo))
    validate.validate(zoo.resources, source_of(zoo))

    def killed():
        with killed_at(source_report, at, 1):
            report(zoo, {})

    assert in_process(killed) == -9
    assert post.letters == []
    assert len(on_record(zoo)[0]) == (at == "deliver_waiting")
    for _ in range(2):
        report(zoo, {})
    assert subjects(post) == ["[source sightings] 1 batch held"]


def test_a_landing_that_is_killed_after_it_has_found_something_leaves_it_to_the_report(zoo, post):
    execute(zoo.shop, "CREATE INDEX ON sightings (changed_at)")
    zoo.see("Britain", range(3))
    execute(zoo.shop, "UPDATE sightings SET changed_at = '2999-01-01' WHERE id = 7")

    def killed():
        with killed_at(ingest, "record", 1):
            ingest.land(zoo.resources, source_of(zoo))

    assert in_process(killed) == -9
    report(zoo, {"land": "It was killed."})
    assert subjects(post) == ["[source sightings] ingest failed, rows are dated in the future"]


def test_mail_that_cannot_be_delivered_is_tried_again_by_the_next_report_of_the_source(zoo, post):
    post.close()
    report(zoo, {"land": "it is broken"})
    zoo.sql("INSERT INTO messages (run_id, scope, owner, tier, subject, body) VALUES ('f/1', 'zoo', 'rangers', 2, 's', 'b')")
    post.open()
    report(zoo, {"land": "it is broken"})
    assert subjects(post) == ["[source sightings] ingest failed"]


def test_an_error_in_notifying_is_logged_and_the_run_is_what_it_is(zoo, monkeypatch, caplog):
    def broken_message(*_):
        raise RuntimeError("no words")

    monkeypatch.setattr(source_report, "message_of_causes", broken_message)
    zoo.see("Atlantis", range(1))
    assert ingest_run(zoo) == {}
    assert "Notifying the owner of source sightings ended early" in caplog.text
    assert on_record(zoo) == ([], [])
    monkeypatch.undo()
    assert report(zoo, {}) == {"begun": 1, "ended": 0}


def test_the_database_keeps_what_was_notified_and_that_it_was_once(zoo):
    report(zoo, {"land": "it is broken"})
    open_one = "INSERT INTO causes (source, kind, subject, reason) SELECT source, kind, subject, reason FROM causes"
    with pytest.raises(errors.UniqueViolation):
        zoo.sql(open_one)
    for change in ("begin_message = 'other'", "reason = 'other'", "began_at = now() + interval '1 day'"):
        with pytest.raises(errors.RestrictViolation):
            zoo.sql(f"UPDATE causes SET {change}")
    with pytest.raises(errors.RestrictViolation):
        zoo.sql("DELETE FROM causes")


def test_a_table_that_is_missing_is_told_though_nothing_was_ever_landed(zoo, post):
    execute(zoo.shop, "DROP TABLE sightings")
    ingest_run(zoo)
    execute(zoo.shop, TABLE)
    ingest_run(zoo)
    assert subjects(post) == ["[source sightings] ingest failed", "[source sightings] over: ingest failed"]
