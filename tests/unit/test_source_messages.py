"""What the owner of a source reads."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from toy_files import sightings_files
from toy_sources.sightings import sightings

from perennial import Checks, Owner
from perennial.core.causes import WORST_FIRST, Cause, alike, cause_of_batch, worth_a_word
from perennial.core.messages import MOST_CAUSES
from perennial.core.source_messages import HEADLINES, TITLES, TO_DO, SourceRun, message_of_causes

BEGAN = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
SOURCE = replace(sightings, owner=Owner("rangers", tier=1))


def cause(kind, reason="It is so.", *items, **facts):
    return Cause(
        id=1, kind=kind, subject=facts.pop("subject", ""), reason=reason, began_at=BEGAN, items=items, size=len(items),
        is_new=facts.pop("is_new", True), **facts,
    )  # fmt: skip


def over(kind, ending, *items):
    return cause(kind, "It was so.", *items, is_new=False, ended_at=BEGAN + timedelta(hours=1), ending=ending)


def message(*causes, source=SOURCE, docs=""):
    return message_of_causes(source, SourceRun(run_id="ingest_sightings/1", docs=docs), causes)


def finding(expectation, *columns, success=False, severity="critical"):
    return {"expectation": expectation, "columns": list(columns), "success": success, "severity": severity}


@pytest.mark.parametrize("kind", WORST_FIRST)
def test_every_kind_has_a_title_a_way_out_and_a_headline(kind):
    assert (kind in TITLES, kind in TO_DO) == (True, True)
    made = message(cause(kind, "It is so.", ("GB", 2)))
    assert made.subject.startswith("[source sightings] ")
    assert "{" not in made.body
    assert kind in HEADLINES or "1 " in made.subject


def test_the_worst_comes_first_and_the_owners_tier_is_that_of_the_spec():
    made = message(
        cause("future rows"), cause("batch held", "volume", ("GB", 2)), cause("ingest failed"), over("silent", "Rows.")
    )
    assert made.subject == "[source sightings] ingest failed, 1 batch held, rows are dated in the future"
    assert (made.owner, made.tier) == ("rangers", 1)
    titles = [line[:-1] for line in made.body.splitlines() if line.endswith(":") and not line.startswith("Run")]
    assert titles == ["Ingest failed", "Held", "Rows that wait", "It is over", "What to do"]


def test_what_is_over_says_what_it_was_and_asks_for_nothing():
    made = message(over("batch held", "country GB, batch 2, is accepted by Ada (accept: fine).", ("GB", 2)))
    assert made.subject == "[source sightings] over: 1 batch held"
    assert "- country GB, batch 2, is accepted by Ada (accept: fine). (Since 2026-03-01 10:30 UTC: It was so.)" in made.body
    assert "There is nothing to do." in made.body


def test_many_reasons_are_cut_and_counted():
    causes = [cause("file refused", f"reason {chr(97 + number)}", (f"{number}.csv", 1)) for number in range(MOST_CAUSES + 3)]
    made = message(*causes)
    assert made.subject == f"[source sightings] {MOST_CAUSES + 3} files refused"
    assert made.body.count(".csv: reason") == MOST_CAUSES
    assert "and 3 other reasons" in made.body


def test_the_form_is_filled_in_for_the_first_batch_and_the_others_are_said_to_be_alike():
    one = message(cause("batch held", "volume", ("GB", 2)))
    two = message(cause("batch held", "volume", ("GB", 2)), cause("batch held", "scale", ("FR", 7)))
    assert "with action look, country GB, batch 2: its log" in one.body
    assert "with action look, country GB, batch 2, and so for each of them: its log" in two.body


def test_rows_of_files_are_repaired_by_writing_the_file_again():
    held = cause("batch held", "volume", ("GB", 2))
    assert "or write the corrected file again under its name" in message(held, source=sightings_files).body
    assert "extract again, once they were repaired in the table without a new changed_at" in message(held).body


def test_data_docs_are_named_where_there_are_pages_to_look_at():
    docs = "https://airflow.example.com/docs"
    assert docs in message(cause("batch held", "volume", ("GB", 2)), docs=docs).body
    assert docs not in message(cause("ingest failed"), docs=docs).body


def test_passwords_in_a_sentence_stay_out():
    made = message(cause("ingest failed", "land: cannot reach postgresql://ada:hunter2@shop/db"))
    assert "hunter2" not in made.body


def test_a_batch_is_about_what_holds_it_and_its_country():
    held = [finding("volume"), finding("scale", "price"), finding("keys", success=True), finding("shares", severity="info")]
    assert cause_of_batch("GB", held) == ("batch held", "GB: scale price, volume")
    assert cause_of_batch("GB", [finding("validation")]) == ("batch not validated", "GB")
    assert cause_of_batch("GB", None) == ("batch held", "GB: ")


def test_reasons_are_alike_but_for_numbers():
    assert alike("pid 12 since 2026-01-01\n") == alike("pid 7  since 2026-11-12")
    assert alike("pid 12") != alike("gid 12")


@pytest.mark.parametrize(
    ("rejected", "rows", "is_worth"), [(0, 1000, False), (50, 1000, False), (80, 1000, True), (1, 2, False), (2, 2, True)]
)
def test_a_twentieth_of_the_rows_is_worth_a_word_and_chance_is_not(rejected, rows, is_worth):
    assert worth_a_word(rejected, rows, Checks()) == is_worth
